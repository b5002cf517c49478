package e2e

import (
	"strings"
	"testing"

	"posthorn/e2e/browser"
)

// What is left: all of an account's connections at once, web sessions, the filters of
// the audit trail, looking at a certificate from outside, a server that is down.
func TestConsoleRest(t *testing.T) {
	c := newConsole(t, `
domains: [localhost, shop.example]
backends:
  - name: shop
    imap: {addresses: ["127.0.0.1:1"]}
    submission: {addresses: ["127.0.0.1:1"]}
    passwords: backend
    domains: [shop.example]
`)
	password := c.account(ann)
	c.account("bob@localhost")
	var noops []func() error
	for range 3 {
		session := imapClient(c.dial("", "imap"))
		if err := session.Login(ann, password).Wait(); err != nil {
			t.Fatal(err)
		}
		noops = append(noops, func() error { return session.Noop().Wait() })
	}
	web := browser.Start(t, c.ca).Visit(browser.View{})
	if status := c.signIn(web, ann, password); status != 200 {
		t.Fatalf("sign-in: status %d", status)
	}

	p := c.byKey()
	c.opened(p, "accounts/"+c.idOf(ann))
	p.Click("#end-connections")
	yes(p)
	p.Wants("3 connections are ended.", "There is no connection like that.")
	for _, noop := range noops {
		ends(t, noop)
	}
	c.opened(p, "sessions")
	p.Press(ann, "Sign out")
	p.Wants("The session is ended.", "Nobody is signed in to the account pages.")
	web.Open(c.web() + "/account/")
	web.Wait("#password") // signed out

	c.opened(p, "audit")
	p.Wants("4 entries", "session end", "conn close", "bob@localhost")
	p.Type("#account", "bob@localhost")
	p.Wants("1 entry")
	p.Lacks("session end")
	p.Type("#account", "")
	p.Type("#actor", "Olga")
	p.Wants("2 entries")
	p.Type("#actor", "")
	p.Select("#action", "session")
	p.Paste("#actor", "")
	p.Wants("1 entry", "session end")
	p.Select("#action", "")
	p.Paste("#until", "2020-01-01")
	p.Wants("0 entries", "There is no entry like that.")

	c.opened(p, "accounts")
	p.Wants("2 accounts")
	p.Type("#text", "BOB")
	p.Wants("1 account")
	p.Lacks(ann)
	p.Select("#state", "true")
	p.Paste("#text", "bob")
	p.Wants("0 accounts", "No account is like that.")

	c.opened(p, "certificates")
	p.Press(adminHost, "Check")
	p.Wait("#check h2")
	p.Wants("What a client sees of " + adminHost)
	if at := browser.Eval[string](p, "document.activeElement.textContent"); !strings.HasPrefix(at, "What a client sees") {
		t.Errorf("the focus is on %q", at)
	}
	p.Lacks("At work")
	p.Inspect("console-check")

	if err := imapClient(c.dial("", "imap")).Login("eve@shop.example", "any password").Wait(); err == nil {
		t.Fatal("a server that is down lets people in")
	}
	c.opened(p, "backends")
	p.Wants("shop", "127.0.0.1:1", "down", "refused")
	p.Inspect("console-servers")
}
