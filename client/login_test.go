package client_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	gosmtp "github.com/emersion/go-smtp"

	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/await"
	"posthorn/client"
	"posthorn/client/clienttest"
)

// byPassword logs in without a key.
func byPassword(c *client.Config) {
	c.Identity, c.User, c.Password = nil, alice, password
}

// logins returns how often the log tells of a login by a mechanism.
func (g *gateway) logins(mechanism string) int {
	return strings.Count(g.Log.String(), `"mechanism":"`+mechanism+`"`)
}

func TestLogin(t *testing.T) {
	g := start(t)
	later := must(client.NewIdentity(client.Ed25519, "no preauth"))
	g.Register(later, true)
	stranger := must(client.NewIdentity(client.ECDSA, "stranger"))
	tests := []struct {
		name      string
		edit      func(*client.Config)
		mechanism string // of IMAP
		submit    string // of submission
	}{
		{"key", func(*client.Config) {}, "PREAUTH", "EXTERNAL"},
		{"key with its address", func(c *client.Config) { c.User = alice }, "PREAUTH", "EXTERNAL"},
		{"no-preauth key", func(c *client.Config) { c.Identity = later }, "EXTERNAL", "EXTERNAL"},
		{"password", byPassword, "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256-PLUS"},
		{"unknown key, password", func(c *client.Config) {
			c.Identity, c.User, c.Password = stranger, alice, password
		}, "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256-PLUS"},
	}
	for _, tt := range tests {
		for _, kind := range []client.Kind{client.ALPN, client.Web} {
			d := g.dialer(g.network(clienttest.Rules{}), only(kind), tt.edit)
			before := g.logins(tt.mechanism)
			c, err := d.IMAP(within(t, 20*time.Second), nil)
			if err != nil {
				t.Errorf("%s by %s: %v", tt.name, kind, err)
				continue
			}
			if err := c.Logout().Wait(); err != nil {
				t.Error(err)
			}
			c.Close()
			await.Until(t, tt.name+": IMAP by "+tt.mechanism, func() bool { return g.logins(tt.mechanism) == before+1 })

			before = g.logins(tt.submit)
			s, err := d.Submission(within(t, 20*time.Second))
			if err != nil {
				t.Errorf("%s by %s: %v", tt.name, kind, err)
				continue
			}
			if err := s.SendMail(alice, []string{alice}, strings.NewReader("From: <"+alice+">\r\n\r\nx\r\n")); err != nil {
				t.Error(err)
			}
			s.Quit()
			await.Until(t, tt.name+": submission by "+tt.submit, func() bool { return g.logins(tt.submit) == before+1 })
		}
	}
}

// What a gateway refuses, it refuses by every route; the next is not tried.
func TestLoginRefused(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{})
	wrong := g.dialer(n, byPassword, func(c *client.Config) { c.Password = "wrong" })
	_, err := wrong.IMAP(within(t, 20*time.Second), nil)
	var refused *client.LoginError
	if said := new(goimap.Error); !errors.As(err, &refused) || refused.Mechanism != "SCRAM-SHA-256-PLUS" || !errors.As(err, &said) {
		t.Errorf("IMAP: %v", err)
	}
	_, err = wrong.Submission(within(t, 20*time.Second))
	if said := new(gosmtp.SMTPError); !errors.As(err, &refused) || !errors.As(err, &said) || said.Code != 535 {
		t.Errorf("submission: %v", err)
	}
	if got := len(n.Seen()); got != 2 {
		t.Errorf("%d connections were made", got)
	}
	stranger := g.dialer(n, func(c *client.Config) { c.Identity = must(client.NewIdentity(client.ECDSA, "")) })
	if _, err := stranger.IMAP(within(t, 20*time.Second), nil); !errors.Is(err, client.ErrNoMechanism) {
		t.Errorf("IMAP: %v", err)
	}
	if _, err := stranger.Submission(within(t, 20*time.Second)); !errors.Is(err, client.ErrNoMechanism) {
		t.Errorf("submission: %v", err)
	}
	await.Until(t, "all are gone", func() bool { return n.Open() == 0 })
}

// Pins are wanted besides a valid certificate, and do not replace one.
func TestPins(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{})
	pin := func(c *clienttest.Authority) authkeys.Fingerprint {
		return must(authkeys.FromCertificate(c.Certificate())).Fingerprint
	}
	for _, kind := range client.AllRoutes() {
		for name, tt := range map[string]struct {
			edit func(*client.Config)
			want client.Class
		}{
			"its CA's": {func(c *client.Config) { c.Pins = []authkeys.Fingerprint{{1}, pin(g.CA)} }, ""},
			"another":  {func(c *client.Config) { c.Pins = []authkeys.Fingerprint{{1}} }, client.Certificate},
			"an untrusted CA's": {func(c *client.Config) {
				c.Pins, c.RootCAs = []authkeys.Fingerprint{pin(g.CA)}, clienttest.Pool(clienttest.NewAuthority(t, "other"))
			}, client.Certificate},
			"the wrong name": {func(c *client.Config) {
				c.Host, c.Names = "other.example.org", client.Names{IMAP: "other.example.org", Submission: "other.example.org"}
			}, client.Certificate},
		} {
			c, err := g.dialer(n, only(kind), tt.edit).IMAP(within(t, 20*time.Second), nil)
			if err == nil {
				c.Close()
			}
			checkRoute(t, name+" by "+string(kind), err, want{class: tt.want})
		}
	}
}

// A middlebox whose CA the machine trusts carries the octets of the web transport,
// and can neither read them nor use the key. On all other routes it gets no login.
func TestTrustedInspector(t *testing.T) {
	g := start(t)
	box := &clienttest.Inspector{CA: clienttest.NewAuthority(t, "the company's CA")}
	n := g.network(clienttest.Rules{Inspect: box})
	trusting := func(c *client.Config) { c.RootCAs = clienttest.Pool(g.CA, box.CA) }

	c, err := g.dialer(n, trusting).IMAP(within(t, 20*time.Second), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Error(err)
	}
	c.Close()
	if got := g.Sessions.Load(); got != 1 {
		t.Errorf("%d sessions were opened", got)
	}
	if read := box.Read(); bytes.Contains(read, []byte("PREAUTH")) || len(read) < 2000 {
		t.Errorf("the middlebox has read %d octets, and the mail is among them, or none", len(read))
	}
	for _, k := range []client.Kind{client.Dedicated, client.ALPN, client.Name} {
		_, err := g.dialer(n, trusting, only(k)).IMAP(within(t, 20*time.Second), nil)
		checkRoute(t, string(k), err, want{class: client.NotAsked})
		pinned := func(c *client.Config) {
			c.Pins = []authkeys.Fingerprint{must(authkeys.FromCertificate(g.CA.Certificate())).Fingerprint}
		}
		_, err = g.dialer(n, trusting, only(k), byPassword, pinned).IMAP(within(t, 20*time.Second), nil)
		checkRoute(t, string(k), err, want{class: client.Certificate})

		// Without pins the password is not shown either: it is bound to the connection.
		_, err = g.dialer(n, trusting, only(k), byPassword).IMAP(within(t, 20*time.Second), nil)
		if refused := new(client.LoginError); !errors.As(err, &refused) || refused.Mechanism != "SCRAM-SHA-256-PLUS" {
			t.Errorf("%s: %v", k, err)
		}
	}
	if got := g.Sessions.Load(); got != 1 {
		t.Errorf("%d sessions were opened", got)
	}
	if bytes.Contains(box.Read(), []byte(password)) {
		t.Error("the middlebox has read the password")
	}
}

// A login that comes to its end as the time for it does is one that can be used,
// or none.
func TestLoginAtTheLastMoment(t *testing.T) {
	ca, key := clienttest.NewAuthority(t, "CA"), must(client.NewIdentity(client.ECDSA, ""))
	const limit = time.Second
	serve := liar(ca, true, func(c *tls.Conn) {
		_, _ = io.WriteString(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=EXTERNAL] hi\r\n")
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			if strings.Contains(lines.Text(), " AUTHENTICATE ") {
				time.Sleep(limit)
			}
			tag, _, _ := strings.Cut(lines.Text(), " ")
			_, _ = io.WriteString(c, tag+" OK [CAPABILITY IMAP4rev1] done\r\n")
		}
	})
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			d := lieConfig(ca, key, impostor(t, serve), func(c *client.Config) { c.LoginTimeout = limit })
			if s, err := d.Session(t.Context(), alpn.IMAP); err == nil {
				_, wrote := io.WriteString(s, "a NOOP\r\n")
				line, err := bufio.NewReader(s).ReadString('\n')
				if !strings.HasPrefix(line, "a OK") {
					t.Errorf("a session that is dead: %v, %q, %v", wrote, line, err)
				}
				s.Close()
			}
			if c, err := d.IMAP(t.Context(), nil); err == nil {
				if err := c.Noop().Wait(); err != nil {
					t.Errorf("a client that is dead: %v", err)
				}
				c.Close()
			}
		})
	}
}
