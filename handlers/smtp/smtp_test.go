package smtp_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/handlers/smtp"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

const text = "From: Alice <alice@localhost>\r\nTo: bob@localhost\r\nSubject: hi\r\n\r\nHello\r\n..dot\r\n"

// one returns the only message in the spool.
func (g *gateway) one() message {
	g.t.Helper()
	all := g.spool.taken()
	if len(all) != 1 {
		g.t.Fatalf("%d messages were taken", len(all))
	}
	return all[0]
}

func TestSubmitWithClient(t *testing.T) {
	for _, c := range []struct {
		name string
		key  bool
		auth sasl.Client
		from string
	}{
		{"key", true, nil, "alice@localhost"},
		{"key, EXTERNAL", true, sasl.NewExternalClient(""), "al@localhost"},
		{"key, EXTERNAL with an identity", true, sasl.NewExternalClient("al@localhost"), "alice@localhost"},
		{"key and password", true, sasl.NewPlainClient("", "alice@localhost", password), "alice@localhost"},
		{"PLAIN", false, sasl.NewPlainClient("", "alice@localhost", password), "alice@localhost"},
		{"LOGIN", false, sasl.NewLoginClient("alice@localhost", password), "alice@localhost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, nil)
			var config *tls.Config
			if config = clientConfig(); c.key {
				config = clientConfig(g.key)
			}
			cl, err := gosmtp.DialTLS(g.addr, config)
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			if c.auth != nil {
				if err := cl.Auth(c.auth); err != nil {
					t.Fatal(err)
				}
			}
			if err := cl.SendMail(c.from, []string{"bob@localhost", "al@localhost"}, strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
			if err := cl.Quit(); err != nil {
				t.Fatal(err)
			}
			m := g.one()
			if m.from != c.from || fmt.Sprint(m.to) != "[bob@localhost al@localhost]" || !strings.HasSuffix(m.text, text) {
				t.Errorf("got %+v", m)
			}
		})
	}
}

func TestGreeting(t *testing.T) {
	c := start(t, nil).dial()
	got := c.cmd("EHLO x", "250-"+serverName)
	for _, want := range []string{
		"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "SMTPUTF8", "SIZE 52428800",
		"AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN",
	} {
		if !strings.Contains(got, want+"\r\n") {
			t.Errorf("%s is not offered in %q", want, got)
		}
	}
	for _, no := range []string{"EXTERNAL", "STARTTLS", "XCLIENT", "XFORWARD", "BINARYMIME", "DSN", "Hello"} {
		if strings.Contains(got, no) {
			t.Errorf("%s is in %q", no, got)
		}
	}
	c.cmd("HELO x", "250 "+serverName+"\r\n")
	c.cmd("QUIT", "221")
	c.wantEnd()
}

func TestExternalOfferedWithKey(t *testing.T) {
	g := start(t, nil)
	if got := g.dial(g.key).cmd("EHLO x", "250"); !strings.Contains(got, "AUTH EXTERNAL ") {
		t.Errorf("got %q", got)
	}
	if got := g.dial(muxtest.KeyPair(t)).cmd("EHLO x", "250"); strings.Contains(got, "EXTERNAL") {
		t.Errorf("to an unknown key: got %q", got)
	}
}

// What clients get wrong about AUTH.
func TestAuthQuirks(t *testing.T) {
	g := start(t, nil)
	plain := b64("\x00alice@localhost\x00" + password)
	for _, c := range []struct {
		name  string
		lines []string // command and reply in turn
	}{
		{"two spaces", []string{"AUTH  PLAIN " + plain, "235 2.7.0"}},
		{"lower case", []string{"auth plain " + plain, "235"}},
		{"continuation", []string{"AUTH PLAIN", "334 \r\n", plain, "235"}},
		{"space for an initial response", []string{"AUTH PLAIN ", "334 \r\n", plain, "235"}},
		{"cancelled", []string{"AUTH PLAIN", "334", "*", "501", "AUTH PLAIN " + plain, "235"}},
		{"bad base64", []string{"AUTH PLAIN x", "501 5.5.2"}},
		{"base64 with bits left over", []string{"AUTH PLAIN YR==", "501 5.5.2"}},
		{"= for a later response", []string{"AUTH PLAIN", "334", "=", "535"}},
		{"bad base64 later", []string{"AUTH PLAIN", "334", "x", "501 5.5.2", "AUTH PLAIN " + plain, "235"}},
		{"no mechanism", []string{"AUTH", "501 5.5.4 Want a mechanism"}},
		{"three words", []string{"AUTH PLAIN " + plain + " x", "501 5.5.4 Want a mechanism"}},
		{"unknown mechanism", []string{"AUTH NTLM", "504 5.5.4"}},
		{"EXTERNAL without key", []string{"AUTH EXTERNAL =", "504 5.5.4"}},
		{"wrong password", []string{"AUTH PLAIN " + b64("\x00alice@localhost\x00x"), "535 5.7.8"}},
		{"unknown user", []string{"AUTH PLAIN " + b64("\x00carol@localhost\x00x"), "535 5.7.8"}},
		{"other identity", []string{"AUTH PLAIN " + b64("bob@localhost\x00alice@localhost\x00"+password), "535 5.7.8"}},
		{"trailing NUL", []string{"AUTH PLAIN " + b64("\x00alice@localhost\x00"+password+"\x00"), "535 5.7.8"}},
		{"no fields", []string{"AUTH PLAIN =", "535 5.7.8"}},
		{"twice", []string{"AUTH PLAIN " + plain, "235", "AUTH PLAIN " + plain, "503", "MAIL FROM:<alice@localhost>", "250"}},
		{"in a transaction", []string{"AUTH PLAIN " + plain, "235", "MAIL FROM:<alice@localhost>", "250", "AUTH PLAIN " + plain, "503"}},
		{"long response", []string{"AUTH PLAIN", "334", strings.Repeat("A", 9000), "500 5.5.6"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.t = t
			cl := g.dial()
			cl.cmd("EHLO x", "250")
			for i := 0; i < len(c.lines); i += 2 {
				cl.cmd(c.lines[i], c.lines[i+1])
			}
		})
	}
}

func TestExternal(t *testing.T) {
	g := start(t, nil)
	for identity, want := range map[string]string{
		"": "235", "alice@localhost": "235", "al@localhost": "235", "bob@localhost": "535 5.7.8", "nobody@localhost": "535 5.7.8",
		"alice@localhost\x00": "535 5.7.8", "\xff": "535 5.7.8", "a\r\nb": "535 5.7.8",
	} {
		ir := b64(identity)
		if ir == "" {
			ir = "="
		}
		c := g.login()
		c.cmd("AUTH EXTERNAL "+ir, want)
		c.envelope() // the key is a login whatever became of AUTH

		c = g.login()
		c.cmd("MAIL FROM:<alice@localhost>", "250")
		c.cmd("AUTH EXTERNAL "+ir, "503") // RFC 4954 section 4
		c.cmd("RSET", "250")
		c.cmd("AUTH EXTERNAL", "334")
		c.cmd(b64(identity), want)
		c.envelope()
	}
}

func TestPasswordOfAnotherAccount(t *testing.T) {
	c := start(t, nil).login()
	c.cmd("AUTH PLAIN "+b64("\x00bob@localhost\x00"+password), "535 5.7.8")
	c.cmd("MAIL FROM:<bob@localhost>", "550 5.7.1")
	c.cmd("MAIL FROM:<alice@localhost>", "250")
}

func TestTooManyPasswords(t *testing.T) {
	c := start(t, nil).dial()
	c.cmd("EHLO x", "250")
	for range 5 {
		c.cmd("AUTH PLAIN "+b64("\x00alice@localhost\x00x"), "535")
	}
	c.cmd("AUTH PLAIN "+b64("\x00alice@localhost\x00"+password), "421")
	c.wantEnd()
}

func TestNoLogin(t *testing.T) {
	g := start(t, nil)
	c := g.dial(muxtest.KeyPair(t))
	c.cmd("EHLO x", "250")
	c.cmd("MAIL FROM:<alice@localhost>", "530 5.7.0")
	c.cmd("RCPT TO:<bob@localhost>", "503")
	c.cmd("DATA", "503")
	known, unknown := c.cmd("VRFY alice@localhost", "252"), c.cmd("VRFY nobody@localhost", "252")
	if known != unknown {
		t.Errorf("VRFY tells %q from %q", known, unknown)
	}
	c.cmd("EXPN staff", "502")
	c.cmd("HELP alice", "214")
	c.cmd("XCLIENT ADDR=1.2.3.4", "500")
	c.cmd("XFORWARD NAME=x", "500")
}

func TestRequireAuth(t *testing.T) {
	g := start(t, func(h *smtp.Handler, _ *mux.Config) { h.RequireAuth = true })
	c := g.login()
	c.cmd("MAIL FROM:<alice@localhost>", "530 5.7.0")
	c.cmd("AUTH EXTERNAL =", "235")
	c.cmd("MAIL FROM:<alice@localhost>", "250")
}

func TestNoPreauthKey(t *testing.T) {
	g := start(t, nil)
	key := muxtest.KeyPair(t)
	g.addKey(authkeys.Key{Account: g.alice.ID, NoPreauth: true}, key)
	c := g.dial(key)
	c.cmd("EHLO x", "250")
	c.envelope()
}

func TestScopedKey(t *testing.T) {
	g := start(t, nil)
	key := muxtest.KeyPair(t)
	g.addKey(authkeys.Key{Account: g.alice.ID, Scope: authkeys.ScopeIMAP}, key)
	c := g.dial(key)
	c.cmd("EHLO x", "250")
	c.cmd("MAIL FROM:<alice@localhost>", "530")
}

// A key is a login from EHLO on, and whoever loses it is nobody at the next
// MAIL, whether or not the connection has been closed by then.
func TestRevokedAtMail(t *testing.T) {
	ctx := context.Background()
	for name, revoke := range map[string]func(*gateway, authkeys.Fingerprint) error{
		"removed": func(g *gateway, f authkeys.Fingerprint) error { _, err := g.keys.Remove(ctx, f); return err },
		"disabled": func(g *gateway, _ authkeys.Fingerprint) error {
			return g.accounts.SetDisabled(ctx, g.alice.ID, true)
		},
		"descoped": func(g *gateway, f authkeys.Fingerprint) error {
			_, err := g.keys.Change(ctx, f, func(k *authkeys.Key) error { k.Scope = authkeys.ScopeIMAP; return nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, nil)
			key := muxtest.KeyPair(t)
			f := g.addKey(authkeys.Key{Account: g.alice.ID}, key)
			c := g.dial(key)
			c.cmd("EHLO x", "250")
			if id := g.Conns()[0].Identity; id.Account != g.alice.ID || id.Key != f {
				t.Errorf("the table has %+v", id)
			}
			c.envelope()
			c.cmd("RSET", "250")
			if err := revoke(g, f); err != nil {
				t.Fatal(err)
			}
			c.cmd("MAIL FROM:<alice@localhost>", "530 5.7.0")
			c.cmd("AUTH EXTERNAL =", "5")
		})
	}
}

// The connection's line in the log names a key that did not count, and why.
func TestUnknownKeyIsLogged(t *testing.T) {
	g := start(t, nil)
	key := muxtest.KeyPair(t)
	c := g.dial(key)
	c.cmd("EHLO x", "250")
	c.cmd("MAIL FROM:<alice@localhost>", "530")
	c.cmd("QUIT", "221")
	c.wantEnd()
	g.stop()
	var line struct {
		Key     string `json:"key"`
		Failure string `json:"login_failure"`
	}
	if err := json.Unmarshal([]byte(g.log.String()), &line); err != nil {
		t.Fatalf("%v in %s", err, g.log)
	}
	if line.Key != muxtest.Fingerprint(t, key).String() || line.Failure != string(accounts.UnknownKey) {
		t.Errorf("logged %s", g.log)
	}
}

// A store that cannot answer refuses nobody for good.
func TestStoreFails(t *testing.T) {
	g := start(t, nil)
	early, late, other := g.dial(g.key), g.login(), g.dial()
	other.cmd("EHLO x", "250")
	if err := g.store.Close(); err != nil {
		t.Fatal(err)
	}
	early.cmd("EHLO x", "451")
	late.cmd("MAIL FROM:<alice@localhost>", "451")
	other.cmd("AUTH PLAIN "+b64("\x00alice@localhost\x00"+password), "454")
}

func TestAddresses(t *testing.T) {
	c := start(t, nil).login()
	for _, l := range []struct{ line, want string }{
		{"MAIL FROM:<bob@localhost>", "550 5.7.1"},
		{"MAIL FROM:<\"alice\"@localhost>", "553"},
		{"MAIL FROM:<\"alice@localhost> SIZE=1\"@localhost>", "55"},
		{"MAIL FROM:<alice@localhost> SIZE=52428801", "552 5.3.4"},
		{"MAIL FROM:<alice@localhost> SIZE=99999999999999999999", "5"},
		{"MAIL FROM:<alice@localhost> SIZE=5000000000", "552 5.3.4"},
		{"MAIL FROM:<alice@localhost> SIZE=-1", "501"},
		{"MAIL FROM:<alice@localhost> BODY=BINARYMIME", "504"},
		{"MAIL FROM:<alice@localhost> RET=FULL", "555"},
		{"MAIL FROM:<älice@localhost>", "553 5.6.7"},
		{"MAIL FROM:<\xff@localhost> SMTPUTF8", "553"},
		{"MAIL alice@localhost", "501"},
		{"MAIL FROM:alice@localhost", "501"},
	} {
		c.cmd(l.line, l.want)
	}
	c = start(t, nil).login()
	c.cmd("MAIL FROM: <AL@localhost> BODY=8BITMIME SIZE=100", "250")
	c.cmd("MAIL FROM:<alice@localhost>", "503")
	for _, l := range []struct{ line, want string }{
		{"RCPT TO:<bob@localhost> NOTIFY=NEVER", "555"},
		{"RCPT TO:<\"b@x\"@localhost>", "553"},
		{"RCPT TO:<b b@localhost>", "501"},
		{"RCPT TO:<>", "501"},
		{"RCPT TO:<bjørn@localhost>", "553 5.6.7"},
		{"RCPT TO:<bob@localhost\u0085>", "553"},
		{"RCPT TO:<nobody@localhost>", "550 5.1.1"},
		{"RCPT TO:<bob@localhost>", "250"},
	} {
		c.cmd(l.line, l.want)
	}
	c.cmd("RSET", "250")
	c.cmd("MAIL FROM:<> SMTPUTF8", "250")
	c.cmd("RCPT TO:<bjørn@localhost>", "250")
}

// Relays without a name have addresses too: RFC 5321 section 4.1.3.
func TestAddressLiterals(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.cmd("MAIL FROM:<alice@localhost>", "250")
	for _, to := range []string{
		"bob@[192.0.2.1", "bob@192.0.2.1]", "bob@[192.0.2.1].org", "bob@[192.0.2]", "bob@[]", "bob@[example.org]", "@[192.0.2.1]",
		"b..b@[192.0.2.1]", "bob@[2001:db8::1]", "bob@[IPv6:192.0.2.1]", "bob@[IPv6:fe80::1%0]", "[192.0.2.1]",
	} {
		c.cmd("RCPT TO:<"+to+">", "5")
	}
	c.cmd("RCPT TO:<Bob@[192.0.2.1]>", "250")
	c.cmd("RCPT TO:<bob@[ipv6:2001:db8::1]>", "250")
	c.data(text, "250")
	if m := g.one(); fmt.Sprint(m.to) != "[Bob@[192.0.2.1] bob@[ipv6:2001:db8::1]]" {
		t.Errorf("got %q", m.to)
	}
}

func TestOrder(t *testing.T) {
	g := start(t, nil)
	c := g.dial(g.key)
	for _, l := range []string{"MAIL FROM:<alice@localhost>", "RCPT TO:<bob@localhost>", "DATA", "AUTH PLAIN =", "BDAT 0 LAST"} {
		c.cmd(l, "503")
	}
	c.cmd("EHLO x", "250")
	c.cmd("RCPT TO:<bob@localhost>", "503")
	c.cmd("DATA", "503")
	c.cmd("MAIL FROM:<alice@localhost>", "250")
	c.cmd("DATA", "503")
	c.cmd("RCPT TO:<nobody@localhost>", "550")
	c.cmd("DATA", "503")
	c.cmd("RCPT TO:<bob@localhost>", "250")
	c.cmd("DATA now", "501")
	c.cmd("EHLO again", "250")
	c.cmd("RCPT TO:<bob@localhost>", "503")
	c.cmd("STARTTLS", "503")
}

func TestRecipients(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.cmd("MAIL FROM:<alice@localhost>", "250")
	for i := range 1000 {
		c.cmd(fmt.Sprintf("RCPT TO:<u%d@localhost>", i), "250")
	}
	c.cmd("RCPT TO:<more@localhost>", "452 4.5.3")
	c.cmd("DATA", "354")
	c.cmd(text+".", "250")
	if m := g.one(); len(m.to) != 1000 {
		t.Errorf("%d recipients", len(m.to))
	}
}

// The client hears the backend's replies, and of other errors only that there
// was one.
func TestBackendReplies(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.cmd("MAIL FROM:<alice@localhost>", "250")
	c.cmd("RCPT TO:<nobody@localhost>", "550 5.1.1 no such user\r\n")
	c.cmd("RCPT TO:<broken@localhost>", "451 4.3.0 Try again later\r\n")
	c.cmd("RCPT TO:<full@localhost>", "250")
	c.data(text, "452 4.3.1 full\r\n")
	c.envelope()
	c.cmd("RCPT TO:<bye@localhost>", "421 4.3.2 going\r\n")
	c.wantEnd()
	if n := len(g.spool.taken()); n != 0 {
		t.Errorf("%d messages were taken", n)
	}
}

func TestBadNames(t *testing.T) {
	g := start(t, nil)
	for _, name := range []string{"", "a b", "[1.2.3.4", "a;b", "(x)", strings.Repeat("a", 300)} {
		c := g.dial(g.key)
		c.cmd("EHLO "+name, "501")
		c.cmd("MAIL FROM:<alice@localhost>", "503")
	}
}

func TestPipelining(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.send("MAIL FROM:<alice@localhost>\r\nRCPT TO:<nobody@localhost>\r\nRCPT TO:<bob@localhost>\r\nDATA\r\n" +
		text + ".\r\nNOOP\r\nQUIT\r\nNOOP\r\n")
	for _, want := range []string{"250", "550", "250", "354", "250", "250", "221"} {
		c.want(want)
	}
	c.wantEnd()
	g.one()
}

func TestByteAtATime(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for _, b := range []byte("MAIL FROM:<alice@localhost>\r\nRCPT TO:<bob@localhost>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n") {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"250", "250", "354", "250", "221"} {
		c.want(want)
	}
	c.wantEnd()
}

func TestPanicCostsOneConnection(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.cmd("MAIL FROM:<alice@localhost>", "250")
	c.cmd("RCPT TO:<panic@localhost>", "421")
	c.wantEnd()
	g.login().envelope()
	if log := g.log.String(); !strings.Contains(log, "as asked") || !strings.Contains(log, "smtp_test.go") && !strings.Contains(log, "harness_test.go") {
		t.Errorf("the log has no stack: %s", log)
	}
}

func TestLogHasNoSecrets(t *testing.T) {
	g := start(t, nil)
	c := g.dial()
	c.cmd("EHLO x", "250")
	c.cmd("AUTH PLAIN "+b64("\x00alice@localhost\x00wrong secret"), "535")
	c.cmd("AUTH PLAIN "+b64("\x00alice@localhost\x00"+password), "235")
	c.envelope()
	c.cmd("DATA", "354")
	c.cmd("Subject: private\r\n\r\nbody\r\n.", "250")
	c.cmd("QUIT", "221")
	c.wantEnd()
	g.stop()
	for _, secret := range []string{"wrong secret", password, b64(password), "private", "body"} {
		if strings.Contains(g.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	for _, note := range []string{`"reason":"quit"`, `"login_failure":"wrong password"`} {
		if !strings.Contains(g.log.String(), note) {
			t.Errorf("no %s in %s", note, g.log.String())
		}
	}
}

func TestBusy(t *testing.T) {
	if got := string(new(smtp.Handler).Busy()); !strings.HasPrefix(got, "421 4.3.2 ") || !strings.HasSuffix(got, "\r\n") {
		t.Errorf("got %q", got)
	}
}

// tlsOn makes the handshake of STARTTLS.
func (c *client) tlsOn(key ...tls.Certificate) *client {
	c.t.Helper()
	tc := tls.Client(c.Conn, clientConfig(key...))
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return newClient(c.t, tc)
}

func (g *gateway) dialClear() *client {
	g.t.Helper()
	nc, err := net.Dial("tcp", g.clear)
	if err != nil {
		g.t.Fatal(err)
	}
	c := newClient(g.t, nc)
	c.want("220")
	return c
}

func TestStartTLS(t *testing.T) {
	g := start(t, nil)
	c := g.dialClear()
	if got := c.cmd("EHLO x", "250"); strings.Contains(got, "AUTH") || !strings.Contains(got, "STARTTLS") {
		t.Errorf("got %q", got)
	}
	c.cmd("AUTH PLAIN "+b64("\x00alice@localhost\x00"+password), "530 5.7.0")
	c.cmd("MAIL FROM:<alice@localhost>", "530 5.7.0")
	c.cmd("NOOP", "250")
	c.cmd("STARTTLS now", "501")
	c.cmd("STARTTLS", "220")
	c = c.tlsOn(g.key)
	c.cmd("MAIL FROM:<alice@localhost>", "503") // EHLO is forgotten, and there was no greeting
	if got := c.cmd("EHLO x", "250"); strings.Contains(got, "STARTTLS") || !strings.Contains(got, "AUTH EXTERNAL") {
		t.Errorf("got %q", got)
	}
	c.cmd("STARTTLS", "503")
	c.envelope()
	c.cmd("DATA", "354")
	c.cmd(text+".", "250")
	c.cmd("QUIT", "221")
	c.wantEnd()
	g.one()
}

func TestStartTLSDropsPipelined(t *testing.T) {
	g := start(t, nil)
	c := g.dialClear()
	c.send("STARTTLS\r\nEHLO evil\r\nMAIL FROM:<alice@localhost>\r\n")
	c.want("220")
	c = c.tlsOn(g.key)
	c.cmd("NOOP", "250") // the first reply is that to the first command after TLS
	c.cmd("RCPT TO:<bob@localhost>", "503")
}

func TestStartTLSEnds(t *testing.T) {
	g := start(t, nil)
	for name, talk := range map[string]func(*client){
		"failed handshake": func(c *client) { c.cmd("STARTTLS", "220"); c.send("NOOP\r\nNOOP\r\n") },
		"bare LF":          func(c *client) { c.send("EHLO x\n"); c.want("500") },
		"HTTP":             func(c *client) { c.cmd("GET / HTTP/1.0", "554") },
		"quit":             func(c *client) { c.cmd("QUIT", "221") },
		"bad commands": func(c *client) {
			for range 10 {
				c.cmd("XYZZY", "530")
			}
			c.want("421")
		},
		"bad arguments": func(c *client) {
			for range 5 {
				c.cmd("STARTTLS now", "501")
				c.cmd("EHLO (x)", "501")
			}
			c.want("421")
		},
	} {
		c := g.dialClear()
		talk(c)
		if rest, _ := io.ReadAll(c.r); strings.Contains(string(rest), "250") {
			t.Errorf("%s: got %q", name, rest)
		}
	}
}
