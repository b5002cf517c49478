package e2e

import (
	"strings"
	"testing"

	"posthorn/e2e/browser"
)

// web is the gateway's address for browsers, without a path.
func (g *gateway) web() string { return "https://" + g.name + ":" + port(g.shared) }

// signIn signs in on a page by password.
func (g *gateway) signIn(p *browser.Page, address, password string) (status int) {
	g.t.Helper()
	p.Open(g.web() + "/account/")
	p.Type("#address", address)
	p.Type("#password", password)
	return p.Follow("main form button")
}

const ann = "ann@localhost"

// What somebody does on the account pages, with and without scripts.
func TestAccountPages(t *testing.T) {
	g := newGateway(t, "quota: 100 MiB\n")
	password := g.account(ann)
	b := browser.Start(t, g.ca)
	for _, v := range []browser.View{{}, {NoScript: true}} {
		p := b.Visit(v)
		p.Open(g.web() + "/account/activity")
		p.Inspect("sign-in")
		if status := g.signIn(p, ann, "wrong password"); status != 403 {
			t.Errorf("wrong password: status %d", status)
		}
		p.Want("That did not work")
		p.Inspect("sign-in-failed")
		if p.Value("#address") != ann || p.Value("#password") != "" {
			t.Error("the form forgets the address, or keeps the password")
		}
		if status := g.signIn(p, strings.ToUpper(ann), password); status != 200 {
			t.Errorf("sign-in: status %d", status)
		}
		p.Want(ann)
		p.Want("of 100.0 MiB used")
		p.Inspect("overview")

		session := imapClient(g.dial("", "imap"))
		if err := session.Login(ann, password).Wait(); err != nil {
			t.Fatal(err)
		}
		p.Follow(`nav a[href="/account/activity"]`)
		p.Want("Reading mail (IMAP)")
		p.Inspect("activity")
		p.Follow("main li form button")
		p.Want("The connection was ended.")
		p.Want("No mail program is connected.")
		if err := session.Noop().Wait(); err == nil {
			t.Error("the connection goes on")
		}

		other := b.Visit(v)
		g.signIn(other, ann, password)
		p.Follow(`nav a[href="/account/security"]`)
		p.Inspect("security")
		if n := p.Count("main li"); n != 2 {
			t.Errorf("%d sessions are listed", n)
		}
		p.Follow("main li:not(:has(.badge)) button")
		p.Want("1 browser was signed out.")
		other.Open(g.web() + "/account/security")
		if other.Path() != "/account/sign-in?next=%2Faccount%2Fsecurity" {
			t.Errorf("a revoked session is at %s", other.Path())
		}

		p.Type("#old", password+"x")
		p.Type("#new", "correct horse")
		p.Type("#again", "correct horse")
		if status := p.Follow("#password form button"); status != 422 {
			t.Errorf("wrong old password: status %d", status)
		}
		p.Want("The old password is not right.")
		p.Inspect("password-wrong")
		p.Type("#old", password)
		p.Type("#new", "correct horse")
		p.Type("#again", "correct horse")
		p.Follow("#password form button")
		p.Want("The password was changed.")
		password = "correct horse"

		if status := p.Open(g.web() + "/account/nothing"); status != 404 {
			t.Errorf("no page: status %d", status)
		}
		p.Inspect("not-found")
		p.Follow(".who button")
		p.Want("You are signed out.")
		p.Open(g.web() + "/account/")
		if p.Path() != "/account/sign-in" {
			t.Errorf("signed out, and at %s", p.Path())
		}
	}
}
