package imap_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"posthorn/accounts"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/mux"
)

const (
	loggedIn = " OK [CAPABILITY " + memoryCaps + "] "
	refused  = " NO [AUTHENTICATIONFAILED] Authentication failed"
	withKey  = "* OK [CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID AUTH=EXTERNAL AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN] mail.example.org ready"
	noKey    = "* OK [CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN] mail.example.org ready"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// quoted is how clients such as Delta Chat write strings.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// wantUser makes sure whose mailboxes a session sees.
func (c *client) wantUser(address string) {
	c.t.Helper()
	c.talk("who LIST \"\" of*\r\n", `* LIST () "/" "of `+address+`"`, "who OK")
}

func TestPreauth(t *testing.T) {
	g := start(t)
	c := g.dial(g.key(alice))
	c.want("* PREAUTH [CAPABILITY " + memoryCaps + "] mail.example.org ready")
	c.wantUser(alice)
	c.talk("a LOGIN "+bob+" "+quoted(password)+"\r\n", "a BAD")
	c.talk("b AUTHENTICATE EXTERNAL =\r\n", "b BAD")
	c.talk("c STARTTLS\r\n", "c BAD")
	c.wantUser(alice)
	infos := g.mux.Conns()
	if len(infos) != 1 || infos[0].Identity.Mechanism != "PREAUTH" || infos[0].Identity.Account != g.ids[alice] || infos[0].Identity.Key.IsZero() {
		t.Errorf("the table has %+v", infos)
	}
	c.talk("d LOGOUT\r\n", "* BYE", "d OK", "EOF")
}

// A client may speak before it is greeted.
func TestPreauthPipelined(t *testing.T) {
	g := start(t)
	c := g.dial(g.key(alice))
	c.talk("a NOOP\r\nb LOGOUT\r\n", "* PREAUTH", "a OK", "* BYE", "b OK", "EOF")
}

// On the shared port the first bytes of a client without ALPN tell that it
// speaks IMAP; they are executed like all others.
func TestSniffed(t *testing.T) {
	g := start(t)
	for _, tt := range []struct {
		certs []tls.Certificate
		want  string
	}{
		{nil, noKey},
		{[]tls.Certificate{g.key(alice)}, noKey}, // whoever may be a browser is not asked
	} {
		config := tlsConfig(tt.certs...)
		config.NextProtos = nil
		c, err := tls.Dial("tcp", g.addr[alpn.Shared], config)
		if err != nil {
			t.Fatal(err)
		}
		newClient(t, c).talk("a LOGIN "+alice+" "+quoted(password)+"\r\nb NOOP\r\n", tt.want, "a"+loggedIn, "b OK NOOP completed")
	}
}

// A key leads to PREAUTH only when it is good for it.
func TestKeys(t *testing.T) {
	g := start(t)
	stranger, _ := newKey(t)
	for _, tt := range []struct {
		name     string
		edit     func(*authkeys.Key)
		greeting string
	}{
		{"preauth", func(*authkeys.Key) {}, "* PREAUTH"},
		{"no preauth", noPreauth, withKey},
		{"expired", func(k *authkeys.Key) { k.Expires = time.Now().Add(-time.Hour) }, noKey},
		{"for submission", func(k *authkeys.Key) { k.Scope = authkeys.ScopeSMTP }, noKey},
	} {
		c := g.dial(g.key(alice, tt.edit))
		if got := c.line(); !strings.HasPrefix(got, tt.greeting) {
			t.Errorf("%s: %q", tt.name, got)
		}
		c.Close()
	}
	g.dial(stranger).want(noKey)
	g.dial().want(noKey)
	if err := g.accounts.SetDisabled(t.Context(), g.ids[bob], true); err != nil {
		t.Fatal(err)
	}
	g.dial(g.key(bob)).want(noKey)
}

// EXTERNAL with every kind of authorization identity, as initial response, as
// a response, and in the spellings that clients have for nothing.
func TestExternal(t *testing.T) {
	g := start(t)
	cert := g.key(alice, noPreauth)
	for _, tt := range []struct {
		name, send string
		want       []string
	}{
		{"empty", "a AUTHENTICATE EXTERNAL =\r\n", []string{"a" + loggedIn}},
		{"lower case", "a authenticate external =\r\n", []string{"a" + loggedIn}},
		{"nothing behind the space", "a AUTHENTICATE EXTERNAL \r\n", []string{"a" + loggedIn}},
		{"two quotes", "a AUTHENTICATE EXTERNAL \"\"\r\n", []string{"a" + loggedIn}},
		{"own address", "a AUTHENTICATE EXTERNAL " + b64(alice) + "\r\n", []string{"a" + loggedIn}},
		{"another address", "a AUTHENTICATE EXTERNAL " + b64(alias) + "\r\n", []string{"a" + loggedIn}},
		{"asked for", "a AUTHENTICATE EXTERNAL\r\n\r\n", []string{"+ ", "a" + loggedIn}},
		{"asked for, own address", "a AUTHENTICATE EXTERNAL\r\n" + b64(alice) + "\r\n", []string{"+ ", "a" + loggedIn}},
		{"asked for, equals sign", "a AUTHENTICATE EXTERNAL\r\n=\r\n", []string{"+ ", "a" + loggedIn}},
		{"another account", "a AUTHENTICATE EXTERNAL " + b64(bob) + "\r\n", []string{"a" + refused}},
		{"unknown", "a AUTHENTICATE EXTERNAL " + b64("nobody@example.org") + "\r\n", []string{"a" + refused}},
		{"NUL", "a AUTHENTICATE EXTERNAL " + b64(alice+"\x00") + "\r\n", []string{"a" + refused}},
		{"CRLF", "a AUTHENTICATE EXTERNAL " + b64(alice+"\r\n") + "\r\n", []string{"a" + refused}},
		{"bad UTF-8", "a AUTHENTICATE EXTERNAL " + b64("\xff") + "\r\n", []string{"a" + refused}},
		{"long", "a AUTHENTICATE EXTERNAL " + b64(strings.Repeat("x", 9000)) + "\r\n", []string{"a" + refused}},
		{"bad base64", "a AUTHENTICATE EXTERNAL x\r\n", []string{"a BAD"}},
		{"cancelled", "a AUTHENTICATE EXTERNAL\r\n*\r\n", []string{"+ ", "a BAD"}},
		{"no mechanism", "a AUTHENTICATE\r\nb AUTHENTICATE (\r\n", []string{"a BAD", "b BAD"}},
		{"unknown mechanism", "a AUTHENTICATE XYZZY =\r\n", []string{"a" + refused}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := g.dial(cert)
			c.t = t
			c.want(withKey)
			c.talk(tt.send, tt.want...)
			if strings.HasPrefix(tt.want[len(tt.want)-1], "a"+loggedIn) {
				c.wantUser(alice)
				return
			}
			c.talk("c AUTHENTICATE EXTERNAL =\r\n", "c"+loggedIn) // it stayed what it was
		})
	}
	t.Run("100 kB", func(t *testing.T) {
		c := g.dial(cert)
		c.want(withKey)
		go c.Write([]byte("a AUTHENTICATE EXTERNAL " + strings.Repeat("A", 100000) + "\r\n"))
		c.want("* BYE", "EOF")
	})
	t.Run("without a key", func(t *testing.T) {
		g.greeted().talk("a AUTHENTICATE EXTERNAL =\r\n", "a"+refused)
	})
	t.Run("key removed after the greeting", func(t *testing.T) {
		own, f := newKey(t)
		if err := g.keys.Add(t.Context(), authkeys.Key{Fingerprint: f, Account: g.ids[alice], Type: "Ed25519", NoPreauth: true}); err != nil {
			t.Fatal(err)
		}
		c := g.greeted(own)
		c.talk("a AUTHENTICATE EXTERNAL\r\n", "+ ")
		if _, err := g.keys.Remove(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		c.talk("\r\n", "a"+refused)
	})
}

func TestPassword(t *testing.T) {
	g := start(t)
	plain := func(parts ...string) string { return b64(strings.Join(parts, "\x00")) }
	for _, tt := range []struct {
		name, send string
		want       []string
	}{
		{"quoted", "a LOGIN " + quoted(alice) + " " + quoted(password) + "\r\n", []string{"a" + loggedIn}},
		{"atom and quoted", "a LOGIN " + alice + " " + quoted(password) + "\r\n", []string{"a" + loggedIn}},
		{"another address, other case", "a login A.Liddell@EXAMPLE.org " + quoted(password) + "\r\n", []string{"a" + loggedIn}},
		{"literals", fmt.Sprintf("a LOGIN {%d}\r\n%s {%d}\r\n%s\r\n", len(alice), alice, len(password), password), []string{"+ ", "+ ", "a" + loggedIn}},
		{"non-synchronizing literals", fmt.Sprintf("a LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", len(alice), alice, len(password), password), []string{"a" + loggedIn}},
		{"PLAIN", "a AUTHENTICATE PLAIN " + plain("", alice, password) + "\r\n", []string{"a" + loggedIn}},
		{"PLAIN, asked for", "a AUTHENTICATE PLAIN\r\n" + plain("", alice, password) + "\r\n", []string{"+ ", "a" + loggedIn}},
		{"PLAIN, sibling", "a AUTHENTICATE PLAIN " + plain(alias, alice, password) + "\r\n", []string{"a" + loggedIn}},
		{"LOGIN by SASL", "a AUTHENTICATE LOGIN\r\n" + b64(alice) + "\r\n" + b64(password) + "\r\n",
			[]string{"+ " + b64("Username:"), "+ " + b64("Password:"), "a" + loggedIn}},
		{"two logins at once", "a LOGIN " + alice + " " + quoted(password) + "\r\nb LOGIN " + bob + " " + quoted(password) + "\r\n",
			[]string{"a" + loggedIn, "b BAD"}},
		{"commands behind a login", "a LOGIN " + alice + " " + quoted(password) + "\r\nb NOOP\r\nc SELECT {5+}\r\nINBOX\r\n",
			[]string{"a" + loggedIn, "b OK NOOP completed", "* 0 EXISTS"}},

		{"wrong", "a LOGIN " + alice + " x\r\n", []string{"a" + refused}},
		{"case", "a LOGIN " + alice + " " + quoted(strings.ToLower(password)) + "\r\n", []string{"a" + refused}},
		{"space", "a LOGIN " + alice + " " + quoted(password+" ") + "\r\n", []string{"a" + refused}},
		{"unknown", "a LOGIN nobody@example.org x\r\n", []string{"a" + refused}},
		{"empty", "a LOGIN \"\" \"\"\r\n", []string{"a" + refused}},
		{"PLAIN for another account", "a AUTHENTICATE PLAIN " + plain(bob, alice, password) + "\r\n", []string{"a" + refused}},
		{"PLAIN, a part too many", "a AUTHENTICATE PLAIN " + plain("", alice, password, "") + "\r\n", []string{"a" + refused}},
		{"PLAIN, a part missing", "a AUTHENTICATE PLAIN " + plain(alice, password) + "\r\n", []string{"a" + refused}},
		{"PLAIN, bad base64", "a AUTHENTICATE PLAIN !" + plain("", alice, password) + "\r\n", []string{"a BAD"}},
		{"PLAIN, base64 with a loose end", "a AUTHENTICATE PLAIN AA=\r\n", []string{"a BAD"}},
		{"commands behind a failing login", "a LOGIN " + alice + " x\r\nb SELECT INBOX\r\n", []string{"a" + refused, "b BAD"}},
		{"NUL in a literal", "a LOGIN " + alice + " {3+}\r\na\x00b\r\n", []string{"a BAD"}},
		{"too few arguments", "a LOGIN\r\nb LOGIN x\r\nc LOGIN x \r\n", []string{"a BAD", "b BAD", "c BAD"}},
		{"too many arguments", "a LOGIN x y z\r\n", []string{"a BAD"}},
		{"escapes", `a LOGIN "a\b" "x"` + "\r\n", []string{"a BAD"}},
		{"open quote", `a LOGIN "a "b"` + "\r\n", []string{"a BAD"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := g.greeted()
			c.t = t
			c.talk(tt.send, tt.want...)
		})
	}
	g.stop() // so that the log is complete
	for _, secret := range []string{"Horse", b64(password), plain("", alice, password)} {
		if strings.Contains(g.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// A key and a password for different accounts do not go together; the address
// that goes with a key may be any of its account's.
func TestKeyAndPassword(t *testing.T) {
	g := start(t)
	cert := g.key(alice, noPreauth)
	c := g.greeted(cert)
	c.talk("a LOGIN "+bob+" "+quoted(password)+"\r\n", "a"+refused)
	c.talk("b LOGIN "+alias+" "+quoted(password)+"\r\n", "b"+loggedIn)
	c.wantUser(alice)
}

// 200 pipelined guesses are not 200 guesses.
func TestGuesses(t *testing.T) {
	g := start(t)
	c := g.greeted()
	go c.Write([]byte(strings.Repeat("a LOGIN "+alice+" x\r\n", 200)))
	n := 0
	line := c.line()
	for ; strings.HasPrefix(line, "a"+refused); line = c.line() {
		n++
	}
	if !strings.HasPrefix(line, "* BYE") || n > 6 {
		t.Errorf("%d answers, then %q", n, line)
	}
}

// What a client hears when the backend does not let it in is never that its
// credentials are wrong.
func TestBackendFails(t *testing.T) {
	g := start(t)
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("10.0.0.1: connection refused"), "[UNAVAILABLE] Temporarily unavailable, try again later"},
		{&goimap.Error{Type: goimap.StatusResponseTypeNo, Code: "OVERQUOTA", Text: "No\r\n* OK room"}, "[OVERQUOTA] No??* OK room"},
		{&goimap.Error{Type: goimap.StatusResponseTypeNo, Text: "Come back tomorrow"}, "Come back tomorrow"},
	} {
		g.backend.setFail(tt.err)
		c := g.greeted()
		c.talk("a LOGIN "+alice+" "+quoted(password)+"\r\n", "a NO "+tt.want)
		g.backend.setFail(nil)
		c.talk("b LOGIN "+alice+" "+quoted(password)+"\r\n", "b"+loggedIn)
		g.backend.setFail(tt.err)
		g.dial(g.key(alice)).want("* BYE "+tt.want, "EOF")
	}
}

// An account with too many connections keeps those that it has.
func TestTooManyConnections(t *testing.T) {
	g := start(t, func(c *mux.Config, _ *imapHandler) { c.Limits.ConnsPerAccount = 1 })
	first := g.dial(g.key(alice))
	first.want("* PREAUTH")
	second := g.greeted()
	second.talk("a LOGIN "+alice+" "+quoted(password)+"\r\n", "a NO [LIMIT] Too many connections of this account")
	second.talk("b LOGIN "+bob+" "+quoted(password)+"\r\n", "b"+loggedIn)
	g.dial(g.key(alice)).want("* BYE [LIMIT] Too many connections of this account", "EOF")
	first.wantUser(alice)
	g.stop()
	if n := g.backend.leaked(); n != 0 {
		t.Errorf("%d sessions neither served nor closed", n)
	}
}

// SCRAM-SHA-256-PLUS, bound to the TLS connection, by a client's library.
func TestScramPlus(t *testing.T) {
	g := start(t)
	for _, plus := range []bool{false, true} {
		c := g.greeted()
		user, err := scram.SHA256.NewClient(alice, password, "")
		if err != nil {
			t.Fatal(err)
		}
		conv, name := user.NewConversation(), "SCRAM-SHA-256"
		if plus {
			state := c.tlsState()
			binding, err := scram.NewTLSExporterBinding(&state)
			if err != nil {
				t.Fatal(err)
			}
			conv, name = user.NewConversationWithChannelBinding(binding), "SCRAM-SHA-256-PLUS"
		}
		first, err := conv.Step("")
		if err != nil {
			t.Fatal(err)
		}
		c.send("a AUTHENTICATE " + name + " " + b64(first) + "\r\n")
		for !conv.Done() {
			challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(c.line(), "+ "))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := conv.Step(string(challenge))
			if err != nil {
				t.Fatal(err)
			}
			c.send(b64(answer) + "\r\n")
		}
		c.want("a" + loggedIn)
		if !conv.Valid() {
			t.Error("the server has not proved that it knows the password")
		}
		c.wantUser(alice)
	}
}

// go-imap's own client gets along.
func TestImapclient(t *testing.T) {
	g := start(t)
	preauth, err := imapclient.DialTLS(g.addr[imaps], &imapclient.Options{TLSConfig: tlsConfig(g.key(alice))})
	if err != nil {
		t.Fatal(err)
	}
	defer preauth.Close()
	if _, err := preauth.Select("INBOX", nil).Wait(); err != nil {
		t.Error(err)
	}
	external, err := imapclient.DialTLS(g.addr[imaps], &imapclient.Options{TLSConfig: tlsConfig(g.key(alice, noPreauth))})
	if err != nil {
		t.Fatal(err)
	}
	defer external.Close()
	if err := external.Authenticate(sasl.NewExternalClient("")); err != nil {
		t.Error(err)
	}
	if !external.Caps().Has("XMEMORY") {
		t.Errorf("capabilities %v", external.Caps())
	}
	starttls, err := imapclient.DialStartTLS(g.addr[imapStartTLS], &imapclient.Options{TLSConfig: tlsConfig()})
	if err != nil {
		t.Fatal(err)
	}
	defer starttls.Close()
	if err := starttls.Login(alice, password).Wait(); err != nil {
		t.Error(err)
	}
	if err := starttls.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

// An account that is disabled while its login is under way does not get in.
func TestRevokedInBetween(t *testing.T) {
	g := start(t, func(_ *mux.Config, h *imapHandler) {
		h.Backend = &revoker{Backend: h.Backend, accounts: h.Accounts}
	})
	c := g.greeted()
	c.talk("a LOGIN "+alice+" "+quoted(password)+"\r\n", "a"+refused, "* BYE", "EOF")
	if n := g.backend.leaked(); n != 0 {
		t.Errorf("%d sessions neither served nor closed", n)
	}
}

// revoker disables accounts while their backend is being opened.
type revoker struct {
	backend.Backend
	accounts *accounts.Store
}

func (r *revoker) OpenIMAP(ctx context.Context, l *accounts.Login, c *backend.Client) (backend.IMAPSession, error) {
	if err := r.accounts.SetDisabled(ctx, l.Account.ID, true); err != nil {
		return nil, err
	}
	return r.Backend.OpenIMAP(ctx, l, c)
}
