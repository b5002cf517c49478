package imap_test

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/handlers/imap"
	"posthorn/mux"
)

type imapHandler = imap.Handler

const (
	imaps        = alpn.IMAPS
	imapStartTLS = alpn.IMAPStartTLS
)

func (c *client) tlsState() tls.ConnectionState { return c.Conn.(*tls.Conn).ConnectionState() }

// slow writes byte by byte.
type slow struct{ net.Conn }

func (s slow) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := s.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestBeforeLogin(t *testing.T) {
	g := start(t)
	for _, tt := range []struct {
		name, send string
		want       []string // beginnings of lines
	}{
		{"capability", "a CAPABILITY\r\n", []string{"* CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID AUTH=SCRAM-SHA-256-PLUS", "a OK"}},
		{"noop, lower case", "a noop\r\n", []string{"a OK"}},
		{"logout", "a LOGOUT\r\n", []string{"* BYE", "a OK", "EOF"}},
		{"id", "a ID (\"name\" \"x\" version NIL)\r\nb ID NIL\r\nc ID ({4+}\r\nname {3}\r\nabc)\r\nd ID ()\r\n",
			[]string{`* ID ("name" "Posthorn")`, "a OK", "* ID", "b OK", "+ ", "* ID", "c OK", "* ID", "d OK"}},
		{"malformed id", "a ID\r\nb ID (\"x\")\r\nc ID x\r\nd ID (x y) z\r\n", []string{"a BAD", "b BAD", "c BAD", "d BAD"}},
		{"starttls under TLS", "a STARTTLS\r\n", []string{"a BAD"}},
		{"not before login", "a SELECT INBOX\r\nb ENABLE UTF8=ACCEPT\r\nc IDLE\r\nd APPEND INBOX {5}\r\ne XYZZY\r\n",
			[]string{"a BAD", "b BAD", "c BAD", "d BAD", "e BAD"}},
		{"arguments too many", "a NOOP x\r\nb CAPABILITY x\r\nc LOGOUT x\r\nd NOOP \r\n", []string{"a BAD", "b BAD", "c BAD", "d BAD"}},
		{"no command", "a\r\nb \r\nc  NOOP\r\n\r\n", []string{"a BAD", "b BAD", "c BAD", "* BAD"}},
		{"tags", "+ NOOP\r\n* NOOP\r\na+ NOOP\r\n( NOOP\r\n NOOP\r\n\xc3\xa9 NOOP\r\n%s%n NOOP\r\n",
			[]string{"* BAD", "* BAD", "* BAD", "* BAD", "* BAD", "* BAD", "* BAD"}},
		{"long tag", strings.Repeat("t", 129) + " NOOP\r\n", []string{"* BAD"}},
		{"tag of every kind of character", "!#$&',-./09:;<=>?@AZ[]^_`az|~ NOOP\r\n", []string{"!#$&',-./09:;<=>?@AZ[]^_`az|~ OK"}},

		{"literals that get no continuation",
			"a LOGIN {4097}\r\nb LOGIN {-1}\r\nc LOGIN {0x10}\r\nd LOGIN {18446744073709551616}\r\ne LOGIN {}\r\nf LOGIN {5\r\ng LOGIN {5} x\r\nh LOGIN ~{5}\r\ni LOGIN { 5}\r\nj LOGIN {+5}\r\n",
			[]string{"a BAD", "b BAD", "c BAD", "d BAD", "e BAD", "f BAD", "g BAD", "h BAD", "i BAD", "j BAD"}},
		{"literal for a tag", "{5}\r\n", []string{"* BAD"}},
		{"literal in a tag", "a{5} NOOP\r\n", []string{"* BAD"}},
		{"literal for a command", "a {5}\r\n", []string{"a BAD"}},
		{"the largest literal", "a LOGIN {4096}\r\n" + strings.Repeat("x", 4096) + " y\r\n", []string{"+ ", "a" + refused}},
		{"two pluses", "a LOGIN {5++}\r\nb NOOP\r\n", []string{"a BAD", "* BYE", "EOF"}},
		{"10 GB that nobody asked for", "a LOGIN {10000000000+}\r\nb NOOP\r\n", []string{"a BAD", "* BYE", "EOF"}},
		{"4097 octets that nobody asked for", "a LOGIN {4097+}\r\nb NOOP\r\n", []string{"a BAD", "* BYE", "EOF"}},
		{"of an unknown command", "a XYZZY {6+}\r\nb NOOP\r\n", []string{"a BAD", "* BYE", "EOF"}},
		{"of no tag", "{6+}\r\nb NOOP\r\n", []string{"* BAD", "* BYE", "EOF"}},
		{"behind an open quote", "a LOGIN \"x {6+}\r\nb NOOP\r\n", []string{"a BAD", "* BYE", "EOF"}},
		{"10,000 small literals", "a ID (" + strings.Repeat("{1+}\r\nx ", 10000), []string{"a BAD", "* BYE", "EOF"}},

		{"bare LF", "a NOOP\nb NOOP\r\n", []string{"* BYE", "EOF"}},
		{"bare CR", "a NOOP\rb NOOP\r\n", []string{"* BYE", "EOF"}},
		{"NUL", "a NO\x00P\r\n", []string{"* BYE", "EOF"}},
		{"control characters", "a NOOP\x1b[2J\r\nb LOGIN \"\x07\" x\r\n", []string{"a BAD", "b BAD"}},
		{"endless line", strings.Repeat("x", 100000), []string{"* BYE", "EOF"}},
		{"8 KiB", "a LOGIN x " + strings.Repeat("y", 8182) + "\r\n", []string{"a" + refused}},
		{"and a byte", "a LOGIN x " + strings.Repeat("y", 8183) + "\r\n", []string{"* BYE", "EOF"}},
		{"too many bad commands", strings.Repeat("a XYZZY\r\n", 200), append(slices.Repeat([]string{"a BAD"}, 10), "* BYE", "EOF")},

		{"HTTP", "GET /a LOGIN HTTP/1.1\r\nHost: x\r\n\r\n", []string{"* BYE This is an IMAP server", "EOF"}},
		{"POST", "POST / HTTP/1.0\r\n\r\na NOOP\r\n", []string{"* BYE This is an IMAP server", "EOF"}},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []string{"* BYE This is an IMAP server", "EOF"}},
		{"SMTP", "ehlo example.org\r\n", []string{"* BYE This is an IMAP server", "EOF"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := g.greeted()
			c.t = t
			go c.Write([]byte(tt.send))
			c.want(tt.want...)
		})
		t.Run(tt.name+"/byte by byte", func(t *testing.T) {
			if len(tt.send) > 2000 {
				return
			}
			c := g.greeted()
			c.t = t
			go slow{c}.Write([]byte(tt.send))
			c.want(tt.want...)
		})
	}
}

func TestTooManyCommands(t *testing.T) {
	g := start(t, func(_ *mux.Config, h *imapHandler) { h.Limits.Commands = 5 })
	g.greeted().talk(strings.Repeat("a NOOP\r\n", 6), append(slices.Repeat([]string{"a OK"}, 5), "* BYE", "EOF")...)
}

// New limits hold for connections that come from then on.
func TestSetLimits(t *testing.T) {
	var h *imapHandler
	g := start(t, func(_ *mux.Config, handler *imapHandler) { h = handler })
	old := g.greeted()
	h.SetLimits(imap.Limits{Literal: 10})
	const send = "a LOGIN {11}\r\n"
	old.talk(send, "+ ")
	g.greeted().talk(send, "a BAD")
}

// NOOP does not keep a connection that nobody logs in on.
func TestPreLoginEnds(t *testing.T) {
	g := start(t, func(c *mux.Config, h *imapHandler) {
		c.Limits.PreLogin = 2 * time.Second // a busy machine may take long for the greeting
		h.Limits.Commands = 1e9
	})
	c := g.greeted()
	ends := time.Now().Add(8 * time.Second)
	for i := 0; ; i++ {
		if _, err := c.Write([]byte("a NOOP\r\n")); err != nil {
			break
		}
		if line := c.line(); !strings.HasPrefix(line, "a OK") {
			if line != "EOF" && line != "* BYE timeout" {
				t.Errorf("got %q", line)
			}
			break
		}
		if time.Now().After(ends) {
			t.Fatal("it goes on")
		}
	}
}

func TestStartTLS(t *testing.T) {
	g := start(t)
	c := g.dialPlain()
	c.talk("a CAPABILITY\r\nb NOOP\r\nc ID NIL\r\n",
		"* CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID STARTTLS LOGINDISABLED", "a OK", "b OK", "* ID", "c OK")
	c.talk("d LOGIN {5}\r\n", "d NO [PRIVACYREQUIRED]")
	c.talk("e LOGIN "+alice+" "+quoted(password)+"\r\nf AUTHENTICATE PLAIN\r\n", "e NO [PRIVACYREQUIRED]", "f NO [PRIVACYREQUIRED]")
	c.talk("g STARTTLS x\r\nh SELECT INBOX\r\n", "g BAD", "h BAD")
	c.talk("i STARTTLS\r\n", "i OK")
	c = c.startTLS()
	c.talk("j CAPABILITY\r\n", "* CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID AUTH=SCRAM-SHA-256-PLUS", "j OK") // no greeting
	c.talk("k STARTTLS\r\n", "k BAD")
	c.talk("l LOGIN "+alice+" "+quoted(password)+"\r\n", "l"+loggedIn)
	c.wantUser(alice)
	c.talk("m LOGOUT\r\n", "* BYE", "m OK", "EOF")
}

// A literal password is not asked for in cleartext, and one that comes unasked
// is not taken for commands.
func TestCleartextPassword(t *testing.T) {
	g := start(t)
	g.dialPlain().talk("a LOGIN alice {6+}\r\nb NOOP\r\n", "a NO [PRIVACYREQUIRED]", "* BYE", "EOF")
}

// A known key does not log in by itself after STARTTLS, but by EXTERNAL.
func TestStartTLSWithKey(t *testing.T) {
	g := start(t)
	c := g.dialPlain()
	c.talk("a STARTTLS\r\n", "a OK")
	c = c.startTLS(g.key(alice))
	c.talk("b NOOP\r\n", "b OK")
	c.talk("c SELECT INBOX\r\n", "c BAD")
	c.talk("d CAPABILITY\r\n", "* CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID AUTH=EXTERNAL", "d OK")
	c.talk("e AUTHENTICATE EXTERNAL =\r\n", "e"+loggedIn)
	c.wantUser(alice)
}

// What a man in the middle puts behind STARTTLS is never executed (CVE-2011-0411).
func TestStartTLSInjection(t *testing.T) {
	g := start(t)
	c := g.dialPlain()
	c.talk("a STARTTLS\r\nb LOGIN mallory x\r\nc NOOP\r\n", "a OK")
	tc := tls.Client(c.Conn, tlsConfig())
	if err := tc.Handshake(); err != nil {
		return // it ended the connection: good as well
	}
	newClient(t, tc).talk("d NOOP\r\n", "d OK")
}

// A handshake that fails ends the connection.
func TestStartTLSFails(t *testing.T) {
	g := start(t)
	c := g.dialPlain()
	c.talk("a STARTTLS\r\n", "a OK")
	c.send("b NOOP\r\nc NOOP\r\n")
	for line := c.line(); line != "EOF"; line = c.line() {
		if strings.Contains(line, "OK") {
			t.Errorf("got %q", line)
		}
	}
}

func TestBusy(t *testing.T) {
	if got := string(new(imap.Handler).Busy()); !strings.HasPrefix(got, "* BYE ") || !strings.HasSuffix(got, "\r\n") {
		t.Errorf("got %q", got)
	}
}

// The gateway says BYE wherever a connection stands when it has to go.
func TestGoodbye(t *testing.T) {
	g := start(t)
	greeted, half := g.greeted(), g.greeted()
	half.send("a LOGIN {5}\r\nal")
	half.want("+ ")
	exchange := g.greeted()
	exchange.talk("a AUTHENTICATE PLAIN\r\n", "+ ")
	plain := g.dialPlain()
	in := g.dial(g.key(alice))
	in.want("* PREAUTH")
	idle := g.dial(g.key(alice))
	idle.talk("a IDLE\r\n", "* PREAUTH", "+ idling")
	revoked := g.dial(g.key(bob))
	revoked.want("* PREAUTH")
	g.mux.CloseAccount(g.ids[bob], nil, mux.ErrRevoked)
	revoked.want("* BYE access revoked", "EOF")
	g.stop()
	for _, c := range []*client{greeted, half, exchange, plain, in, idle} {
		c.want("* BYE shutting down", "EOF")
	}
}
