package backend_test

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/await"
	"posthorn/backend"
	"posthorn/backend/backendtest"
	"posthorn/backend/upstream"
)

func TestNewProxyRefuses(t *testing.T) {
	at := upstream.Config{Addresses: []string{"127.0.0.1:143"}}
	for name, c := range map[string]backend.ProxyConfig{
		"no address":             {KeepsPasswords: true, IMAP: &backend.Server{}},
		"no way in":              {IMAP: &backend.Server{Upstream: at}},
		"unknown method":         {IMAP: &backend.Server{Upstream: at, Method: "magic"}},
		"submission's method":    {IMAP: &backend.Server{Upstream: at, Method: backend.XClient}},
		"trust":                  {IMAP: &backend.Server{Upstream: at, Method: backend.Trusted}},
		"no master":              {IMAP: &backend.Server{Upstream: at, Method: backend.Master, Password: "x"}},
		"no master's password":   {IMAP: &backend.Server{Upstream: at, Method: backend.MasterSeparator, User: "x"}},
		"NUL in the master":      {IMAP: &backend.Server{Upstream: at, Method: backend.Master, User: "x\x00y", Password: "x"}},
		"CN without header":      {IMAP: &backend.Server{Upstream: at, Method: backend.ProxyCN}},
		"submission without way": {Submission: &backend.Server{Upstream: at}},
	} {
		if _, err := backend.NewProxy(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A mail system without one of the two servers serves the other.
func TestProxyParts(t *testing.T) {
	p, err := backend.NewProxy(backend.ProxyConfig{Name: "none", KeepsPasswords: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, p); !unavailable(err) {
		t.Errorf("IMAP: %v", err)
	}
	if _, err := openKept(t, p, alice, password); !unavailable(err) {
		t.Errorf("IMAP by password: %v", err)
	}
	_, err = p.Passwords(backend.SMTP, clientOf()).Login(t.Context(), alice, nil, password)
	if beginning(err) != "550 5.7.1" || !errors.Is(err, accounts.ErrNotAsked) {
		t.Errorf("submission by password: %v", err)
	}
	if len(p.Status()) != 0 {
		t.Errorf("status %+v", p.Status())
	}
}

// Where users are known by their local part, those of another domain are nobody.
func TestProxyForeignDomain(t *testing.T) {
	imap := backendtest.StartScript(t, dialog(greeting))
	submission := newSubmissionFake(t, nil)
	p := submission.proxy(keepsPasswords, func(c *backend.ProxyConfig) {
		c.LocalDomain = "example.org"
		c.IMAP = &backend.Server{Upstream: upstream.Config{Addresses: []string{imap.Address}}}
		master(c)
	})
	for _, address := range []string{"alice@example.net", "alice@mail.example.org", "alice@xexample.org"} {
		if _, err := p.OpenIMAP(t.Context(), loginOf(address), clientOf()); !unavailable(err) {
			t.Errorf("%s: IMAP: %v", address, err)
		}
		if _, err := openKept(t, p, address, password); !unavailable(err) || !errors.Is(err, accounts.ErrNotAsked) {
			t.Errorf("%s: IMAP by password: %v", address, err)
		}
		if _, err := p.OpenSubmission(t.Context(), loginOf(address), here); beginning(err) != "451 4.3.0" {
			t.Errorf("%s: submission: %v", address, err)
		}
		if _, err := openWith(p, address, password); !errors.Is(err, accounts.ErrNotAsked) {
			t.Errorf("%s: submission by password: %v", address, err)
		}
	}
	if imap.Accepted()+submission.opened() != 0 {
		t.Error("a server was asked")
	}
}

// Whatever was opened elsewhere is closed, not used.
func TestProxyClosesForeign(t *testing.T) {
	s := backendtest.StartScript(t, dialog(greeting, byMaster, loggedIn))
	p := proxy(t, s.Address, master)
	l, foreign := loginOf(alice), new(closer)
	l.Opened = foreign
	session, err := p.OpenIMAP(t.Context(), l, clientOf())
	if err != nil || *foreign != 1 || l.Opened != nil {
		t.Fatalf("%v, closed %d times", err, *foreign)
	}
	verify(t, session, "")

	other := backendtest.StartScript(t, dialog(greeting, byOwnWord, loggedIn))
	opened, err := proxy(t, other.Address).Passwords(backend.IMAP, clientOf()).Login(t.Context(), alice, nil, password)
	if err != nil {
		t.Fatal(err)
	}
	l = loginOf(alice)
	l.Opened = opened
	if session, err = p.OpenIMAP(t.Context(), l, clientOf()); err != nil || s.Accepted() != 2 {
		t.Fatalf("%v, %d connections", err, s.Accepted())
	}
	verify(t, session, "")
}

// A busy server is up, a silent one is not; the health checks of both parts
// run, and their metrics stand beside those of other mail systems.
func TestProxyStatus(t *testing.T) {
	imap := backendtest.StartScript(t, dialog(greeting, byMaster, loggedIn, byOwnWord, "p2 NO no\r\n"))
	busy := backendtest.StartScript(t, dialog("* BYE too many\r\n"))
	submission := backendtest.StartScript(t, backendtest.Script{Greet: []backendtest.Act{backendtest.Close()}})
	registry := prometheus.NewPedanticRegistry()
	for _, name := range []string{"one", "two"} {
		p := proxy(t, imap.Address, master, func(c *backend.ProxyConfig) {
			c.Name, c.Log = name, zerolog.Nop()
			c.IMAP.Upstream.Addresses = []string{imap.Address, busy.Address}
			c.Submission = &backend.Server{Upstream: upstream.Config{Addresses: []string{submission.Address}}}
		})
		registry.MustRegister(p.Collectors()...)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		await.Until(t, "the checks", func() bool { return !p.Status()[2].Up })
		status := p.Status()
		if len(status) != 3 || !status[0].Up || !status[1].Up || status[0].Service != "imap" || status[2].Service != "submission" {
			t.Errorf("status %+v", status)
		}
		session, err := open(t, p)
		if err != nil {
			t.Fatal(err)
		}
		session.Close()
		_, _ = openKept(t, p, alice, password)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n, err := testutil.GatherAndCount(registry, "posthorn_backend_logins_total"); n != 4 || err != nil {
		t.Errorf("%d kinds of logins, %v", n, err)
	}
}
