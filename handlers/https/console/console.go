// Package console serves the operator's pages at /admin/: what the gateway does
// now, accounts, keys, connections, certificates, the audit trail.
//
// The pages are the same for everybody and hold no data. Their scripts ask the API
// (admin.APIPath) for all that they show and have it make every change, as the
// visitor: with the client certificate that the browser shows by itself, or with a
// token that was typed in. So the rules of who may do what are the API's alone, and
// a page can do nothing that curl could not.
//
// The scripts are modules as browsers take them, without a build step. They put
// texts on pages as text, never as HTML, which the policy of the pages
// (require-trusted-types-for) would not let them do either. modules/session.js says
// where tokens are kept, and why.
package console

import (
	"embed"
	"net/http"

	"github.com/rs/zerolog"

	"posthorn/handlers/https/pages"
)

//go:embed *.html texts assets modules
var files embed.FS

// Home is the path of the first page, below which all others are.
const Home = "/admin/"

// views are the pages: the path below Home of each, by name. Those with a text in
// the menu stand there, in this order.
var views = []struct{ path, name, text string }{
	{"{$}", "overview", "console.menu.overview"},
	{"accounts", "accounts", "console.menu.accounts"},
	{"accounts/{id}", "account", ""},
	{"connections", "connections", "console.menu.connections"},
	{"sessions", "sessions", "console.menu.sessions"},
	{"backends", "backends", "console.menu.backends"},
	{"certificates", "certificates", "console.menu.certificates"},
	{"blocks", "blocks", "console.menu.blocks"},
	{"audit", "audit", "console.menu.audit"},
	{"tokens", "tokens", "console.menu.tokens"},
}

// Console serves the pages.
type Console struct {
	pages   *pages.Pages
	modules *modules
	menu    *pages.Menu
}

// New returns the pages. An error is a mistake in their files.
func New(log zerolog.Logger) (*Console, error) {
	// The frame is one of its own, as the account pages may be turned off, or be on
	// other hosts.
	p, err := pages.New(pages.Config{Assets: Home + "assets/", Log: log})
	if err != nil {
		return nil, err
	}
	if err := p.Add("console", files); err != nil {
		return nil, err
	}
	c := &Console{pages: p, menu: new(pages.Menu)}
	if c.modules, err = newModules(files, Home+"modules/"); err != nil {
		return nil, err
	}
	for _, v := range views {
		if v.text != "" {
			c.menu.Links = append(c.menu.Links, pages.Link{Path: address(v.path), Text: v.text})
		}
	}
	return c, nil
}

// address is the path of a page that has no wildcard.
func address(path string) string {
	if path == "{$}" {
		return Home
	}
	return Home + path
}

// Mount has mount serve the pages, by patterns of http.ServeMux. The API is not
// among them.
func (c *Console) Mount(mount func(pattern string, handler http.Handler)) {
	mount(c.pages.AssetPattern(), c.pages.Assets())
	mount("GET "+c.modules.prefix, http.HandlerFunc(c.serveModule))
	for _, v := range views {
		mount("GET "+Home+v.path, c.view(v.name))
	}
	mount(Home, http.HandlerFunc(c.nothing))
	mount("GET "+Home[:len(Home)-1], http.RedirectHandler(Home, http.StatusMovedPermanently))
}

// nothing answers requests for what is not there, and those with a method that no page
// has. Its pattern has none: one for GET would be at odds with the API's.
func (c *Console) nothing(w http.ResponseWriter, r *http.Request) {
	status := http.StatusNotFound
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		status = http.StatusMethodNotAllowed
	}
	c.pages.Error(w, r, status)
}

// view is what a page's template shows.
type view struct {
	Name string
	// Modules is the path of the modules, to which the language is added.
	Modules string
	// Shared are the modules that every page's own imports.
	Shared []string
	// All and Own are the columns of tables about all accounts, and of those on the
	// page of one.
	All, Own columns
}

type columns struct{ Accounts bool }

func (c *Console) view(name string) http.Handler {
	v := view{Name: name, Modules: c.modules.path(), Shared: shared, All: columns{Accounts: true}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(pages.WithMenu(r.Context(), c.menu))
		c.pages.Render(w, r, http.StatusOK, "console/"+name, v)
	})
}
