package backendtest_test

import (
	"strings"
	"testing"

	"posthorn/backend/backendtest"
)

func TestPostfix(t *testing.T) {
	t.Parallel()
	d := backendtest.StartDovecot(t, backendtest.DovecotOptions{
		Users:  map[string]string{alice: "wonderland"},
		Master: "gateway", MasterPassword: "secret",
	})
	p := backendtest.StartPostfix(t, backendtest.PostfixOptions{Dovecot: d, MaxSize: 100000})

	t.Run("password", func(t *testing.T) {
		for _, plain := range []string{"\x00" + alice + "\x00wonderland", alice + "\x00gateway\x00secret"} {
			c := hello(t, dial(t, p.Plain))
			c.ask("AUTH PLAIN "+b64("\x00"+alice+"\x00wrong"), "535")
			c.ask("AUTH PLAIN "+b64(plain), "235")
			c.ask("MAIL FROM:<bob@example.org>", "250")
			c.ask("RCPT TO:<"+alice+">", "553 5.7.1")
			c.ask("RSET", "250")
			c.mail(alice)
		}
	})
	t.Run("XCLIENT", func(t *testing.T) {
		c := hello(t, dial(t, p.XClient))
		c.ask("XCLIENT ADDR=192.0.2.9 PORT=1234 LOGIN="+alice, "220")
		c.ask("EHLO client", "250")
		c.mail(alice)
		p.Await(t, "client=localhost[192.0.2.9], sasl_method=XCLIENT, sasl_username="+alice)
	})
	t.Run("PROXY", func(t *testing.T) {
		c := hello(t, proxied(t, p.Proxy, ""))
		c.ask("AUTH PLAIN "+b64("\x00"+alice+"\x00wonderland"), "235")
		c.mail(alice)
		p.Await(t, "client=unknown[192.0.2.7], sasl_method=PLAIN, sasl_username="+alice)
	})
	t.Run("trusted", func(t *testing.T) {
		hello(t, dial(t, p.Trusted)).mail(alice)
	})
	t.Run("submission by Dovecot", func(t *testing.T) {
		d := backendtest.StartDovecot(t, backendtest.DovecotOptions{
			Users: map[string]string{alice: "wonderland"}, CommonName: true, Relay: p.Trusted,
		})
		c := hello(t, proxied(t, d.SubmissionProxy, alice))
		c.ask("AUTH EXTERNAL =", "235")
		c.mail(alice)
	})
	t.Run("arrived", func(t *testing.T) {
		c := greeted(t, dial(t, d.Plain))
		c.send("a LOGIN " + alice + " wonderland\r\n")
		c.until("a OK")
		p.Settle(t)
		c.send("b STATUS INBOX (MESSAGES)\r\n")
		if got := c.until("b OK"); !strings.Contains(got, "(MESSAGES 6)") {
			t.Errorf("the INBOX has %q", got)
		}
	})
	t.Run("refused", func(t *testing.T) {
		c := hello(t, dial(t, p.Trusted))
		c.ask("MAIL FROM:<"+alice+"> SIZE=100001", "552 5.3.4")
		c.ask("RSET", "250") // Postfix 3.7 would hold the size against the next message
		c.ask("MAIL FROM:<"+alice+">", "250")
		c.ask("RCPT TO:<refuse-450-4.7.1@example.org>", "450 4.7.1")
		c.ask("RCPT TO:<alice@elsewhere.example>", "550 5.1.2")
		c.ask("RCPT TO:<data-523-5.7.10@example.org>", "250")
		c.ask("DATA", "354")
		c.ask("Subject: hello\r\n\r\nHello.\r\n.", "523 5.7.10")
	})
}

func hello(t testing.TB, c *conn) *conn {
	t.Helper()
	if got := c.line(); !strings.HasPrefix(got, "220 ") {
		t.Fatalf("greeted with %q", got)
	}
	c.ask("EHLO client", "250")
	return c
}

// mail submits a message to oneself.
func (c *conn) mail(from string) {
	c.t.Helper()
	c.ask("MAIL FROM:<"+from+">", "250")
	c.ask("RCPT TO:<"+from+">", "250")
	c.ask("DATA", "354")
	c.ask("Subject: hello\r\n\r\nHello.\r\n.", "250 2.0.0")
}

// ask sends a line and wants a reply that begins with a code.
func (c *conn) ask(line, code string) {
	c.t.Helper()
	c.send(line + "\r\n")
	for {
		got := c.line()
		if len(got) > 3 && got[3] == '-' {
			continue
		}
		if !strings.HasPrefix(got, code) {
			c.t.Errorf("%q was answered with %q", line, got)
		}
		return
	}
}
