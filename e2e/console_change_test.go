package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthorn/await"
	"posthorn/e2e/browser"
)

// yes answers the question that a page asks.
func yes(p *browser.Page) {
	p.Wait("#sure[open]")
	p.Click("#sure [value=yes]")
}

// opened goes to a page and waits until it shows what there is.
func (c *console) opened(p *browser.Page, path string) {
	c.t.Helper()
	if status := p.Open(c.url(path)); status != 200 {
		c.t.Fatalf("%s: status %d", path, status)
	}
	p.Wait("#asked:not(:empty)")
}

// ends waits until a live client hears that its connection is over.
func ends(t *testing.T, noop func() error) {
	t.Helper()
	await.Within(t, 10*time.Second, "the connection is over", func() bool { return noop() != nil })
}

// An account, from its first day to its last.
func TestConsoleAccount(t *testing.T) {
	c := newConsole(t, "")
	p := c.byKey()
	c.opened(p, "accounts")
	p.Wants("No account is like that.")
	p.Click("#add")
	p.Wait("#add-dialog[open]")
	p.Type("#new-address", "not an address")
	p.Click("#add-dialog [value=ok]")
	p.Wait("#add-dialog .wrong:not(:empty)")
	p.Inspect("console-add-account")
	p.Type("#new-address", ann)
	p.Click("#add-dialog [value=ok]")
	p.Wait("#tell[open]")
	password := p.Value("#tell-secret")
	p.Inspect("console-password")
	p.Click("#tell [value=ok]")
	p.Wants("The account "+ann+" is there.", "1 account")
	if p.Value("#tell-secret") != "" {
		t.Error("the page keeps the password")
	}
	login := func(password string) error { return imapClient(c.dial("", "imap")).Login(ann, password).Wait() }
	if err := login(password); err != nil {
		t.Errorf("the password that was shown: %v", err)
	}

	p.Follow("tbody a")
	p.Wants(ann, "No key is registered.")
	p.Click("#disable")
	p.Wait("#sure[open]")
	p.Inspect("console-sure")
	p.Click("#sure [value=no]")
	if err := login(password); err != nil {
		t.Errorf("a question that was answered by no disables: %v", err)
	}
	p.Click("#disable")
	yes(p)
	p.Wants("The account is disabled.", "disabled")
	if login(password) == nil {
		t.Error("a disabled account logs in")
	}
	p.Wants("Enable")
	p.Click("#disable")
	p.Wants("The account is enabled.")
	if err := login(password); err != nil {
		t.Errorf("enabled again: %v", err)
	}

	p.Click("#add-address")
	p.Type("#one-more", "nobody@elsewhere.example")
	p.Click("#address-dialog [value=ok]")
	p.Wants("Addresses in this domain are not for here.")
	p.Type("#one-more", "anna@localhost")
	p.Click("#address-dialog [value=ok]")
	p.Wants("The address is added.", "anna@localhost")
	p.Press("anna@localhost", "Remove")
	yes(p)
	p.Wants("The address is removed.")

	p.Click("#password")
	p.Click("#password-dialog [value=chosen]")
	p.Type("#chosen-password", "short")
	browser.Eval[bool](p, `document.querySelector("#chosen-password").removeAttribute("minlength") ?? true`)
	p.Click("#password-dialog [value=ok]")
	p.Wants("must have at least 8 characters")
	p.Type("#chosen-password", "chosen by Olga")
	p.Click("#password-dialog [value=ok]")
	p.Wants("The password is changed.")
	if err := login("chosen by Olga"); err != nil {
		t.Errorf("the chosen password: %v", err)
	}
	if p.Value("#chosen-password") != "" {
		t.Error("the page keeps the password")
	}

	p.Click("#remove")
	p.Wait("#sure[open]")
	if !browser.Eval[bool](p, `document.querySelector("#sure [value=yes]").disabled`) {
		t.Error("an account can be removed without typing its address")
	}
	p.Type("#sure-typed", ann)
	p.Inspect("console-remove-account")
	p.Click("#sure [value=yes]")
	p.Wants("No account is like that.")
	if path := p.Path(); path != "/admin/accounts" {
		t.Errorf("after the end of an account the page is %s", path)
	}
	audit := c.posthorn("audit")
	for _, action := range []string{"account add", "account disable", "account enable", "account address add", "account password", "account remove"} {
		if !strings.Contains(audit, action) {
			t.Errorf("the audit trail has no %q:\n%s", action, audit)
		}
	}
	if strings.Contains(audit, "chosen by Olga") || strings.Contains(audit, password) {
		t.Error("the audit trail has a password")
	}
}

// Keys and connections: what is taken away ends in the client that has it.
func TestConsoleKeysAndConnections(t *testing.T) {
	c := newConsole(t, "")
	c.account(ann)
	base := filepath.Join(c.dir, "phone")
	c.posthorn("key", "gen", "--for", ann, "--out", base)
	certificate, err := os.ReadFile(base + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	p := c.byKey()
	c.opened(p, "accounts/"+c.idOf(ann))
	p.Click("#add-key")
	p.Wait("#key-dialog[open]")
	p.Paste("#public-key", "this is no key")
	p.Click("#key-dialog [value=ok]")
	p.Wants("public_key:")
	p.Paste("#public-key", string(certificate))
	p.Type("#key-name", "Ann’s phone")
	p.Click("[name=scope_https]")
	p.Inspect("console-add-key")
	p.Click("#key-dialog [value=ok]")
	p.Wants("The key Ann’s phone is added.", "only imap,smtp")

	session := imapClient(c.dial(base+".pem", "imap"))
	noop := func() error { return session.Noop().Wait() }
	if err := noop(); err != nil {
		t.Fatalf("the key that was pasted: %v", err)
	}
	other := imapClient(c.dial(base+".pem", "imap"))
	if err := other.Noop().Wait(); err != nil {
		t.Fatal(err)
	}
	c.opened(p, "connections")
	p.Wants("PREAUTH · key", ann)
	p.Type("#text", "nobody@")
	p.Wants("0 connections", "There is no connection like that.")
	p.Type("#text", ann)
	p.Wants("2 connections")
	p.Select("#protocol", "smtp")
	browser.Eval[bool](p, `document.querySelector("#filter").dispatchEvent(new Event("input"))`)
	p.Wants("0 connections")
	p.Select("#protocol", "")
	browser.Eval[bool](p, `document.querySelector("#filter").dispatchEvent(new Event("input"))`)
	p.Wants("2 connections")
	p.Press(ann, "End")
	p.Wants("is ended.", "1 connection")
	ends(t, noop)
	if at := browser.Eval[string](p, "document.activeElement.tagName"); at != "BUTTON" {
		t.Errorf("the focus of the row that is gone is on %s", at)
	}
	if err := other.Noop().Wait(); err != nil {
		t.Errorf("another connection has ended too: %v", err)
	}

	c.opened(p, "accounts/"+c.idOf(ann))
	p.Press("Ann’s phone", "Remove")
	yes(p)
	p.Wants("The key is removed.", "No key is registered.")
	ends(t, func() error { return other.Noop().Wait() })
}

// What somebody else has changed in the meantime is shown before it is overwritten.
func TestConsoleConflict(t *testing.T) {
	c := newConsole(t, "")
	c.account(ann)
	key := c.key(ann, "phone", "--name", "phone")
	var keys []struct{ Fingerprint, Name string }
	list := func() string {
		t.Helper()
		if err := json.Unmarshal([]byte(c.posthorn("key", "list", ann, "--json")), &keys); err != nil || len(keys) != 1 {
			t.Fatal(err, keys)
		}
		return keys[0].Name
	}
	list()
	_ = key
	p := c.byKey()
	c.opened(p, "accounts/"+c.idOf(ann))

	p.Press("phone", "Change")
	p.Wait("#key-dialog[open]")
	c.posthorn("key", "set", keys[0].Fingerprint, "--name", "telephone", "--scope", "imap")
	p.Type("#key-name", "mobile")
	p.Click("#key-dialog [value=ok]")
	p.Wait("#key-dialog .meanwhile:not([hidden])")
	p.Wants("Somebody has made a change in the meantime.", "telephone", "Logs in to")
	p.Inspect("console-conflict")
	if name := list(); name != "telephone" {
		t.Errorf("the key is called %q", name)
	}
	p.Click("#key-dialog [value=ok]")
	p.Wants("The key is changed.", "mobile")
	if name := list(); name != "mobile" {
		t.Errorf("the key is called %q", name)
	}

	p.Click("#disable")
	p.Wait("#sure[open]")
	c.posthorn("account", "address", "add", ann, "anna@localhost")
	p.Click("#sure [value=yes]")
	p.Wants("Nothing was done", ann+", anna@localhost")
	if strings.Contains(c.posthorn("account", "list", "--json"), `"disabled": true`) {
		t.Error("the account is disabled")
	}
	p.Click("#disable")
	yes(p)
	p.Wants("The account is disabled.")

	c.posthorn("account", "remove", ann, "--yes")
	p.Wants("There is no such account")
}
