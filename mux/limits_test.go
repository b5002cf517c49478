package mux_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/mux"
)

func limits(l mux.Limits) func(*mux.Config) { return func(c *mux.Config) { c.Limits = l } }

// dialFrom dials from another loopback address.
func dialFrom(t testing.TB, source, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func connectFrom(t testing.TB, source, addr string, cc *tls.Config) *client {
	t.Helper()
	tc := tls.Client(dialFrom(t, source, addr), cc)
	tc.SetDeadline(time.Now().Add(10 * time.Second))
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	return newClient(t, tc)
}

// TestBusy: who comes over a limit hears so in its protocol; of twice as many
// nobody hears anything.
func TestBusy(t *testing.T) {
	for name, l := range map[string]mux.Limits{
		"source": {ConnsPerSource: 3},
		"all":    {Conns: 3},
	} {
		b := start(t, limits(l))
		addr := b.listen(alpn.Shared)
		for i, proto := range []string{"imap", "smtp", "http/1.1"} {
			connect(t, addr, clientConfig(proto)).want("hello " + []string{"imap", "smtp", "http"}[i])
		}
		for i, cc := range []*tls.Config{clientConfig("imap"), clientConfig("smtp"), clientConfig()} {
			c := connect(t, addr, cc)
			if cc.NextProtos == nil {
				c.send("GET / HTTP/1.1") // an answer to what was said, and not a reset
			}
			c.want("busy " + []string{"imap", "smtp", "http"}[i])
			c.wantEnd()
			c.Close()
		}
		await.Until(t, "it comes about", func() bool { return len(b.Conns()) == 3 })
		// Half-open ones count in full.
		for range 3 {
			dial(t, addr)
		}
		await.Until(t, "it comes about", func() bool { return len(b.Conns()) == 6 })
		if got := wantGone(t, dial(t, addr), 5*time.Second); len(got) > 0 {
			t.Errorf("%s: the seventh heard %q", name, got)
		}
		if name == "source" {
			connectFrom(t, "127.0.0.2", addr, clientConfig("imap")).want("hello imap")
		}
	}
}

// TestUnauthPerSource: a source's oldest connection without a login goes for
// its newest; those with one, and HTTP's, stay.
func TestUnauthPerSource(t *testing.T) {
	b := start(t, limits(mux.Limits{UnauthPerSource: 2}), login)
	addr := b.listen(alpn.Shared)
	alice := connect(t, addr, clientConfig("imap"))
	alice.want("hello imap")
	alice.send("alice")
	alice.want("ok alice")
	web := connect(t, addr, clientConfig("http/1.1"))
	web.want("hello http")
	var old []*client
	for i := range 10 {
		c := connect(t, addr, clientConfig("smtp"))
		c.want("hello smtp")
		if old = append(old, c); i >= 2 {
			old[i-2].want("bye " + mux.ErrCrowded.Error())
			old[i-2].wantEnd()
		}
	}
	for range 20 { // half open
		dial(t, addr)
	}
	alice.send("alice")
	alice.want("ok alice")
	web.send("GET")
	web.want("http GET key=")
	connect(t, addr, clientConfig("smtp")).want("hello smtp")
}

// TestCrowd: whatever many connections of few sources, or few of each of many,
// do, one that comes alone gets in.
func TestCrowd(t *testing.T) {
	l := mux.Limits{UnauthStart: 50, UnauthFull: 100, UnauthPerSource: 1000, ConnsPerSource: 1000}
	for name, source := range map[string]func(i int) string{
		"few":  func(i int) string { return fmt.Sprintf("127.0.0.%d", 2+i%3) },
		"many": func(i int) string { return fmt.Sprintf("127.0.%d.%d", 1+i/200, 2+i%200) },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, limits(l))
			addr := b.listen(alpn.Shared)
			for i := range 400 {
				dialFrom(t, source(i), addr)
			}
			await.Until(t, "it comes about", func() bool { n := len(b.Conns()); return n > 0 && n <= l.UnauthFull+1 })
			for range 50 {
				c := connectFrom(t, "127.0.0.1", addr, clientConfig("imap"))
				c.want("hello imap")
				c.Close()
			}
		})
	}
}

// TestConnsPerAccount: a session that has long been silent makes room for one
// more; when there is none, there is no room.
func TestConnsPerAccount(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		connect := func(account, want string) *client {
			c := ps.connect(t, clientConfig("imap"))
			c.want("hello imap")
			c.send(account)
			c.want(want)
			return c
		}
		first := connect("alice", "ok alice")
		time.Sleep(30 * time.Second)
		second := connect("alice", "ok alice")
		connect("alice", "no "+mux.ErrTooMany.Error()).Close()
		connect("bob", "ok bob")
		time.Sleep(40 * time.Second)
		third := connect("alice", "ok alice")
		first.want("bye " + mux.ErrCrowded.Error())
		second.send("alice") // again: it counts once
		second.want("ok alice")
		third.Close()
		synctest.Wait()
		connect("alice", "ok alice")
	}, limits(mux.Limits{ConnsPerAccount: 2}), login)
}

func TestSetLimits(t *testing.T) {
	b := start(t, limits(mux.Limits{ConnsPerSource: 1}))
	addr := b.listen(alpn.Shared)
	connect(t, addr, clientConfig("imap")).want("hello imap")
	connect(t, addr, clientConfig("imap")).want("busy imap")
	b.SetLimits(mux.Limits{})
	connect(t, addr, clientConfig("imap")).want("hello imap")
}

// TestIdentityOfTheEnded: who is thrown out while it logs in learns so.
func TestIdentityOfTheEnded(t *testing.T) {
	started, result := make(chan bool), make(chan error, 1)
	b := start(t, func(c *mux.Config) {
		c.Handlers[alpn.IMAP] = &talker{name: "imap", line: func(ctx context.Context, c *mux.Conn, _ string) string {
			close(started)
			<-ctx.Done()
			result <- c.SetIdentity(mux.Identity{Account: "a"})
			return ""
		}}
	})
	c := connect(t, b.listen(alpn.Shared), clientConfig("imap"))
	c.want("hello imap")
	c.send("x")
	<-started
	b.Close(nil, mux.ErrRevoked)
	if err := <-result; !errors.Is(err, mux.ErrRevoked) {
		t.Errorf("SetIdentity: %v", err)
	}
	_, _ = io.Copy(io.Discard, c)
}
