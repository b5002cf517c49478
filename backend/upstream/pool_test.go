package upstream_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/await"
	"posthorn/backend/upstream"
	"posthorn/socket"
)

func TestNew(t *testing.T) {
	for _, addresses := range [][]string{
		nil, {""}, {"mail"}, {":143"}, {"mail:"}, {"unix:"}, {"a:1:2"}, {"a:1", "b:1", "a:1"},
	} {
		if _, err := upstream.New(upstream.Config{Addresses: addresses}); err == nil {
			t.Errorf("%q: no error", addresses)
		}
	}
}

func TestDial(t *testing.T) {
	tcp := serve(t, says(greeting+"* more\r\n"))
	unix := serveOn(t, "unix", filepath.Join(t.TempDir(), "s"), says(greeting+"* more\r\n"))
	for _, s := range []*server{tcp, unix} {
		p := newPool(t, upstream.Config{Backend: "mail", Service: "imap", Addresses: []string{s.address}})
		c := dial(t, p, upstream.Header{})
		if c.Address() != s.address {
			t.Errorf("Address: %s, want %s", c.Address(), s.address)
		}
		if _, ok := socket.Of(c.Bare()); !ok {
			t.Errorf("Conn is a %T", c.Bare())
		}
		if line, err := c.ReadLine(100); line != "* more" || err != nil {
			t.Errorf("ReadLine: %q, %v", line, err)
		}
		got := p.Status()[0]
		want := upstream.Status{Backend: "mail", Service: "imap", Address: s.address, Up: true, Since: got.Since, Conns: 1}
		if got != want {
			t.Errorf("Status: %+v, want %+v", got, want)
		}
		_ = c.Close()
		_ = c.Close()
		if n := p.Status()[0].Conns; n != 0 {
			t.Errorf("%d connections after Close", n)
		}
	}
}

// closedPort is an address that refuses connections. The system gives its port to
// nobody who takes any, as it may do with one that was listened on before.
const closedPort = "127.0.0.1:1"

// endless sends one line as long as it is read.
func endless(c net.Conn) {
	for err := error(nil); err == nil; {
		_, err = c.Write(make([]byte, 1<<16))
	}
}

func TestFailover(t *testing.T) {
	good := serve(t, says(greeting))
	bad := map[string]string{
		"refuses":          closedPort,
		"closes":           serve(t, func(net.Conn) {}).address,
		"is silent":        serve(t, says("")).address,
		"sends garbage":    serve(t, says("\x00\xff\r\n")).address,
		"sends no CR":      serve(t, says("* OK\n")).address,
		"long line":        serve(t, says(strings.Repeat("x", 1<<20)+"\r\n")).address,
		"is endless":       serve(t, endless).address,
		"breaks off":       serve(t, func(c net.Conn) { _, _ = c.Write([]byte("* OK rea")) }).address,
		"has no socket":    "unix:" + filepath.Join(t.TempDir(), "none"),
		"has no such name": "nonexistent.invalid:143",
	}
	for name, address := range bad {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, upstream.Config{Addresses: []string{address, good.address}, Timeout: time.Second})
			for range 2 {
				if c := dial(t, p, upstream.Header{}); c.Address() != good.address {
					t.Errorf("connected to %s", c.Address())
				}
			}
			if s := p.Status(); s[0].Up || s[0].Error == "" || s[0].Conns != 0 || !s[1].Up {
				t.Errorf("Status: %+v", s)
			}
		})
	}
}

func TestNoneIsUp(t *testing.T) {
	p := newPool(t, upstream.Config{Addresses: []string{closedPort, serve(t, says("\r\n")).address}})
	for range 2 { // while they are up, and when they are down
		_, err := p.Dial(context.Background(), upstream.Header{})
		if !errors.Is(err, upstream.ErrUnavailable) {
			t.Fatalf("error %v", err)
		}
		for _, s := range p.Status() {
			if s.Up || s.Conns != 0 || !strings.Contains(err.Error(), s.Address+": ") {
				t.Errorf("error %v, status %+v", err, s)
			}
		}
	}
}

// TestSilentServers dials addresses that accept connections and say nothing:
// not all of them are tried for one client.
func TestSilentServers(t *testing.T) {
	var servers []*server
	var addresses []string
	for range 5 {
		servers = append(servers, serve(t, says("")))
		addresses = append(addresses, servers[len(servers)-1].address)
	}
	p := newPool(t, upstream.Config{Addresses: addresses, Timeout: 100 * time.Millisecond})
	for dials := range 3 {
		_, err := p.Dial(context.Background(), upstream.Header{})
		if !errors.Is(err, upstream.ErrUnavailable) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("error %v", err)
		}
		tries := 0
		for _, s := range servers {
			tries += s.accepted()
		}
		if tries > 3*(dials+1) {
			t.Errorf("%d tries in %d dials", tries, dials+1)
		}
	}
	if s := p.Status()[0]; s.Up || !strings.Contains(s.Error, "timeout") {
		t.Errorf("Status: %+v", s)
	}
}

// switched is a handler that greets while it is told to, and else says a text.
func switched(on *atomic.Bool, otherwise string) func(net.Conn) {
	return func(c net.Conn) {
		if on.Load() {
			says(greeting)(c)
		} else {
			says(otherwise)(c)
		}
	}
}

func TestEndOfOutageIsNoticed(t *testing.T) {
	var on atomic.Bool
	s := serve(t, switched(&on, "* NO\r\n"))
	p := newPool(t, upstream.Config{Addresses: []string{s.address}})
	if _, err := p.Dial(context.Background(), upstream.Header{}); !errors.Is(err, upstream.ErrUnavailable) {
		t.Fatalf("error %v", err)
	}
	on.Store(true)
	dial(t, p, upstream.Header{})
	if s := p.Status()[0]; !s.Up || s.Error != "" {
		t.Errorf("Status: %+v", s)
	}
}

// TestFewTriesOfDownAddress has many dial a server that is down and slow to
// say so: a few try, and that serves for all.
func TestFewTriesOfDownAddress(t *testing.T) {
	for _, recovers := range []bool{false, true} {
		release := make(chan struct{})
		var down, at, most, tries atomic.Int32
		p := newPool(t, upstream.Config{
			Addresses: []string{serve(t, says(greeting)).address},
			Open: func(context.Context, *upstream.Conn) error {
				if down.Load() == 0 {
					return errors.New("down")
				}
				tries.Add(1)
				n := at.Add(1)
				defer at.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				<-release
				if recovers {
					return nil
				}
				return errors.New("still down")
			},
		})
		if _, err := p.Dial(context.Background(), upstream.Header{}); !errors.Is(err, upstream.ErrUnavailable) {
			t.Fatal(err)
		}
		down.Store(1)
		const users = 100
		var all sync.WaitGroup
		var started, ok atomic.Int32
		for range users {
			all.Go(func() {
				started.Add(1)
				c, err := p.Dial(context.Background(), upstream.Header{})
				if err == nil {
					ok.Add(1)
					_ = c.Close()
				} else if !errors.Is(err, upstream.ErrUnavailable) {
					t.Error(err)
				}
			})
		}
		await.Until(t, "tries", func() bool { return at.Load() == 3 && started.Load() == users })
		close(release)
		all.Wait()
		switch {
		case recovers && ok.Load() != users:
			t.Errorf("%d of %d were served", ok.Load(), users)
		case !recovers && (ok.Load() != 0 || most.Load() != 3 || tries.Load() > users/5):
			t.Errorf("%d were served, %d tries, %d at a time", ok.Load(), tries.Load(), most.Load())
		}
		if n := p.Status()[0].Conns; n != 0 {
			t.Errorf("%d connections are left", n)
		}
	}
}

// TestOldFailure has a try fail that began before the address went down and
// came back: that is no news.
func TestOldFailure(t *testing.T) {
	results := make(chan chan error)
	p := newPool(t, upstream.Config{
		Addresses: []string{serve(t, says(greeting)).address},
		Open: func(context.Context, *upstream.Conn) error {
			result := make(chan error)
			results <- result
			return <-result
		},
	})
	begin := func() (result chan<- error, done <-chan error) {
		failed := make(chan error)
		go func() {
			c, err := p.Dial(context.Background(), upstream.Header{})
			if err == nil {
				_ = c.Close()
			}
			failed <- err
		}()
		return <-results, failed
	}
	failure := errors.New("failure")
	old, oldDone := begin()
	for _, want := range []error{failure, nil} {
		result, done := begin()
		result <- want
		if err := <-done; !errors.Is(err, want) {
			t.Fatalf("error %v", err)
		}
	}
	old <- failure
	if err := <-oldDone; !errors.Is(err, failure) {
		t.Fatalf("error %v", err)
	}
	if s := p.Status()[0]; !s.Up {
		t.Errorf("Status: %+v", s)
	}
}

func TestBusyStaysUp(t *testing.T) {
	full := serve(t, says("* BYE too many connections\r\n"))
	good := serve(t, says(greeting))
	p := newPool(t, upstream.Config{Addresses: []string{full.address, good.address}})
	for range 5 {
		if c := dial(t, p, upstream.Header{}); c.Address() != good.address {
			t.Errorf("connected to %s", c.Address())
		}
	}
	if s := p.Status(); !s[0].Up || s[0].Conns != 0 {
		t.Errorf("Status: %+v", s)
	}
	if n := full.accepted(); n != 1 {
		t.Errorf("the full server was asked %d times in a row", n)
	}
	good.stop()
	_, err := p.Dial(context.Background(), upstream.Header{})
	if !errors.Is(err, upstream.ErrUnavailable) || !errors.Is(err, upstream.ErrBusy) {
		t.Errorf("error %v", err)
	}
}

func TestLeastConnections(t *testing.T) {
	servers := []*server{serve(t, says(greeting)), serve(t, says(greeting)), serve(t, says(greeting))}
	p := newPool(t, upstream.Config{Addresses: []string{servers[0].address, servers[1].address, servers[2].address}})
	byAddress := make(map[string][]*upstream.Conn)
	for range 30 {
		c := dial(t, p, upstream.Header{})
		byAddress[c.Address()] = append(byAddress[c.Address()], c)
	}
	for _, s := range p.Status() {
		if s.Conns != 10 {
			t.Errorf("%s has %d connections", s.Address, s.Conns)
		}
	}
	for _, c := range byAddress[servers[1].address][:6] {
		_ = c.Close()
	}
	for range 6 {
		if c := dial(t, p, upstream.Header{}); c.Address() != servers[1].address {
			t.Errorf("connected to %s, which has more", c.Address())
		}
	}
	// Connections that do not last go to all in turn.
	q := newPool(t, upstream.Config{Addresses: []string{servers[0].address, servers[1].address, servers[2].address}})
	seen := make(map[string]int)
	for range 9 {
		c := dial(t, q, upstream.Header{})
		seen[c.Address()]++
		_ = c.Close()
	}
	for address, n := range seen {
		if n != 3 {
			t.Errorf("%s had %d of 9 short connections", address, n)
		}
	}
}

func TestSlowStart(t *testing.T) {
	var on atomic.Bool
	back := serve(t, switched(&on, "* NO\r\n"))
	busy := serve(t, says(greeting))
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, upstream.Config{
			Addresses: []string{back.address, busy.address}, CheckInterval: time.Second, SlowStart: time.Minute,
		})
		run(t, p)
		fill := func(n int) (there, here int) {
			for range n {
				dial(t, p, upstream.Header{})
			}
			s := p.Status()
			return s[0].Conns, s[1].Conns
		}
		if there, here := fill(200); there != 0 || here != 200 {
			t.Fatalf("%d connections to an address that is down, %d to the other", there, here)
		}
		on.Store(true)
		for !p.Status()[0].Up {
			time.Sleep(time.Second / 10)
		}
		if there, here := fill(50); there < 8 || there > 15 {
			t.Errorf("back just now: %d connections, the other %d", there, here)
		}
		time.Sleep(30 * time.Second)
		if there, here := fill(150); there < here*2/5 || there > here*3/5 {
			t.Errorf("back for half of the time: %d connections, the other %d", there, here)
		}
		time.Sleep(31 * time.Second)
		if there, here := fill(200); there != here {
			t.Errorf("back for long: %d connections, the other %d", there, here)
		}
	})
}

func TestCancel(t *testing.T) {
	s := serve(t, says(""))
	for _, c := range []upstream.Config{{}, {Security: upstream.ImplicitTLS}} {
		c.Addresses = []string{s.address}
		p := newPool(t, c)
		before := s.accepted()
		ctx, cancel := context.WithCancel(context.Background())
		failed := make(chan error)
		go func() {
			_, err := p.Dial(ctx, upstream.Header{})
			failed <- err
		}()
		await.Until(t, "connect", func() bool { return s.accepted() > before })
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if s := p.Status()[0]; !s.Up || s.Conns != 0 {
			t.Errorf("Status: %+v", s)
		}
	}
}
