package backend_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/await"
	"posthorn/backend"
)

// What is said on a connection before MAIL.
func TestSubmissionLogins(t *testing.T) {
	masters := func(m backend.Method) func(*backend.ProxyConfig) {
		return func(c *backend.ProxyConfig) {
			c.Submission.Method, c.Submission.User, c.Submission.Password = m, "gateway", "secret"
		}
	}
	inform := func(c *backend.ProxyConfig) { c.Submission.Inform = true }
	local := func(c *backend.ProxyConfig) { c.LocalDomain = "example.org" }
	const ehlo = "EHLO [127.0.0.1]"
	const xclient = "XCLIENT NAME=[UNAVAILABLE] ADDR=203.0.113.5 PORT=4711"
	for _, c := range []struct {
		name    string
		address string
		client  *backend.Client
		edit    []func(*backend.ProxyConfig)
		want    []string
	}{
		{"trusted", alice, here, nil, []string{ehlo}},
		{"trusted, informed", alice, here, []func(*backend.ProxyConfig){inform}, []string{ehlo, xclient, ehlo}},
		{"master", alice, here, []func(*backend.ProxyConfig){masters(backend.Master)},
			[]string{ehlo, "AUTH PLAIN " + b64(alice, "gateway", "secret")}},
		{"master, informed", alice, here, []func(*backend.ProxyConfig){masters(backend.Master), inform, local},
			[]string{ehlo, xclient, ehlo, "AUTH PLAIN " + b64("alice", "gateway", "secret")}},
		{"separator", alice, here, []func(*backend.ProxyConfig){masters(backend.MasterSeparator)},
			[]string{ehlo, "AUTH PLAIN " + b64("", alice+"*gateway", "secret")}},
		{"xclient", alice, here, []func(*backend.ProxyConfig){method(backend.XClient)},
			[]string{ehlo, xclient + " LOGIN=" + alice, ehlo}},
		{"xclient, IPv6", alice, from("[2001:db8::1]:4711"), []func(*backend.ProxyConfig){method(backend.XClient), local},
			[]string{ehlo, "XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=4711 LOGIN=alice", ehlo}},
		{"xclient, IPv4 in IPv6", alice, from("[::ffff:203.0.113.5]:4711"), []func(*backend.ProxyConfig){method(backend.XClient)},
			[]string{ehlo, xclient + " LOGIN=" + alice, ehlo}},
		{"xclient, strange names", "a+b=\u00e9@example.org", here, []func(*backend.ProxyConfig){method(backend.XClient)},
			[]string{ehlo, xclient + " LOGIN=a+2Bb+3D+C3+A9@example.org", ehlo}},
		{"xclient, no address", alice, &backend.Client{}, []func(*backend.ProxyConfig){method(backend.XClient)},
			[]string{ehlo, "XCLIENT NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] LOGIN=" + alice, ehlo}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newSubmissionFake(t, nil)
			s := submitter(t, f.proxy(c.edit...), c.address, c.client)
			if err := s.Mail(alice, nil); err != nil {
				t.Fatal(err)
			}
			s.Logout()
			f.stop()
			want := append(slices.Clone(c.want), "MAIL FROM:<"+alice+"> BODY=8BITMIME")
			for i := range want {
				want[i] = "0 " + want[i]
			}
			if got := f.said("")[:len(want)]; !slices.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

// The user's name is in the PROXY header, which comes first, once.
func TestSubmissionProxyCN(t *testing.T) {
	f := newSubmissionFake(t, nil, func(f *submissionFake) {
		f.before = func(r *bufio.Reader) {
			h, err := proxyproto.Read(r)
			if err != nil {
				t.Error(err)
				return
			}
			raw, err := h.Format()
			if err != nil || !strings.Contains(string(raw), alice) || h.SourceAddr.String() != "203.0.113.5:4711" {
				t.Errorf("got %q, %v", raw, err)
			}
		}
	})
	p := f.proxy(method(backend.ProxyCN), func(c *backend.ProxyConfig) { c.Submission.Upstream.ProxyProtocol = true })
	c := from("203.0.113.5:4711")
	c.TLS = &tls.ConnectionState{Version: tls.VersionTLS13}
	if err := submitter(t, p, alice, c).Mail(alice, nil); err != nil {
		t.Fatal(err)
	}
	if got := f.said("AUTH"); len(got) != 1 || got[0] != "0 AUTH EXTERNAL =" {
		t.Errorf("got %q", got)
	}
}

// A mistake in the gateway's own login is nobody's wrong password, and passes
// when it is mended.
func TestSubmissionLoginRefused(t *testing.T) {
	for _, c := range []struct {
		edit       func(*backend.ProxyConfig)
		step, said string
	}{
		{method(backend.XClient), "XCLIENT", "550 5.7.0 not you\r\n"},
		{method(backend.XClient), "XCLIENT", "503 5.5.1 what\r\n"},
		{method(backend.XClient), "XCLIENT", "250 2.0.0 what\r\n"},
		{func(c *backend.ProxyConfig) {
			c.Submission.Method, c.Submission.User, c.Submission.Password = backend.Master, "gateway", "wrong"
		}, "AUTH", "535 5.7.8 wrong\r\n"},
	} {
		f := newSubmissionFake(t, func(_ int, step string) string {
			if strings.HasPrefix(step, c.step) {
				return c.said
			}
			return ""
		})
		_, err := f.proxy(c.edit).OpenSubmission(context.Background(), loginOf(alice), here)
		if got := heard(err); got != "451 4.3.0 Try again later" {
			t.Errorf("%s: got %q", c.said, got)
		}
	}
}

// A name that holds the separator would make its user a master user.
func TestSubmissionSeparatorInName(t *testing.T) {
	for _, m := range []backend.Method{backend.Master, backend.MasterSeparator} {
		f := newSubmissionFake(t, nil)
		p := f.proxy(method(m), func(c *backend.ProxyConfig) {
			c.Submission.User, c.Submission.Password, c.Submission.Separator = "gateway", "secret", "%"
		})
		_, err := p.OpenSubmission(context.Background(), loginOf("bob%alice@example.org"), here)
		if beginning(err) != "451 4.3.0" || f.opened() != 0 {
			t.Errorf("%s: %v, %d connections", m, err, f.opened())
		}
	}
}

// A key alone opens nothing at a server that wants passwords.
func TestSubmissionNeedsPassword(t *testing.T) {
	f := newSubmissionFake(t, nil)
	_, err := f.proxy(method(""), keepsPasswords).OpenSubmission(context.Background(), loginOf(alice), here)
	if got := beginning(err); got != "530 5.7.0" || f.opened() != 0 {
		t.Errorf("got %q, %d connections", heard(err), f.opened())
	}
}

func TestSubmissionPassword(t *testing.T) {
	f := newSubmissionFake(t, nil)
	p := f.proxy(method(""), keepsPasswords)
	f.checked(p)
	l, err := openWith(p, alice, password)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.OpenSubmission(context.Background(), l, here)
	if err != nil || l.Opened != nil {
		t.Fatal(err, l.Opened)
	}
	for range 2 {
		if err := send(s, strings.NewReader(text), bob); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.said("AUTH"); len(got) != 1 || got[0] != "1 AUTH PLAIN "+b64("", alice, password) {
		t.Errorf("got %q", got)
	}
	s.Logout()
	await.Until(t, "QUIT", func() bool { return len(f.said("QUIT")) == 2 })
}

// Whatever becomes of a password, it was sent once, on one connection.
func TestSubmissionPasswordRefused(t *testing.T) {
	for _, c := range []struct {
		said  string
		wrong bool
		want  string // else
	}{
		{"535 5.7.8 wrong\r\n", true, ""},
		{"535 wrong\r\n" + thenClose, true, ""},
		{"535 wrong\r\n" + thenHang, true, ""},
		{"454 4.7.0 later\r\n", false, "454 4.7.0 later"},
		{"432 4.7.12 change it\r\n", false, "432 4.7.12 change it"},
		{"550 no mail for you\r\n", false, "550 no mail for you"},
		{"250 2.0.0 ok\r\n", false, "454 4.7.0 Temporary authentication failure"},
		{"334 \r\n", false, "454 4.7.0 Temporary authentication failure"},
		{"334 ???\r\n", false, "454 4.7.0 Temporary authentication failure"},
		{"235-\r\n", false, "454 4.7.0 Temporary authentication failure"},
		{thenClose, false, "454 4.7.0 Temporary authentication failure"},
		{thenHang, false, "454 4.7.0 Temporary authentication failure"},
	} {
		f := newSubmissionFake(t, func(_ int, step string) string {
			switch {
			case strings.HasPrefix(step, "AUTH"):
				return c.said
			case step == "*":
				return "501 5.0.0 cancelled\r\n"
			}
			return ""
		})
		_, err := openWith(f.proxy(method(""), keepsPasswords, impatient), alice, password)
		if errors.Is(err, accounts.ErrWrongPassword) != c.wrong || errors.Is(err, accounts.ErrNotAsked) {
			t.Errorf("%q: got %v", c.said, err)
		}
		if got := heard(err); !c.wrong && got != c.want {
			t.Errorf("%q: got %q, want %q", c.said, got, c.want)
		}
		f.stop()
		if n := len(f.said("AUTH")); n != 1 || f.opened() != 1 {
			t.Errorf("%q: %d logins on %d connections", c.said, n, f.opened())
		}
		if strings.Contains(strings.Join(f.said("*"), ""), "*") && !strings.HasPrefix(c.said, "334") {
			t.Errorf("%q: an exchange that was over was given up", c.said)
		}
	}
}

// Nobody's password goes where it cannot be used.
func TestSubmissionPasswordNotSent(t *testing.T) {
	for _, offers := range [][]string{nil, {"AUTH LOGIN CRAM-MD5"}, {"AUTH"}} {
		f := newSubmissionFake(t, nil, func(f *submissionFake) { f.offers = offers })
		_, err := openWith(f.proxy(method(""), keepsPasswords), alice, password)
		if beginning(err) != "454 4.7.0" || !errors.Is(err, accounts.ErrNotAsked) || len(f.said("AUTH")) != 0 {
			t.Errorf("%q: got %v", offers, err)
		}
	}
	f := newSubmissionFake(t, nil)
	p := f.proxy(method(""), keepsPasswords)
	f.stop()
	if _, err := openWith(p, alice, password); beginning(err) != "454 4.7.0" || !errors.Is(err, accounts.ErrNotAsked) {
		t.Errorf("got %v", err)
	}
	for user, given := range map[string]string{"alice*gateway": "secret", "alice": "a\x00b"} {
		if _, err := openWith(p, user, given); !errors.Is(err, accounts.ErrWrongPassword) {
			t.Errorf("%q: got %v", user, err)
		}
	}
}

// A conversation that was opened for a login is closed by whoever cannot use it.
func TestSubmissionOpenedElsewhere(t *testing.T) {
	f, g := newSubmissionFake(t, nil), newSubmissionFake(t, nil)
	l, err := openWith(f.proxy(keepsPasswords), alice, password)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.proxy().OpenSubmission(context.Background(), l, here); err != nil || l.Opened != nil {
		t.Fatal(err)
	}
	await.Until(t, "QUIT", func() bool { return len(f.said("QUIT")) == 1 })

	imapOnly, err := backend.NewProxy(backend.ProxyConfig{Name: "mail"})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = openWith(f.proxy(keepsPasswords), alice, password); err != nil {
		t.Fatal(err)
	}
	_, err = imapOnly.OpenSubmission(context.Background(), l, here)
	if got := beginning(err); got != "550 5.7.1" || l.Opened != nil {
		t.Errorf("got %q", heard(err))
	}
	await.Until(t, "QUIT", func() bool { return len(f.said("QUIT")) == 2 })
}

func TestSubmissionConfig(t *testing.T) {
	for name, edit := range map[string]func(*backend.Server, *backend.ProxyConfig){
		"unknown":               func(s *backend.Server, _ *backend.ProxyConfig) { s.Method = "magic" },
		"master without secret": func(s *backend.Server, _ *backend.ProxyConfig) { s.Method, s.User = backend.Master, "gateway" },
		"CN without a header":   func(s *backend.Server, _ *backend.ProxyConfig) { s.Method = backend.ProxyCN },
		"no way at all":         func(s *backend.Server, _ *backend.ProxyConfig) { s.Method = "" },
		"no address":            func(s *backend.Server, _ *backend.ProxyConfig) { s.Upstream.Addresses = nil },
	} {
		s := &backend.Server{Method: backend.Trusted}
		s.Upstream.Addresses = []string{"127.0.0.1:1"}
		c := backend.ProxyConfig{Name: "mail", Submission: s}
		edit(s, &c)
		if _, err := backend.NewProxy(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A server that repeats the password makes nobody else repeat it.
func TestSubmissionSecretsStay(t *testing.T) {
	for _, repeat := range []func(line string) string{
		func(line string) string { return "501 5.5.2 cannot decode " + line[len("AUTH PLAIN "):] },
		func(string) string { return "535 5.7.8 it is not " + password },
		func(string) string { return "454-4.7.0 later\r\n454 4.7.0 with " + password },
	} {
		for _, m := range []backend.Method{"", backend.Master} {
			f := newSubmissionFake(t, func(_ int, step string) string {
				if strings.HasPrefix(step, "AUTH") {
					return repeat(step) + "\r\n"
				}
				return ""
			})
			var log bytes.Buffer
			p := f.proxy(keepsPasswords, method(m), func(c *backend.ProxyConfig) {
				c.Log, c.Submission.User, c.Submission.Password = zerolog.New(&log), "gateway", password
			})
			var err error
			if m == "" {
				_, err = openWith(p, alice, password)
			} else {
				_, err = p.OpenSubmission(context.Background(), loginOf(alice), here)
			}
			if err == nil {
				t.Fatal("no error")
			}
			written, _ := json.Marshal(password)
			for _, secret := range []string{password, string(written[1 : len(written)-1]), b64("", alice, password), b64(alice, "gateway", password)} {
				if text := log.String() + err.Error() + heard(err); strings.Contains(text, secret) {
					t.Errorf("%q: told %s", m, text)
				}
			}
		}
	}
}
