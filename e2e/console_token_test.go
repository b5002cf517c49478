package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthorn/e2e/browser"
)

// without is a window of a browser that has no key, on the form to sign in.
func (c *console) without(b *browser.Browser) *browser.Page {
	c.t.Helper()
	p := b.Visit(browser.View{})
	p.Open(c.url(""))
	p.Wait("#sign-in")
	return p
}

// A token signs in until it is revoked, and leaves no trace.
func TestConsoleToken(t *testing.T) {
	c := newConsole(t, "")
	c.account(ann)
	olga := c.byKey()
	c.opened(olga, "tokens")
	olga.Click("#add")
	olga.Wait("#token-dialog[open]")
	olga.Type("#token-name", "tablet")
	olga.Select("#token-scope", "all")
	olga.Inspect("console-add-token")
	olga.Click("#token-dialog [value=ok]")
	olga.Wait("#tell[open]")
	token := olga.Value("#tell-secret")
	olga.Click("#tell [value=ok]")
	olga.Wants("The token is made.", "tablet", "everything", "in 2 months")

	p := c.without(browser.Start(t, c.ca))
	p.Inspect("console-sign-in")
	for _, wrong := range []string{"", "two words", "posthorn_x_y", token + "x"} {
		p.Type("#token", wrong)
		p.Click("#sign-in button")
		p.Wait("#sign-in .wrong:not(:empty)")
		p.Wait("#sign-in")
	}
	p.Wants("The token is unknown, or has expired or been revoked.")
	p.Inspect("console-sign-in-failed")
	p.Type("#token", "  "+token+"\t")
	p.Click("#sign-in button")
	p.Wait("#content")
	p.Wants("(tablet)", "Live connections by protocol")
	if p.Value("#token") != "" || strings.Contains(p.Path(), "posthorn_") {
		t.Errorf("the token stays in the form or the address: %s", p.Path())
	}
	p.Follow(`nav a[href="/admin/accounts"]`)
	p.Wants("1 account", ann)

	// Out, and in again; then revoked while a form is open.
	p.Click("#sign-out")
	p.Wait("#sign-in")
	if n := browser.Eval[int](p, "sessionStorage.length"); n != 0 {
		t.Errorf("%d things stay in the tab after signing out", n)
	}
	p.Type("#token", token)
	p.Click("#sign-in button")
	p.Wait("#content")
	c.opened(p, "accounts")
	p.Click("#add")
	p.Wait("#add-dialog[open]")
	olga.Press("tablet", "Revoke")
	yes(olga)
	olga.Wants("The token is revoked.")
	p.Type("#new-address", "bob@localhost")
	p.Click("#add-dialog [value=ok]")
	p.Wait("#sign-in")
	p.Wants("The token is unknown, or has expired or been revoked.")
	p.Lacks(ann)
	if n := browser.Eval[int](p, "sessionStorage.length + document.querySelectorAll('dialog[open]').length"); n != 0 {
		t.Error("the token or the form stays")
	}
	p.Type("#token", c.token("all"))
	p.Click("#sign-in button")
	p.Wants("1 account", ann) // the page goes on where it was

	log, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "posthorn_") || strings.Contains(c.posthorn("audit"), "posthorn_") {
		t.Error("a token is in the log or the audit trail")
	}
}

// Nobody sees a button that would fail.
func TestConsoleScopes(t *testing.T) {
	c := newConsole(t, "")
	c.account(ann)
	c.key(ann, "phone")
	session := imapClient(c.dial(filepath.Join(c.dir, "phone.pem"), "imap"))
	if err := session.Noop().Wait(); err != nil {
		t.Fatal(err)
	}
	id := c.idOf(ann)
	b := browser.Start(t, c.ca)
	const buttons = `[...document.querySelectorAll("#content button")].filter(b => b.checkVisibility()).map(b => b.textContent.trim()).join("; ")`
	for _, tt := range []struct{ scope, page, want string }{
		{"read", "accounts", ""},
		{"read", "accounts/" + id, ""},
		{"read", "connections", ""},
		{"read", "certificates", ""},
		{"accounts", "accounts", "Add an account"},
		{"accounts", "accounts/" + id, "Disable; Set the password; Move to a backend; Remove the account; Add an address; " +
			"Change ann@localhost; Remove ann@localhost; Add a key; End connection "},
		{"accounts", "certificates", ""},
	} {
		p := c.without(b)
		p.Type("#token", c.token(tt.scope))
		p.Click("#sign-in button")
		p.Wait("#content")
		c.opened(p, tt.page)
		if got := browser.Eval[string](p, buttons); got != tt.want && (tt.want == "" || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s on %s sees %q, not %q", tt.scope, tt.page, got, tt.want)
		}
		p.Open(c.url("tokens"))
		p.Wants("Your token does not allow this")
	}
}

// Names are text, whoever has chosen them and whatever they look like.
func TestConsoleHostileNames(t *testing.T) {
	const html = `<img src=x onerror="document.title='run'">&lt;b&gt;"'`
	const turned = "gnp\u202eexe.\u2066"
	c := newConsole(t, "")
	password := c.account(ann)
	c.key(ann, "phone", "--name", html)
	c.posthorn("token", "add", html, "--scope", "read")
	hebrew := "משתמש@localhost"
	c.account(hebrew)
	req, err := http.NewRequest("POST", c.web()+"/account/sign-in", strings.NewReader("address="+ann+"&password="+password))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("User-Agent", html+strings.Repeat("x", 10_000))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tlsConfig("")},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil || resp.StatusCode != http.StatusSeeOther {
		t.Fatal(resp, err)
	}
	resp.Body.Close()

	p := c.byKey()
	for path, shows := range map[string]string{
		"accounts": hebrew, "accounts/" + c.idOf(ann): html, "tokens": html, "sessions": html, "audit": html,
	} {
		c.opened(p, path)
		p.Wants(shows)
		if n := p.Count("#content img"); n > 0 {
			t.Errorf("%s: a name has become %d elements", path, n)
		}
		if title := browser.Eval[string](p, "document.title"); title == "run" {
			t.Errorf("%s: a name was run", path)
		}
		p.Look(browser.View{Phone: true})
		p.Screenshot("console-hostile-" + strings.SplitN(path, "/", 2)[0] + fmt.Sprint(strings.Count(path, "/")))
		p.Accessible(path)
		p.Look(browser.View{})
	}
	c.opened(p, "accounts")
	p.Paste("#text", html+strings.Repeat("y", 10_000)) // a browser would not let that be typed
	p.Wants("text: expected length")
	p.Paste("#text", html)
	p.Wants("No account is like that.")
	p.Paste("#text", "משת")
	p.Wants("1 account", hebrew)

	// What does not come out of a gateway that checks what it takes in.
	modules := browser.Eval[string](p, `document.querySelector("script[type=module]").src.replace(/[^/]+$/, "dom.js")`)
	for _, name := range []string{turned, "a\x00b\x1b[31m\r\n\u2028", strings.Repeat("z", 10_000), "\ufeff\u200b"} {
		quoted, _ := json.Marshal(name)
		shown := browser.Eval[string](p, fmt.Sprintf(`import(%q).then(m => m.name(%s).textContent)`, modules, quoted))
		if len([]rune(shown)) > 161 || strings.ContainsAny(shown, "\x00\x1b\r\n\u2028\u202e\u2066\u200b\ufeff") {
			t.Errorf("%.20q is shown as %.200q", name, shown)
		}
	}
}

// A page says when it is not up to date, and catches up by itself. Its charts move.
func TestConsoleGoesOn(t *testing.T) {
	c := newConsole(t, "")
	password := c.account(ann)
	p := c.byKey()
	c.opened(p, "")
	for range 3 {
		if err := imapClient(c.dial("", "imap")).Login(ann, password).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	p.Wants("LOGIN")
	for _, chart := range []string{"connections", "logins", "handshakes"} {
		p.Wait("#chart-" + chart + ` .chart path.line[d*="L"]`)
	}
	p.Offline(true)
	p.Wants("The gateway cannot be reached.", "Trying again in")
	p.Inspect("console-offline")
	p.Offline(false)
	p.Click("#again")
	p.Lacks("The gateway cannot be reached.")

	// Nobody asks on behalf of a page that nobody sees.
	c.opened(p, "connections")
	asked := p.Text("#asked")
	p.Wants("HTTP/2")
	p.Lacks(asked) // it asks again
	browser.Eval[bool](p, `(() => {
		Object.defineProperty(document, "hidden", {value: true, configurable: true});
		return document.dispatchEvent(new Event("visibilitychange"));
	})()`)
	asked = p.Text("#asked")
	browser.Eval[bool](p, "new Promise(r => setTimeout(() => r(true), 7000))")
	if now := p.Text("#asked"); now != asked {
		t.Errorf("it asks while it is hidden: %s, %s", asked, now)
	}
	browser.Eval[bool](p, `(() => {
		Object.defineProperty(document, "hidden", {value: false, configurable: true});
		return document.dispatchEvent(new Event("visibilitychange"));
	})()`)
	p.Lacks(asked)
}

// Nothing of another site's is on the host where a key does everything.
func TestConsoleHostAlone(t *testing.T) {
	c := newConsole(t, "site:\n  upstream: http://127.0.0.1:1\n")
	for name, want := range map[string]int{adminHost: http.StatusNotFound, "localhost": http.StatusBadGateway} {
		config := c.tlsConfig("", "http/1.1")
		config.ServerName = name
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		req, err := http.NewRequest("GET", "https://"+c.shared+"/site.js", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = name
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, want)
		}
	}
}
