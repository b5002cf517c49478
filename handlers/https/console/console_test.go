package console_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"posthorn/handlers/https/console"
)

func newConsole(t *testing.T) *http.ServeMux {
	t.Helper()
	c, err := console.New(zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	m := http.NewServeMux()
	c.Mount(m.Handle)
	return m
}

func get(m http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "https://admin.test"+path, nil))
	return w
}

var views = []string{"", "accounts", "accounts/x", "connections", "sessions", "backends", "certificates", "blocks", "audit", "tokens"}

var (
	reference = regexp.MustCompile(`(?:src|href)="(/admin/(?:assets|modules)/[^"]+)"`)
	imported  = regexp.MustCompile(`(?m)^import [^;]+ from "\./([a-z]+\.js)";`)
)

// Every page comes with a strict policy, and with all that it refers to takes less
// than 100 KB. What it refers to tells its content by its name.
func TestPages(t *testing.T) {
	m := newConsole(t)
	for _, v := range views {
		w := get(m, console.Home+v)
		if w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", v, w.Code, w.Header())
		}
		policy := w.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy lacks %s: %s", v, want, policy)
			}
		}
		page := w.Body.String()
		if strings.Contains(page, "<script>") || strings.Contains(page, " style=") || strings.Contains(page, " onclick") {
			t.Errorf("%s: something is inline", v)
		}
		size := len(page)
		for path, body := range load(t, m, page) {
			size += len(body)
			if !strings.Contains(path, "-") && !strings.Contains(path, "/modules/") {
				t.Errorf("%s refers to %s", v, path)
			}
		}
		t.Logf("%q: %d bytes", v, size)
		if size > 100_000 {
			t.Errorf("%s: %d bytes", v, size)
		}
	}
}

// load returns what a page refers to, and what the modules among that import.
func load(t *testing.T, m http.Handler, page string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	var paths []string
	for _, r := range reference.FindAllStringSubmatch(page, -1) {
		paths = append(paths, r[1])
	}
	for len(paths) > 0 {
		path := paths[0]
		paths = paths[1:]
		if _, known := all[path]; known {
			continue
		}
		w := get(m, path)
		if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		all[path] = w.Body.String()
		for _, i := range imported.FindAllStringSubmatch(all[path], -1) {
			paths = append(paths, path[:strings.LastIndexByte(path, '/')+1]+i[1])
		}
	}
	return all
}

func TestNotThere(t *testing.T) {
	m := newConsole(t)
	for path, want := range map[string]int{
		"/admin": 301, "/admin/none": 404, "/admin/accounts/": 404, "/admin/accounts/a/b": 404,
		"/admin/modules/": 404, "/admin/modules/000000000000/en/api.js": 404, "/admin/assets/style.css": 404,
	} {
		if w := get(m, path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("POST", "/admin/accounts", nil))
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, %v", w.Code, w.Header())
	}
}

// The texts that scripts show are there, and no others.
func TestScriptTexts(t *testing.T) {
	b, err := os.ReadFile("texts/en.json")
	if err != nil {
		t.Fatal(err)
	}
	var texts map[string]any
	if err := json.Unmarshal(b, &texts); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("modules/*.js")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	used, prefixes := make(map[string]bool), make(map[string]bool)
	whole := regexp.MustCompile(`\bt\(([^)]*?)"([a-z_.]+)"(?: : "([a-z_.]+)")?`)
	part := regexp.MustCompile(`\bknown\("([a-z_.]+\.)"`)
	code := regexp.MustCompile(`code: (?:e\.name[^"]*"TimeoutError" \? )?"([a-z_]+)"`)
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range whole.FindAllStringSubmatch(string(b), -1) {
			used[match[2]] = true
			if match[3] != "" {
				used[match[3]] = true
			}
		}
		for _, match := range part.FindAllStringSubmatch(string(b), -1) {
			prefixes[match[1]] = true
		}
		for _, match := range code.FindAllStringSubmatch(string(b), -1) {
			if match[1] != "" {
				used["problem."+match[1]] = true
			}
		}
	}
	if len(used) < 100 || len(prefixes) < 5 {
		t.Fatalf("%d texts and %d prefixes found in the scripts", len(used), len(prefixes))
	}
	for _, key := range slices.Sorted(maps.Keys(used)) {
		if _, ok := texts["console.js."+key]; !ok {
			t.Errorf("there is no text %s", key)
		}
	}
	for key := range texts {
		short, ok := strings.CutPrefix(key, "console.js.")
		begins := func(p string) bool { return strings.HasPrefix(short, p) }
		if ok && !used[short] && !slices.ContainsFunc(slices.Collect(maps.Keys(prefixes)), begins) {
			t.Errorf("no script shows %s", key)
		}
	}
}
