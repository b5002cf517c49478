// Package pages is the frame around all HTML that the gateway shows: layout,
// style, texts, assets, messages from one page to the next, and the policies that
// browsers are told.
//
// A package with pages embeds a directory and gives it to Add under the
// package's own name, here "devices":
//
//	list.html        a page: defines "title" and "main", and "scripts" if it has any
//	_form.html       defines templates that the package's pages share
//	texts/en.json    every text that its pages show, by key: "devices.list.title"
//	assets/keys.js   what pages refer to: {{script "keys.js"}}, {{asset "x.svg"}}
//
// and renders with Render(w, r, http.StatusOK, "devices/list", data). A page's dot
// is data. Templates have these functions:
//
//	t "key" "name" value …     the text, with {name} replaced; also of a Text
//	rich "key" "name" value …  the same for texts that hold HTML; values are escaped
//	when time                  "3 minutes ago", as an element that tells the exact time
//	date time                  the day and minute, in UTC
//	size bytes                 "1.5 MiB"
//	asset "name"               the address of an asset
//	script "name"              a script element (type=module) for one
//
// # Texts
//
// Texts stand in one file for each package and language, as there is no file that
// all packages could share without one of them knowing the others. A value is a
// text, or an object with the text for each plural category (CLDR: one, few,
// other …) of the parameter n. To translate the pages, copy each texts/en.json to,
// say, texts/de.json; what is missing there is shown in English. The tests find
// keys that are missing, and keys that nothing uses: Go code names them as string
// literals.
//
// # Policies
//
// A page may load its style and pictures from the gateway and send forms there.
// One that defines "scripts" may also run scripts from the gateway, and fetch from
// it. Nothing may be inline, and no page is kept in a cache.
package pages

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"text/template/parse"

	"github.com/rs/zerolog"
	"golang.org/x/text/language"
)

//go:embed *.html texts assets
var frameFiles embed.FS

// frameName is the package name of the frame's own pages and texts.
const frameName = "frame"

// Config says how pages are shown.
type Config struct {
	// Assets is the path under which assets are served; empty: DefaultAssets.
	Assets string
	Log    zerolog.Logger
}

// DefaultAssets is where assets are unless Config says otherwise.
const DefaultAssets = "/account/assets/"

// Pages renders pages. Packages are added before use; its methods may be called
// concurrently after that.
type Pages struct {
	log       zerolog.Logger
	texts     *catalogue
	assets    *assets
	templates map[string]*page // by name: "devices/list"
}

// page is a page that can be rendered.
type page struct {
	byLanguage map[language.Tag]*template.Template
	scripts    bool
}

// New returns the frame, and nothing in it but the pages that say what went
// wrong.
func New(c Config) (*Pages, error) {
	if c.Assets == "" {
		c.Assets = DefaultAssets
	}
	p := &Pages{log: c.Log, texts: newCatalogue(), assets: newAssets(c.Assets), templates: make(map[string]*page)}
	if err := p.Add(frameName, frameFiles); err != nil {
		return nil, err
	}
	return p, nil
}

// Add takes the pages of a package. An error is a mistake in its files.
func (p *Pages) Add(name string, files fs.FS) error {
	if err := p.add(name, files); err != nil {
		return fmt.Errorf("pages of %s: %w", name, err)
	}
	return nil
}

func (p *Pages) add(name string, files fs.FS) error {
	if err := p.texts.add(name, files); err != nil {
		return err
	}
	if err := p.assets.add(files); err != nil {
		return err
	}
	names, err := fs.Glob(files, "*.html")
	if err != nil {
		return err
	}
	shared := []string{}
	for _, n := range names {
		if strings.HasPrefix(n, "_") {
			shared = append(shared, n)
		}
	}
	for _, n := range names {
		if strings.HasPrefix(n, "_") || name == frameName && n == layoutFile {
			continue
		}
		pg, err := p.parse(files, append(shared, n))
		if err != nil {
			return err
		}
		p.templates[name+"/"+strings.TrimSuffix(n, ".html")] = pg
	}
	return nil
}

const layoutFile = "layout.html"

// parse makes a page of the layout and files.
func (p *Pages) parse(files fs.FS, names []string) (*page, error) {
	pg := &page{byLanguage: make(map[language.Tag]*template.Template)}
	for _, lang := range p.texts.languages {
		t, err := template.New(layoutFile).Funcs(p.functions(lang)).ParseFS(frameFiles, layoutFile)
		if err != nil {
			return nil, err
		}
		if t, err = t.ParseFS(files, names...); err != nil {
			return nil, err
		}
		if err := p.texts.check(t); err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(names[len(names)-1]), err)
		}
		pg.byLanguage[lang] = t
		pg.scripts = !parse.IsEmptyTree(t.Lookup("scripts").Tree.Root)
	}
	return pg, nil
}

// Link is an entry of a menu.
type Link struct {
	Path string
	Text string // key
}

// Menu is the navigation that pages show to somebody who has signed in.
type Menu struct {
	// Name is who has signed in, such as an address.
	Name  string
	Links []Link
	// SignOut is the path that a POST to signs out; empty: there is no button.
	SignOut string
}

type menuKey struct{}

// WithMenu returns a context for requests whose pages show a menu.
func WithMenu(ctx context.Context, m *Menu) context.Context {
	return context.WithValue(ctx, menuKey{}, m)
}

// frame is what the layout shows.
type frame struct {
	Lang  string
	Menu  *Menu
	Path  string // of the request
	Flash []Flash
	Data  any
}

// Current is the aria-current of a link in the menu: it leads to the page that is
// shown, or to one above it; empty: it leads elsewhere. Only paths without a slash at
// their end have pages below.
func (f frame) Current(link string) string {
	switch {
	case link == f.Path:
		return "page"
	case strings.HasPrefix(f.Path, link) && f.Path[len(link)] == '/':
		return "true"
	}
	return ""
}

// Render answers with a page. Messages that Pages.Flash has left are shown in it.
func (p *Pages) Render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	pg := p.templates[name]
	if pg == nil {
		p.fail(w, r, fmt.Errorf("there is no page %s", name))
		return
	}
	lang := p.texts.match(r)
	f := frame{Lang: lang.String(), Path: r.URL.Path, Data: data}
	f.Menu, _ = r.Context().Value(menuKey{}).(*Menu)
	f.Flash = takeFlash(w, r, p.texts)
	var b bytes.Buffer
	if err := pg.byLanguage[lang].Execute(&b, f); err != nil {
		p.fail(w, r, fmt.Errorf("render %s: %w", name, err))
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", pg.policy())
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", f.Lang)
	h.Set("Cache-Control", "no-store")
	// With no-referrer, forms come with "Origin: null", which browsers that send no
	// Sec-Fetch-Site would be refused for.
	h.Set("Referrer-Policy", "same-origin")
	h.Add("Vary", "Accept-Language, Cookie")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client went away; nobody is left to tell
}

// policy is what a page may do (CSP level 3).
func (pg *page) policy() string {
	policy := "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; " +
		"base-uri 'none'; frame-ancestors 'none'"
	if pg.scripts {
		policy += "; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'"
	}
	return policy
}

// fail answers when a page cannot be rendered, which is a bug.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	p.log.Error().Err(err).Str("path", r.URL.Path).Msg("page failed")
	http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
}
