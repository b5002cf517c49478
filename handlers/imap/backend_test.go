package imap_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/backend/backendtest"
)

const scriptGreeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"

// answering is a server that answers every login with a text.
func answering(text string) backendtest.Script {
	return backendtest.Script{
		Greet: []backendtest.Act{backendtest.Say(scriptGreeting)},
		Rules: []backendtest.Rule{
			{Line: "p2 .*", Do: []backendtest.Act{backendtest.Say(text)}},
			{Line: `(\S+) NOOP`, Do: []backendtest.Act{backendtest.Say("$1 OK done\r\n")}},
			{Line: `(\S+) LOGOUT`, Do: []backendtest.Act{backendtest.Say("* BYE\r\n$1 OK out\r\n"), backendtest.Close()}},
		},
	}
}

func keeps(c *backend.ProxyConfig) { c.KeepsPasswords = true }

// What a mail system answers is what its client hears, with its code; unless it
// is the gateway that was refused.
func TestBackendAnswers(t *testing.T) {
	const away = "[UNAVAILABLE] Temporarily unavailable, try again later"
	const no = "[AUTHENTICATIONFAILED] Authentication failed"
	for _, tt := range []struct{ answer, password, key string }{
		{"p2 NO [AUTHENTICATIONFAILED] go away\r\n", "NO " + no, "BYE " + away},
		{"p2 NO [AUTHORIZATIONFAILED] go away\r\n", "NO " + no, "BYE " + away},
		{"p2 NO go away\r\n", "NO " + no, "BYE " + away},
		{"p2 NO [UNAVAILABLE] not now\r\n", "NO [UNAVAILABLE] not now", "BYE [UNAVAILABLE] not now"},
		{"p2 NO [LIMIT] too many\r\n", "NO [LIMIT] too many", "BYE [LIMIT] too many"},
		{"p2 NO [EXPIRED] \x1b[31mold\r\n", "NO [EXPIRED] ?[31mold", "BYE " + away},
		{"p2 NO [CONTACTADMIN] " + strings.Repeat("x", 1000) + "\r\n", "NO [CONTACTADMIN] " + strings.Repeat("x", 200), "BYE [CONTACTADMIN] " + strings.Repeat("x", 200)},
		{"p2 BAD what?\r\n", "NO " + away, "BYE " + away},
		{"* BYE [UNAVAILABLE] not now\r\n", "NO [UNAVAILABLE] not now", "BYE [UNAVAILABLE] not now"},
		{"garbage\r\n", "NO " + away, "BYE " + away},
	} {
		s := backendtest.StartScript(t, answering(tt.answer))
		g := behind(t, s.Address, keeps)
		c := g.greeted()
		c.send("a LOGIN " + alice + " pass-word\r\n")
		if got := c.line(); got != "a "+tt.password {
			t.Errorf("%.50q: the client with a password hears %q", tt.answer, got)
		}
		c.talk("b NOOP\r\n", "b OK")
		if got := g.dial(g.key(alice)).line(); got != "* "+tt.key {
			t.Errorf("%.50q: the client with a key hears %q", tt.answer, got)
		}
		if log := g.log.String(); strings.Contains(log, "\x1b") || strings.Contains(log, "s3cr3t") {
			t.Errorf("the log has %q", log)
		}
	}
}

// Without a way to log in for others, a key alone opens nothing: the client is
// asked for the password.
func TestBackendNeedsPassword(t *testing.T) {
	s := backendtest.StartScript(t, answering("p2 OK [CAPABILITY IMAP4rev1 X] in\r\n"))
	g := behind(t, s.Address, keeps, func(c *backend.ProxyConfig) { c.IMAP.Method = "" })
	c := g.greeted(g.key(alice))
	c.talk("a AUTHENTICATE EXTERNAL =\r\n", "a NO [CANNOT]")
	if log := g.log.String(); strings.Contains(log, "refuses") {
		t.Errorf("the log has %s", log)
	}
	c.talk("b LOGIN "+alice+" x\r\n", "b OK [CAPABILITY IMAP4rev1 X] Logged in")
}

// What was pipelined behind the login is the server's, and what the server
// sends behind its answer the client's.
func TestBackendPipelined(t *testing.T) {
	s := backendtest.StartScript(t, answering("p2 OK [CAPABILITY IMAP4rev1 X] in\r\n* OK hello\r\n"))
	g := behind(t, s.Address)
	c := g.greeted()
	c.talk("a LOGIN "+alice+" "+quoted(password)+"\r\nb NOOP\r\nc LOGOUT\r\n",
		"a OK [CAPABILITY IMAP4rev1 X] Logged in", "* OK hello", "b OK done", "* BYE", "c OK out", "EOF")
	g.dial(g.key(alice)).talk("a NOOP\r\n", "* PREAUTH [CAPABILITY IMAP4rev1 X]", "* OK hello", "a OK done")
}

// Whoever was locked out while the server was asked gets nothing of what it
// opened.
func TestBackendRevoked(t *testing.T) {
	s := backendtest.StartScript(t, answering("p2 OK [CAPABILITY IMAP4rev1 X] in\r\n"))
	g := behind(t, s.Address, keeps)
	p := g.handler.Backend
	g.handler.Backend = &revoker{p, g.accounts}
	c := g.greeted()
	c.talk("a LOGIN "+alice+" x\r\n", "a"+refused, "* BYE", "EOF")
	g.dial(g.key(bob, func(*authkeys.Key) {})).want("* BYE [AUTHENTICATIONFAILED]", "EOF")
	for _, up := range p.(*backend.Proxy).Status() {
		if up.Conns != 0 {
			t.Errorf("a connection is left: %+v", up)
		}
	}
}

// A client that leaves while it waits for the server takes the login with it;
// a drain says goodbye.
func TestBackendEnds(t *testing.T) {
	s := backendtest.StartScript(t, answering("p2 OK [CAPABILITY IMAP4rev1 X] in\r\n"))
	g := behind(t, s.Address)
	c := g.dial(g.key(alice))
	c.talk("a NOOP\r\n", "* PREAUTH", "a OK done")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := g.mux.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	c.want("* BYE ", "EOF")
}
