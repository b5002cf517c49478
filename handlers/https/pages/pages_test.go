package pages_test

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"posthorn/handlers/https/pages"
)

func files(main string) fstest.MapFS {
	return fstest.MapFS{
		"list.html":     {Data: []byte(`{{define "title"}}{{t "demo.title"}}{{end}}{{define "main"}}` + main + `{{end}}`)},
		"texts/en.json": {Data: []byte(`{"demo.title": "Demo", "demo.hello": "Hello, {name}", "demo.rich": "<b>{name}</b>", "demo.n": {"one": "{n} key", "other": "{n} keys"}}`)},
	}
}

func newPages(t *testing.T, f fs.FS) *pages.Pages {
	t.Helper()
	p, err := pages.New(pages.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		if err := p.Add("demo", f); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func render(p *pages.Pages, r *http.Request, data any) (*http.Response, string) {
	w := httptest.NewRecorder()
	p.Render(w, r, http.StatusOK, "demo/list", data)
	resp := w.Result()
	b, _ := io.ReadAll(resp.Body)
	return resp, string(b)
}

func get(path string) *http.Request {
	return httptest.NewRequest("GET", "https://example.org"+path, nil)
}

const hostile = `"><script>alert(1)</script>{n}` + "\u202e"

func TestRender(t *testing.T) {
	for _, tt := range []struct {
		name, template string
		data           any
		want           string
	}{
		{"text", `{{t "demo.hello" "name" .}}`, "Ann", "Hello, Ann"},
		{"text is escaped", `{{t "demo.hello" "name" .}}`, hostile, "Hello, &#34;&gt;&lt;script&gt;"},
		{"rich is escaped", `{{rich "demo.rich" "name" .}}`, hostile, "<b>&#34;&gt;&lt;script&gt;"},
		{"text value", `{{t .}}`, pages.T("demo.hello", "name", "Bob"), "Hello, Bob"},
		{"one", `{{t "demo.n" "n" .}}`, 1, "1 key\n"},
		{"many", `{{t "demo.n" "n" .}}`, 5, "5 keys"},
		{"none", `{{t "demo.n" "n" .}}`, 0, "0 keys"},
		{"time", `{{when .}}`, time.Now().Add(-3 * time.Minute), ">3 minutes ago</time>"},
		{"ahead", `{{when .}}`, time.Now().Add(25 * time.Hour), ">in 1 day</time>"},
		{"never", `{{when .}}`, time.Time{}, "never"},
		{"date", `{{date .}}`, time.Unix(0, 0), `<time datetime="1970-01-01T00:00:00Z">1970-01-01 00:00 UTC</time>`},
		{"bytes", `{{size .}}`, int64(1023), "1023 B"},
		{"size", `{{size .}}`, int64(1536 << 10), "1.5 MiB"},
		{"size just below", `{{size .}}`, int64(1<<20 - 1), "1.0 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, body := render(newPages(t, files(tt.template)), get("/account/"), tt.data)
			if !strings.Contains(body, tt.want) || strings.Contains(body, "<script") {
				t.Errorf("%s", body)
			}
		})
	}
}

// TestMenu: the menu marks the page that is shown, and the part that it is in.
func TestMenu(t *testing.T) {
	p := newPages(t, files("x"))
	menu := &pages.Menu{Links: []pages.Link{{Path: "/account/", Text: "demo.title"}, {Path: "/account/keys", Text: "demo.title"}}}
	for path, want := range map[string]string{
		"/account/":         `<a href="/account/" aria-current="page">`,
		"/account/keys":     `<a href="/account/keys" aria-current="page">`,
		"/account/keys/new": `<a href="/account/keys" aria-current="true">`,
		"/account/keysmith": "",
		"/account":          "",
	} {
		r := get(path)
		_, body := render(p, r.WithContext(pages.WithMenu(r.Context(), menu)), nil)
		if n := strings.Count(body, "aria-current"); !strings.Contains(body, want) || n > 1 || (n == 1) != (want != "") {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestPolicy(t *testing.T) {
	resp, body := render(newPages(t, files("x")), get("/"), nil)
	policy := resp.Header.Get("Content-Security-Policy")
	if strings.Contains(policy, "script-src") || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("policy without scripts: %s", policy)
	}
	if resp.Header.Get("Cache-Control") != "no-store" || strings.Contains(body, "<script") || strings.Contains(body, "style=") {
		t.Errorf("%v\n%s", resp.Header, body)
	}
	f := files(`x{{end}}{{define "scripts"}}{{script "a.js"}}`)
	f["assets/a.js"] = &fstest.MapFile{Data: []byte("export {}")}
	resp, body = render(newPages(t, f), get("/"), nil)
	policy = resp.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "script-src 'self'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy with scripts: %s", policy)
	}
	if !regexp.MustCompile(`<script type="module" src="/account/assets/a-[0-9a-f]{12}\.js">`).MatchString(body) {
		t.Errorf("no script in\n%s", body)
	}
}

// Mistakes in a package's files are found before anybody sees a page.
func TestMistakes(t *testing.T) {
	p := newPages(t, nil)
	for name, f := range map[string]fstest.MapFS{
		"missing text":  files(`{{t "demo.other"}}`),
		"nested":        files(`{{range .}}{{with .X}}{{t "demo.other"}}{{end}}{{end}}`),
		"unknown asset": {"assets/x.exe": {Data: []byte("MZ")}},
		"foreign key":   {"texts/en.json": {Data: []byte(`{"frame.skip": "x"}`)}},
		"no other":      {"texts/en.json": {Data: []byte(`{"demo.n": {"one": "x"}}`)}},
		"taken asset":   {"assets/posthorn.css": {Data: []byte("x")}},
		"new language":  {"texts/de.json": {Data: []byte(`{}`)}},
	} {
		if err := p.Add("demo", f); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFlash(t *testing.T) {
	p := newPages(t, files("x"))
	w := httptest.NewRecorder()
	p.Flash(w, pages.Flash{Kind: pages.Done, Text: pages.T("demo.n", "n", 1)}, pages.Flash{Kind: pages.Failed, Text: pages.T("demo.hello", "name", hostile)})
	cookie := w.Result().Cookies()[0]
	if !strings.HasPrefix(cookie.Name, "__Host-") || !cookie.Secure || !cookie.HttpOnly || cookie.Path != "/" || cookie.Domain != "" {
		t.Errorf("cookie %v", cookie)
	}
	r := get("/")
	r.AddCookie(cookie)
	resp, body := render(p, r, nil)
	if !strings.Contains(body, ">1 key</p>") || !strings.Contains(body, "Hello, &#34;&gt;") || !strings.Contains(body, `role="alert"`) {
		t.Errorf("%s", body)
	}
	if gone := resp.Cookies(); len(gone) != 1 || gone[0].MaxAge >= 0 {
		t.Errorf("the cookie stays: %v", gone)
	}
}

// What a cookie says is a stranger's, if that stranger has the browser.
func TestFlashForged(t *testing.T) {
	p := newPages(t, files("x"))
	for _, value := range []string{"", "!", "e30", strings.Repeat("A", 5000),
		"W3sia2luZCI6ImRvbmUiLCJ0ZXh0Ijp7ImtleSI6Im5vbmUifX1d",                        // [{"kind":"done","text":{"key":"none"}}]
		"W3sia2luZCI6IngiLCJ0ZXh0Ijp7ImtleSI6ImRlbW8udGl0bGUifX1d",                    // an unknown kind
		"W3sia2luZCI6ImRvbmUiLCJ0ZXh0Ijp7ImtleSI6ImRlbW8udGl0bGUiLCJhcmdzIjpbMV19fV0", // an argument without a value
	} {
		r := get("/")
		r.AddCookie(&http.Cookie{Name: "__Host-posthorn-flash", Value: value})
		if resp, body := render(p, r, nil); resp.StatusCode != 200 || strings.Contains(body, "notice") {
			t.Errorf("%.40q: %d\n%s", value, resp.StatusCode, body)
		}
	}
}

func TestAssets(t *testing.T) {
	p := newPages(t, files("x"))
	_, body := render(p, get("/"), nil)
	href := regexp.MustCompile(`href="(/account/assets/posthorn-[^"]+\.css)"`).FindStringSubmatch(body)
	if href == nil {
		t.Fatalf("no style in\n%s", body)
	}
	w := httptest.NewRecorder()
	p.Assets().ServeHTTP(w, get(href[1]))
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/css; charset=utf-8" || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if n := w.Body.Len() + len(body); n > 30<<10 {
		t.Errorf("a page without content is %d bytes", n)
	}
	for _, path := range []string{"/account/assets/", "/account/assets/posthorn.css", "/account/assets/../pages.go"} {
		w := httptest.NewRecorder()
		p.Assets().ServeHTTP(w, get(path))
		if w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestProtect(t *testing.T) {
	p := newPages(t, nil)
	h := p.Protect(100, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.Form(w, r) {
			_, _ = io.WriteString(w, "done")
		}
	}))
	for _, tt := range []struct {
		name   string
		body   string
		header map[string]string
		want   int
	}{
		{"no browser", "a=1", nil, 200},
		{"same origin", "a=1", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "https://example.org"}, 200},
		{"cross site", "a=1", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"same site", "a=1", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"other origin", "a=1", map[string]string{"Origin": "https://evil.example"}, 403},
		{"no origin", "a=1", map[string]string{"Origin": "null"}, 403},
		{"in the clear", "a=1", map[string]string{"Origin": "http://example.org"}, 403},
		{"other port", "a=1", map[string]string{"Origin": "https://example.org:444"}, 403},
		{"too large", strings.Repeat("a", 101), nil, 413},
		{"malformed", "a=%zz", nil, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, known := range []bool{true, false} { // whether the length is
				r := httptest.NewRequest("POST", "https://example.org/account/x", strings.NewReader(tt.body))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				for k, v := range tt.header {
					r.Header.Set(k, v)
				}
				if !known {
					r.ContentLength = -1
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != tt.want {
					t.Errorf("%d, want %d: %s", w.Code, tt.want, w.Body)
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	p := newPages(t, nil)
	for status, text := range map[int]string{
		400: "did not arrive", 403: "Not allowed", 404: "Not found", 405: "Not possible", 413: "Too large", 421: "Wrong server",
		429: "Too many", 500: "went wrong", 503: "Not available", 418: "did not arrive", 507: "went wrong",
	} {
		w := httptest.NewRecorder()
		p.Error(w, get("/account/x"), status)
		if w.Code != status || !strings.Contains(w.Body.String(), text) {
			t.Errorf("%d: %d\n%s", status, w.Code, w.Body)
		}
	}
}

// TestTexts looks at every package that has texts: each text is used, and each
// that is used is there.
func TestTexts(t *testing.T) {
	catalogues, err := filepath.Glob("../*/texts/en.json")
	if err != nil || len(catalogues) == 0 {
		t.Fatal(catalogues, err)
	}
	own := make(map[string]bool)
	for _, c := range catalogues {
		for key := range readTexts(t, c) {
			own[key] = true
		}
	}
	for _, c := range catalogues {
		dir := filepath.Dir(filepath.Dir(c))
		name := filepath.Base(dir)
		if name == "pages" {
			name = "frame"
		}
		used := literals(t, dir)
		for key := range readTexts(t, c) {
			if !used[key] && !usedByPrefix(used, key) {
				t.Errorf("%s: %s is not used", c, key)
			}
		}
		for key := range used {
			if strings.HasPrefix(key, name+".") && !strings.HasSuffix(key, ".") && !own[key] {
				t.Errorf("%s: there is no text %s", dir, key)
			}
		}
	}
}

func readTexts(t *testing.T, name string) (texts map[string]any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, &texts)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return texts
}

// usedByPrefix is for keys that are put together: "frame.error." and more.
func usedByPrefix(used map[string]bool, key string) bool {
	for i := strings.LastIndexByte(key, '.'); i > 0; i = strings.LastIndexByte(key[:i], '.') {
		if used[key[:i+1]] && strings.Count(key[:i+1], ".") > 1 {
			return true
		}
	}
	return false
}

var literal = regexp.MustCompile(`"([a-z]+(?:\.[a-z0-9_]+)+\.?)[%"]`)

// literals returns the strings in a directory's sources that may be keys.
func literals(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	for _, pattern := range []string{"*.go", "*.html"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, n := range names {
			if strings.HasSuffix(n, "_test.go") {
				continue
			}
			b, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range literal.FindAllSubmatch(b, -1) {
				found[string(m[1])] = true
			}
		}
	}
	return found
}
