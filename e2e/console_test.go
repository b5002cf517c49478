package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"posthorn/authkeys"
	"posthorn/e2e/browser"
)

// adminHost is where the operator's pages are. Chromium shows the key that it has
// there (browser.StartWithKey).
const adminHost = "admin.localhost"

// console is a gateway whose operator, Olga, has a key, and looks at the pages.
type console struct {
	*gateway
	olga string // PEM file of her key
}

func newConsole(t *testing.T, more string) *console {
	t.Helper()
	dir := t.TempDir()
	c := &console{olga: filepath.Join(dir, "olga.pem")}
	var made struct{ Fingerprint authkeys.Fingerprint }
	c.gateway = &gateway{t: t, dir: dir, config: filepath.Join(dir, "none.yaml")}
	out := c.run("", binary, "key", "gen", "--for", "olga@localhost", "--out", strings.TrimSuffix(c.olga, ".pem"), "--json")
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	admin := fmt.Sprintf("admin:\n  host: %s\n  keys:\n    - name: Olga\n      fingerprint: %q\n", adminHost, made.Fingerprint)
	c.gateway = gatewayIn(t, dir, func(data string) string { return fmt.Sprintf(listen, data) + admin + more })
	c.start()
	return c
}

// url is the address of a page below /admin/.
func (c *console) url(path string) string {
	return "https://" + adminHost + ":" + port(c.shared) + "/admin/" + path
}

// byKey is a window of a browser that has Olga's key.
func (c *console) byKey() *browser.Page {
	c.t.Helper()
	return browser.StartWithKey(c.t, c.olga, c.ca).Visit(browser.View{})
}

// token makes a token of a scope, and returns its text.
func (c *console) token(scope string) string {
	c.t.Helper()
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(c.posthorn("token", "add", scope+" token", "--scope", scope, "--json")), &made); err != nil {
		c.t.Fatal(err)
	}
	return made.Token
}

// idOf is the ID of an account.
func (c *console) idOf(address string) string {
	c.t.Helper()
	var a struct{ ID string }
	if err := json.Unmarshal([]byte(c.posthorn("account", "show", address, "--json")), &a); err != nil {
		c.t.Fatal(err)
	}
	return a.ID
}

// Every page shows what there is, to an operator whose key the browser shows.
func TestConsolePages(t *testing.T) {
	c := newConsole(t, "")
	password := c.account(ann)
	key := c.key(ann, "ann")
	session := imapClient(c.dial(key, "imap"))
	if err := session.Noop().Wait(); err != nil {
		t.Fatal(err)
	}
	if err := imapClient(c.dial("", "imap")).Login(ann, password+"x").Wait(); err == nil {
		t.Fatal("a wrong password logs in")
	}
	if status := c.signIn(browser.Start(t, c.ca).Visit(browser.View{}), ann, password); status != 200 {
		t.Fatalf("sign-in: status %d", status)
	}
	c.token("read")
	p := c.byKey()
	for _, page := range []struct {
		path  string
		shows []string
	}{
		{"", []string{"Live connections by protocol", "IMAP 2", "PREAUTH", "mailboxes of its own", c.shared, "serving"}},
		{"accounts", []string{"1 account", ann, "enabled"}},
		{"accounts/" + c.idOf(ann), []string{ann, "SHA256:", "PREAUTH · key", "wrong password", "Chrome", "key add"}},
		{"connections", []string{ann, "127.0.0.1:", "PREAUTH · key", "HTTP/2", adminHost}},
		{"sessions", []string{ann, "password", "Chrome"}},
		{"backends", []string{"embedded", "up"}},
		{"certificates", []string{adminHost, "self-signed", "in 2 years"}},
		{"blocks", []string{"Nobody is blocked."}},
		{"audit", []string{"token add", "key add", ann, "unix socket", "done"}},
		{"tokens", []string{"read token", "see everything", "never"}},
	} {
		if status := p.Open(c.url(page.path)); status != 200 {
			t.Errorf("%s: status %d", page.path, status)
		}
		p.Wait("#asked:not(:empty)")
		p.Wants(page.shows...)
		name, _, _ := strings.Cut("console-"+page.path, "/")
		if strings.Contains(page.path, "/") {
			name = "console-account"
		}
		p.Inspect(name)
	}
	if name := p.Text(".who .name"); !strings.HasPrefix(name, "Olga") {
		t.Errorf("the page is for %q", name)
	}
}
