package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "posthorn"

// mayImport says which packages of this module each of them may import. A key
// that ends in /* is for every package below, one in /... also for itself.
var mayImport = map[string][]string{
	"cmd/gateway":           {"*"},
	"handlers/https":        {"mux", "alpn", "accounts", "authkeys", "backend", "admin", "certs", "handlers/https/sites", "handlers/https/transport"},
	"handlers/https/pages":  nil,
	"handlers/https/*":      {"mux", "alpn", "accounts", "authkeys", "backend", "admin", "certs", "sessions", "passkeys", "mobileconfig", "autoconf", "handlers/https", "handlers/https/*"},
	"autoconf":              nil,
	"sessions":              {"accounts", "authkeys", "store"},
	"passkeys":              {"accounts", "sources", "store"},
	"handlers/*":            {"mux", "alpn", "accounts", "authkeys", "backend", "imapline"},
	"imapline":              nil,
	"admin":                 {"mux", "alpn", "accounts", "authkeys", "certs", "certs/*", "passkeys", "sessions", "sources", "store"},
	"backend":               {"accounts", "mailbox", "backend/upstream", "splice"},
	"backend/upstream":      {"authkeys", "socket"},
	"await":                 nil,       // for tests
	"loopback":              nil,       // the same
	"backend/backendtest":   {"await"}, // for tests
	"park":                  {"socket"},
	"socket":                nil,
	"splice":                {"park"},
	"accounts":              {"authkeys", "sources", "store"},
	"accounts/accountstest": {"accounts", "authkeys", "store", "store/storetest"}, // for tests
	"certs":                 {"alpn", "authkeys", "store", "certs/*"},
	"certs/*":               {"alpn"},
	"mux":                   {"alpn", "authkeys", "park", "socket", "sources"},
	"mobileconfig":          nil,
	"mux/muxtest":           {"alpn", "authkeys"}, // for tests
	"authkeys":              {"store"},
	"client":                {"alpn", "authkeys", "client/webtransport", "webstream"},
	"client/tunnel":         {"alpn", "client", "imapline", "socket", "splice"},
	"client/clienttest":     nil,   // for tests
	"client/gatewaytest":    {"*"}, // the same, a whole gateway
	"client/sendmail":       {"client"},
	"mailbox":               {"mailbox/*"},
	"mailbox/*":             {"mailbox/*"},
	"store/*":               {"store"},
	"store/storetest":       {"store", "store/badgerkv"}, // for tests
	"alpn":                  nil,
	"sources":               nil,
	"store":                 nil,
	"e2e/...":               {"*"}, // tests of the whole

	"handlers/https/sites":        {"mux", "alpn", "splice", "sources", "backend/upstream", "handlers/https/sites/folder"},
	"handlers/https/sites/folder": nil,

	"handlers/https/transport": {"mux", "alpn", "webstream"},
	"handlers/https/httpstest": {"mux", "alpn"}, // for tests
	"client/webtransport":      {"webstream"},
	"webstream":                {"park"},
}

// onlyHere says which packages may know that something outside exists.
var onlyHere = map[string][]string{
	"go.yaml.in/yaml":               {"cmd/gateway"},
	"github.com/spf13/cobra":        {"cmd/gateway"},
	"github.com/danielgtaylor/huma": {"admin"},
	"github.com/dgraph-io":          {"store/badgerkv", "mailbox"},
	"go.etcd.io":                    {"store/etcdkv"},
	"github.com/emersion":           {"handlers/*", "backend", "mailbox/...", "client", "client/sendmail", "e2e/..."},
	module + "/store/badgerkv":      {"cmd/gateway", "store/storetest", "e2e/..."},
	module + "/store/etcdkv":        {"cmd/gateway", "e2e/..."},
	module + "/cmd/gateway":         nil,
	"github.com/chromedp":           {"e2e/..."},
	"github.com/rogpeppe":           nil,
	"github.com/google/go-cmp":      nil,
	"testing":                       {"await", "loopback", "accounts/accountstest", "handlers/https/httpstest", "store/storetest", "mux/muxtest", "backend/backendtest", "certs/acmetest", "client/clienttest", "client/gatewaytest", "e2e/..."},
	"go.uber.org/goleak":            nil,
	"net/http/httptest":             {"certs/acmetest"},
	"github.com/letsencrypt":        {"certs/acmetest"}, // Pebble, for tests
	"github.com/miekg/dns":          {"certs/zone", "client"},
	"golang.org/x/net/websocket":    nil,
}

func TestImports(t *testing.T) {
	root := os.DirFS("../..")
	files := 0
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || strings.HasPrefix(d.Name(), "posthorn-data")):
			return fs.SkipDir
		case d.IsDir() && name != "." && exists("../../"+name+"/go.mod"): // another module
			return fs.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		files++
		return checkImports(t, root, name)
	})
	if err != nil || files < 20 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func checkImports(t *testing.T, root fs.FS, name string) error {
	src, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		return err
	}
	pkg := path.Dir(name)
	allowed, listed := rule(mayImport, pkg)
	if !listed {
		t.Errorf("%s: the table of imports does not have package %s", name, pkg)
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !slices.Contains(allowed, "*") && !matches(allowed, ours) {
			t.Errorf("%s: %s must not import %s", name, pkg, ours)
		}
		for outside, where := range onlyHere {
			if (imported == outside || strings.HasPrefix(imported, outside+"/")) && !matches(where, pkg) {
				t.Errorf("%s: %s must not know of %s", name, pkg, imported)
			}
		}
	}
	return nil
}

// rule returns the entry for a package: its own, else that of its directory.
func rule(table map[string][]string, pkg string) ([]string, bool) {
	if allowed, ok := table[pkg]; ok {
		return allowed, true
	}
	for pattern, allowed := range table {
		if matches([]string{pattern}, pkg) {
			return allowed, true
		}
	}
	return nil, false
}

func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if tree, ok := strings.CutSuffix(p, "/..."); ok {
			return pkg == tree || strings.HasPrefix(pkg, tree+"/")
		}
		ok, err := path.Match(p, pkg)
		return ok && err == nil
	})
}
