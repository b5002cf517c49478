package backend_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"posthorn/await"
	"posthorn/backend"
)

// A connection that was left is used again by the same account from the same
// address, and by nobody else.
func TestSubmissionReuse(t *testing.T) {
	first := loginOf(alice).Account.ID
	for _, c := range []struct {
		name    string
		edit    []func(*backend.ProxyConfig)
		account string
		next    string
		client  *backend.Client
		conns   int
	}{
		{"same", nil, first, alice, from("203.0.113.5:9999"), 1},
		{"xclient", []func(*backend.ProxyConfig){method(backend.XClient)}, first, alice, from("203.0.113.5:9999"), 1},
		{"another account", nil, "other", bob, here, 2},
		{"another account of that name", nil, "other", alice, here, 2},
		{"another name of the account", nil, first, bob, here, 2},
		{"another address", nil, first, alice, from("203.0.113.6:4711"), 2},
		{"no time", []func(*backend.ProxyConfig){func(c *backend.ProxyConfig) { c.SubmissionTimeouts.Idle = 1 }}, first, alice, here, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newSubmissionFake(t, nil)
			p := f.proxy(c.edit...)
			stop := f.checked(p)
			s := submitter(t, p, alice, here)
			if err := send(s, strings.NewReader(text), bob); err != nil {
				t.Fatal(err)
			}
			s.Logout()
			next := loginOf(c.next)
			next.Account.ID = c.account
			s, err := p.OpenSubmission(context.Background(), next, c.client)
			if err != nil {
				t.Fatal(err)
			}
			if err := send(s, strings.NewReader(text), bob); err != nil {
				t.Fatal(err)
			}
			s.Logout()
			if n := f.opened() - 1; n != c.conns || len(f.taken()) != 2 {
				t.Errorf("%d messages on %d connections", len(f.taken()), n)
			}
			if n := len(f.said("RSET")); n != 2-c.conns {
				t.Errorf("%d RSET", n)
			}
			stop()
			await.Until(t, "QUIT", func() bool { return len(f.said("QUIT")) == 1+c.conns })
		})
	}
}

// Nothing is kept for those whose login was revoked, or after the end.
func TestSubmissionNotKept(t *testing.T) {
	f := newSubmissionFake(t, nil)
	p := f.proxy()
	stop := f.checked(p)
	ctx, cancel := context.WithCancel(context.Background())
	s, err := p.OpenSubmission(ctx, loginOf(alice), here)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	s.Logout()
	await.Until(t, "QUIT", func() bool { return len(f.said("QUIT")) == 2 })
	stop()
	submitter(t, p, alice, here).Logout()
	await.Until(t, "QUIT", func() bool { return len(f.said("QUIT")) == 3 })
}

// Idle connections are few, and go when their time is over.
func TestSubmissionIdleBounds(t *testing.T) {
	f := newSubmissionFake(t, nil)
	p := f.proxy()
	stop := f.checked(p)
	leave := func(account string, n int) {
		for range n {
			l := loginOf(alice)
			l.Account.ID = account
			s, err := p.OpenSubmission(context.Background(), l, here)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Logout()
		}
	}
	live := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.open
	}
	leave("one", 10)
	await.Until(t, "few of an account", func() bool { return live() == 2 })
	for i := range 60 {
		leave(fmt.Sprint(i), 1)
	}
	await.Until(t, "few of all", func() bool { return live() == 50 })
	stop()
	await.Until(t, "none behind a gateway that has stopped", func() bool { return live() == 0 })

	p = f.proxy(func(c *backend.ProxyConfig) { c.SubmissionTimeouts.Idle = 100 * time.Millisecond })
	run(t, p)
	leave("one", 2)
	await.Until(t, "none in the end", func() bool { return live() == 0 })
}

// A connection that died while it was idle costs no message, and no message is
// begun twice for it.
func TestSubmissionStale(t *testing.T) {
	for name, c := range map[string]struct {
		step, said string
		parked     bool
	}{
		"closed, parked":          {"250", thenClose, true},
		"RSET refused, parked":    {"RSET", "421 4.4.2 timeout\r\n" + thenClose, true},
		"RSET garbled, parked":    {"RSET", "250 ok\r\n250 ok\r\n", true},
		"MAIL refused, parked":    {"MAIL", "421 4.4.2 timeout\r\n" + thenClose, true},
		"MAIL unanswered, parked": {"MAIL", thenClose, true},
		"MAIL refused":            {"MAIL", "421 4.4.2 timeout\r\n" + thenClose, false},
		"MAIL unanswered":         {"MAIL", thenClose, false},
		"silent":                  {"MAIL", thenHang, false},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			stale := false
			f := newSubmissionFake(t, func(conn int, step string) string {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case conn != 1:
				case step == "." && c.step == "250":
					return "250 2.0.0 queued\r\n" + thenClose
				case stale && strings.HasPrefix(step, c.step):
					return c.said
				}
				return ""
			})
			p := f.proxy(impatient)
			f.checked(p)
			s := submitter(t, p, alice, here)
			if err := send(s, strings.NewReader(text), bob); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			stale = true
			mu.Unlock()
			if c.parked {
				s.Logout()
				s = submitter(t, p, alice, here)
			}
			if err := send(s, strings.NewReader(text), bob); err != nil {
				t.Error(err)
			}
			if n := len(f.taken()); n != 2 || f.opened() != 3 {
				t.Errorf("%d messages on %d connections", n, f.opened()-1)
			}
		})
	}
}

// It is tried again once, and only before anything was begun.
func TestSubmissionStaleOnce(t *testing.T) {
	f := newSubmissionFake(t, func(conn int, step string) string {
		if conn > 0 && strings.HasPrefix(step, "MAIL") {
			return thenClose
		}
		return ""
	})
	s := submitter(t, f.proxy(), alice, here)
	if err := send(s, strings.NewReader(text), bob); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.conns[0].Close()
	f.mu.Unlock()
	if got := beginning(s.Mail(alice, nil)); got != "451 4.4.2" || f.opened() != 2 {
		t.Errorf("got %q on %d connections", got, f.opened())
	}
	if got := beginning(s.Rcpt(bob, nil)); got != "451 4.4.2" {
		t.Errorf("got %q", got)
	}
	if got := beginning(s.Data(strings.NewReader(text))); got != "451 4.4.2" {
		t.Errorf("got %q", got)
	}
	if got := beginning(s.Mail(alice, nil)); got != "451 4.4.2" || f.opened() != 3 { // a new message, a new connection
		t.Errorf("got %q on %d connections", got, f.opened())
	}
}

// Without the password there is no other connection: the client has to come
// again with it.
func TestSubmissionPasswordLost(t *testing.T) {
	f := newSubmissionFake(t, func(_ int, step string) string {
		if step == "." {
			return thenClose
		}
		return ""
	})
	p := f.proxy(keepsPasswords)
	s := sessionWith(t, p, alice, password)
	if got := beginning(send(s, strings.NewReader(text), bob)); got != "451 4.4.2" {
		t.Errorf("got %q", got)
	}
	if got := beginning(s.Mail(alice, nil)); got != "421 4.4.2" || f.opened() != 1 {
		t.Errorf("got %q on %d connections", got, f.opened())
	}
}

// Nor is there another when it is MAIL that finds the connection lost, although
// the gateway could log in by itself; and nobody gets one that a password opened.
func TestSubmissionPasswordNotReplaced(t *testing.T) {
	var lost atomic.Bool
	f := newSubmissionFake(t, func(_ int, step string) string {
		if strings.HasPrefix(step, "MAIL") && lost.Load() {
			return thenClose
		}
		return ""
	})
	p := f.proxy(keepsPasswords, func(c *backend.ProxyConfig) { c.SubmissionTimeouts.Idle = time.Hour })
	f.checked(p)
	s := sessionWith(t, p, alice, password)
	if err := send(s, strings.NewReader(text), bob); err != nil {
		t.Fatal(err)
	}
	lost.Store(true)
	if got := beginning(s.Mail(alice, nil)); got != "451 4.4.2" || f.opened() != 2 {
		t.Errorf("got %q on %d connections", got, f.opened()-1)
	}
	sessionWith(t, p, alice, password).Logout()
	await.Until(t, "QUIT", func() bool { return len(f.said("QUIT")) == 2 })
}

// A refused message costs no connection, and what was begun of it is forgotten.
func TestSubmissionAfterRefusals(t *testing.T) {
	var refused atomic.Bool // the first message
	f := newSubmissionFake(t, func(_ int, step string) string {
		if step == "MAIL FROM:<no@example.org> BODY=8BITMIME" || step == "RCPT TO:<no@example.org>" ||
			step == "." && refused.CompareAndSwap(false, true) {
			return "550 5.7.1 no\r\n"
		}
		return ""
	})
	s := submitter(t, f.proxy(), alice, here)
	for _, begin := range []func() error{
		func() error { return s.Mail("no@example.org", nil) },
		func() error { return errors.Join(s.Mail(alice, nil), s.Rcpt("no@example.org", nil)) },
		func() error { return send(s, strings.NewReader(text), bob) },
	} {
		if got := beginning(begin()); got != "550 5.7.1" {
			t.Errorf("got %q", got)
		}
		s.Reset()
		s.Reset() // costs nothing
	}
	if err := send(s, strings.NewReader(text), bob); err != nil || f.opened() != 1 || len(f.said("RSET")) != 3 {
		t.Errorf("%v; %d connections, %q", err, f.opened(), f.said("RSET"))
	}
}

// Many at once get neither in each other's way nor on each other's connections.
func TestSubmissionConcurrently(t *testing.T) {
	f := newSubmissionFake(t, nil)
	p := f.proxy(method(backend.XClient))
	f.checked(p)
	const people, each = 8, 10
	var all sync.WaitGroup
	for i := range people {
		all.Go(func() {
			for range each {
				l := loginOf(fmt.Sprintf("u%d@example.org", i))
				l.Account.ID = fmt.Sprint(i)
				s, err := p.OpenSubmission(context.Background(), l, here)
				if err != nil {
					t.Error(err)
					return
				}
				err = errors.Join(s.Mail(l.Address, nil), s.Rcpt(bob, nil), s.Data(strings.NewReader(text)), s.Logout())
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := len(f.taken()); n != people*each {
		t.Errorf("%d messages", n)
	}
	owner := map[string]string{}
	for _, line := range f.said("") {
		conn, line, _ := strings.Cut(line, " ")
		if _, user, ok := strings.Cut(line, "LOGIN="); ok {
			owner[conn] = user
		}
		if rest, ok := strings.CutPrefix(line, "MAIL FROM:<"); ok && !strings.HasPrefix(rest, owner[conn]+">") {
			t.Errorf("%s on a connection of %s", line, owner[conn])
		}
	}
}
