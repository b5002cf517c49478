package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"posthorn/accounts"
	"posthorn/backend"
	"posthorn/handlers/smtp"
	"posthorn/mux"
)

// What clients are offered is what the backend can do too.
func TestExtensions(t *testing.T) {
	for _, c := range []struct {
		can  backend.Submission
		want string
	}{
		{backend.Submission{}, "PIPELINING ENHANCEDSTATUSCODES CHUNKING SIZE 1000"},
		{backend.Submission{MaxSize: 900, DSN: true}, "PIPELINING ENHANCEDSTATUSCODES CHUNKING DSN SIZE 900"},
		{backend.Submission{MaxSize: 5000, EightBitMIME: true, UTF8: true, DSN: true},
			"PIPELINING 8BITMIME ENHANCEDSTATUSCODES CHUNKING SMTPUTF8 DSN SIZE 1000"},
	} {
		g := start(t, func(h *smtp.Handler, _ *mux.Config) {
			h.MaxMessageSize = 1000
			h.Backend.(*spool).can = c.can
		})
		for name, cl := range map[string]*client{"stranger": g.dial(), "key": g.dial(g.key), "cleartext": g.dialClear()} {
			var got []string
			for line := range strings.Lines(cl.cmd("EHLO x", "250")) {
				keyword, _, _ := strings.Cut(strings.TrimSpace(line[4:]), " ")
				if !slices.Contains([]string{serverName, "AUTH", "LIMITS", "STARTTLS"}, keyword) {
					got = append(got, strings.TrimSpace(line[4:]))
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s: got %q, want %q", name, got, c.want)
			}
		}
	}
}

func TestDSN(t *testing.T) {
	g := start(t, nil)
	g.spool.can.DSN = true
	c := g.login()
	c.cmd("MAIL FROM:<alice@localhost> RET=hdrs ENVID=a+2Bb SMTPUTF8 AUTH=bob@localhost", "250")
	c.cmd("RCPT TO:<bob@localhost> NOTIFY=SUCCESS,delay ORCPT=rfc822;Bob+40x", "250")
	c.data(text, "250")
	m := g.one()
	if m.mail.Return != gosmtp.DSNReturnHeaders || m.mail.EnvelopeID != "a+b" || fmt.Sprint(m.rcpt.Notify) != "[SUCCESS DELAY]" ||
		m.rcpt.OriginalRecipient != "Bob@x" || m.mail.Auth != nil {
		t.Errorf("got %+v, %+v", m.mail, m.rcpt)
	}

	for _, parameter := range []string{
		"RET=ALL", "RET", "ENVID=", "ENVID=a+2b", "ENVID=a+2", "AUTH=a+2", "AUTH=", "ENVID=a+0D+0AX", "ENVID=\u00e9", "ENVID=a=b",
		"ENVID=" + strings.Repeat("x", 101), "RET=FULL RET=FULL", "ENVID=a envid=b",
	} {
		c.cmd("MAIL FROM:<alice@localhost> SMTPUTF8 "+parameter, "50")
	}
	c.cmd("MAIL FROM:<alice@localhost>", "250")
	for parameter, want := range map[string]string{
		"NOTIFY=": "501", "NOTIFY=NEVER,SUCCESS": "501", "NOTIFY=SUCCESS,SUCCESS": "501", "NOTIFY=ALWAYS": "501",
		"ORCPT=rfc822": "501", "ORCPT=rfc822;": "501", "ORCPT=;x": "501", "ORCPT=x400;x": "501", "ORCPT=rfc822;a+0A": "501",
		"ORCPT=utf-8;\\x{85}": "501", "ORCPT=utf-8;\u00e9@x": "553 5.6.7",
		"ORCPT=rfc822;" + strings.Repeat("x", 500): "501", "NOTIFY=NEVER NOTIFY=NEVER": "501", "RET=FULL": "555",
	} {
		c.cmd("RCPT TO:<bob@localhost> "+parameter, want)
	}

	g.spool.can.DSN = false
	c.cmd("RCPT TO:<bob@localhost> NOTIFY=NEVER", "555")
	c.cmd("RSET", "250")
	c.cmd("MAIL FROM:<alice@localhost> RET=FULL", "555")
}

// What go-smtp would take for two parameters is not passed as the value of one.
func TestParameterInParameter(t *testing.T) {
	g := start(t, nil)
	g.spool.can.DSN = true
	c := g.login()
	for _, space := range []string{"\t", "\u0085", "\u00a0", "\u2003"} {
		c.cmd("MAIL FROM:<alice@localhost> SMTPUTF8="+space+"RET=FULL", "501 5.5.4")
		c.cmd("MAIL FROM:<alice@localhost> SMTPUTF8", "250")
		c.cmd("RCPT TO:<bob@localhost> ORCPT=utf-8;x"+space+"NOTIFY=NEVER", "501 5.5.4")
		c.cmd("RSET", "250")
	}
	c.cmd("MAIL FROM:<alice@localhost> SMTPUTF8=yes", "501 5.5.4") // RFC 6531 section 3.4
}

// Where the backend decides whose name an account sends in, the gateway does
// not: neither in the envelope nor in the message.
func TestAnySender(t *testing.T) {
	const foreign = "From: Boss <boss@example.org>\r\nSender: s@example.org\r\n\r\nbody"
	for policy, twice := range map[smtp.FromPolicy]string{smtp.FromRefuse: "550 5.6.0", smtp.FromReplace: "250"} {
		g := start(t, func(h *smtp.Handler, _ *mux.Config) { h.From = policy })
		g.spool.can.AnySender = true
		c := g.login()
		c.cmd("MAIL FROM:<Boss@Example.ORG>", "250")
		c.cmd("RCPT TO:<bob@localhost>", "250")
		c.data(foreign, "250")
		if m := g.one(); m.from != "Boss@Example.ORG" || !strings.HasSuffix(m.text, foreign+"\r\n") {
			t.Errorf("%s: got %+v", policy, m)
		}
		for _, line := range []string{`MAIL FROM:<"a b"@example.org>`, "MAIL FROM:<a..b@example.org>", "MAIL FROM:<boss>"} {
			c.cmd(line, "5") // what is no address goes nowhere
		}
		c.cmd("MAIL FROM:<boss@example.org>", "250")
		c.cmd("RCPT TO:<bob@localhost>", "250")
		c.data("From: boss@example.org\r\nFrom: chef@example.org\r\n\r\nbody", twice)
	}
}

// What a backend says reaches the client as it is, and only refusals do.
func TestBackendRefusals(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{reply(450, gosmtp.EnhancedCode{4, 7, 1}, "slow down"), "450 4.7.1 slow down\r\n"},
		{reply(523, gosmtp.NoEnhancedCode, "Encryption Needed"), "523 Encryption Needed\r\n"},
		{reply(550, gosmtp.EnhancedCode{5, 7, 1}, "one\ntwo"), "550-5.7.1 one\r\n550 5.7.1 two\r\n"},
		{reply(550, gosmtp.NoEnhancedCode, "one\ntwo"), "550-one\r\n550 two\r\n"},
		{reply(250, gosmtp.EnhancedCode{2, 0, 0}, "taken"), "451 4.3.0 Try again later\r\n"},
		{reply(354, gosmtp.NoEnhancedCode, "go on"), "451 4.3.0 Try again later\r\n"},
		{errors.New("some detail"), "451 4.3.0 Try again later\r\n"},
	} {
		for _, step := range []string{"MAIL", "."} {
			g := start(t, nil)
			g.spool.reply = func(at string) error {
				if at == step {
					return c.err
				}
				return nil
			}
			cl := g.login()
			got := cl.cmd("MAIL FROM:<alice@localhost>", "")
			if step == "." {
				cl.cmd("RCPT TO:<bob@localhost>", "250")
				got = cl.data(text, "")
			}
			if got != c.want {
				t.Errorf("%s: got %q, want %q", step, got, c.want)
			}
			if n := len(g.spool.taken()); n != 0 {
				t.Errorf("%d messages were taken", n)
			}
		}
	}
}

func reply(code int, enhanced gosmtp.EnhancedCode, text string) error {
	return &gosmtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}

// keeper is a mail system that keeps passwords.
type keeper struct {
	spool  *spool
	err    error
	during func() // when not nil, what happens while it looks a password up
	opened []*spoolSession
}

func (k *keeper) Keeps(string, *accounts.Account) bool { return true }

func (k *keeper) Login(_ context.Context, _ string, _ *accounts.Account, given string) (io.Closer, error) {
	switch {
	case k.err != nil:
		return nil, k.err
	case given != "theirs":
		return nil, accounts.ErrWrongPassword
	}
	if k.during != nil {
		k.during()
	}
	s := k.spool.session(context.Background())
	k.opened = append(k.opened, s)
	return s, nil
}

func (g *gateway) keep() *keeper {
	k := &keeper{spool: g.spool}
	g.spool.passwords = k
	return k
}

func auth(user, password string) string { return "AUTH PLAIN " + b64("\x00"+user+"\x00"+password) }

// The conversation that took the password is the one that mail is sent on, for
// as long as the client is there, whatever is refused on it.
func TestBackendPassword(t *testing.T) {
	g := start(t, nil)
	k := g.keep()
	c := g.dial()
	c.cmd("EHLO x", "250")
	c.cmd(auth("alice@localhost", password), "535 5.7.8")
	c.cmd(auth("alice@localhost", "theirs"), "235")
	c.cmd("MAIL FROM:<bob@localhost>", "550 5.7.1")
	g.spool.reply = func(string) error { return reply(550, gosmtp.EnhancedCode{5, 7, 1}, "no") }
	c.cmd("MAIL FROM:<alice@localhost>", "550 5.7.1 no")
	g.spool.reply = nil
	for range 2 {
		c.envelope()
		c.data(text, "250")
	}
	c.cmd("QUIT", "221")
	c.wantEnd()
	g.stop()
	if m := g.spool.taken(); len(m) != 2 || m[0].session != 1 || m[1].session != 1 || !k.opened[0].closed {
		t.Errorf("got %+v", m)
	}
}

// A first login makes the account.
func TestBackendPasswordOfStranger(t *testing.T) {
	g := start(t, nil)
	g.keep()
	c := g.dial()
	c.cmd("EHLO x", "250")
	c.cmd(auth("carol@localhost", "theirs"), "235")
	c.cmd("MAIL FROM:<carol@localhost>", "250")
}

// Who logs in with a key first gets rid of that conversation.
func TestBackendPasswordAfterKey(t *testing.T) {
	g := start(t, nil)
	k := g.keep()
	c := g.login()
	c.cmd("MAIL FROM:<alice@localhost>", "250")
	c.cmd("RSET", "250")
	c.cmd(auth("alice@localhost", "theirs"), "235")
	c.envelope()
	c.data(text, "250")
	if m := g.one(); m.session != 2 || k.opened[0].closed {
		t.Errorf("got %+v", m)
	}
}

func TestBackendPasswordRefusals(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{accounts.ErrWrongPassword, "535 5.7.8 "},
		{fmt.Errorf("AUTH: %w", reply(432, gosmtp.EnhancedCode{4, 7, 12}, "change it")), "432 4.7.12 change it\r\n"},
		{fmt.Errorf("AUTH: %w", reply(421, gosmtp.NoEnhancedCode, "going")), "421 going\r\n"},
		{fmt.Errorf("AUTH: %w", reply(235, gosmtp.EnhancedCode{2, 0, 0}, "welcome")), "451 4.3.0 "},
		{errors.New("some detail"), "454 4.7.0 Temporary authentication failure\r\n"},
	} {
		g := start(t, nil)
		g.keep().err = c.err
		cl := g.dial()
		cl.cmd("EHLO x", "250")
		cl.cmd(auth("alice@localhost", "theirs"), c.want)
		if c.want[:3] != "421" {
			cl.cmd("MAIL FROM:<alice@localhost>", "530")
		}
	}
}

// Whoever is disabled while the password is being looked up is not logged in.
func TestDisabledDuringLogin(t *testing.T) {
	g := start(t, nil)
	k := g.keep()
	k.during = func() {
		if err := g.accounts.SetDisabled(context.Background(), g.alice.ID, true); err != nil {
			t.Error(err)
		}
	}
	c := g.dial()
	c.cmd("EHLO x", "250")
	c.cmd(auth("alice@localhost", "theirs"), "421 4.7.0 ")
	c.wantEnd()
	if len(k.opened) != 1 || !k.opened[0].closed {
		t.Errorf("got %+v", k.opened)
	}
}

// A conversation that its client does not get is closed.
func TestBackendPasswordRefusedHere(t *testing.T) {
	g := start(t, func(_ *smtp.Handler, c *mux.Config) { c.Limits.ConnsPerAccount = 1 })
	k := g.keep()
	g.login().cmd("NOOP", "250")
	c := g.dial()
	c.cmd("EHLO x", "250")
	c.cmd(auth("alice@localhost", "theirs"), "421 ")
	c.wantEnd()
	g.stop()
	if len(k.opened) != 1 || !k.opened[0].closed {
		t.Errorf("got %+v", k.opened)
	}
}

// An account that has moved to another backend is not left at the old one.
func TestBackendMoved(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.envelope()
	c.data(text, "250")
	if err := g.accounts.SetBackend(context.Background(), g.alice.ID, "elsewhere"); err != nil {
		t.Fatal(err)
	}
	c.cmd("MAIL FROM:<alice@localhost>", "530")
	c.envelope() // the key logs in anew
	c.data(text, "250")
	if m := g.spool.taken(); len(m) != 2 || m[0].session != 1 || m[1].session != 2 {
		t.Errorf("got %+v", m)
	}
}

// hung is a client whose message is with a backend that does not answer.
func (g *gateway) hung() *client {
	g.t.Helper()
	g.spool.started, g.spool.hang = make(chan struct{}, 1), true
	c := g.login()
	c.envelope()
	c.cmd("DATA", "354")
	c.send(text + ".\r\n")
	<-g.spool.started
	return c
}

// A backend that does not answer does not hold up the end of a login.
func TestRevokedBeforeHungBackend(t *testing.T) {
	g := start(t, nil)
	c := g.hung()
	g.CloseAccount(g.alice.ID, func(mux.Info) bool { return true }, mux.ErrRevoked)
	c.want("451 4.3.0 ")
	c.want("421 4.7.0 ")
	c.wantEnd()
}

// A backend that does not answer does not hold up a shutdown.
func TestDrainOfHungBackend(t *testing.T) {
	g := start(t, nil)
	g.hung()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := g.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
