package client_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/client"
	"posthorn/client/clienttest"
)

// In a race that begins everywhere at once there is one login, by the winner, and
// of the others nothing is left.
func TestRaceLogsInOnce(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{RTT: 20 * time.Millisecond})
	for range 10 {
		before := g.Sessions.Load()
		d := g.dialer(n, func(c *client.Config) { c.Stagger, c.Routes = time.Microsecond, client.AllRoutes() })
		c, err := d.IMAP(within(t, 20*time.Second), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Noop().Wait(); err != nil {
			t.Error(err)
		}
		await.Until(t, "the losers are gone", func() bool { return n.Open() <= 2 })
		if got := g.Sessions.Load() - before; got != 1 {
			t.Errorf("%d sessions were opened", got)
		}
		c.Close()
		await.Until(t, "all are gone", func() bool { return n.Open() == 0 })
	}
	if log := g.Log.String(); strings.Count(log, `"mechanism":"PREAUTH"`) != 10 {
		t.Errorf("the log tells of other logins:\n%s", log)
	}
}

// The same by password: it is sent once.
func TestRaceSendsThePasswordOnce(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{})
	for range 5 {
		before := g.Sessions.Load()
		d := g.dialer(n, func(c *client.Config) {
			c.Stagger, c.Routes, c.Identity, c.User, c.Password = time.Microsecond, client.AllRoutes(), nil, alice, password
		})
		c, err := d.IMAP(within(t, 20*time.Second), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		await.Until(t, "all are gone", func() bool { return n.Open() == 0 })
		if got := g.Sessions.Load() - before; got != 1 {
			t.Errorf("%d sessions were opened", got)
		}
	}
}

// Many at once share a Dialer.
func TestDialConcurrently(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{Ports: map[uint16]clienttest.Verdict{993: clienttest.BlackHole}})
	d := g.dialer(n, func(c *client.Config) { c.Stagger = 20 * time.Millisecond })
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			p := []alpn.Protocol{alpn.IMAP, alpn.SMTP}[i%2]
			c, err := d.Dial(ctx, p)
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		})
	}
	wg.Wait()
	await.Until(t, "all are gone", func() bool { return n.Open() == 0 })
}

// A route that has the turn and then breaks or goes silent gives it to the next,
// wherever that is: in the handshake, before the greeting, in its midst.
func TestTurnPassesOn(t *testing.T) {
	g := start(t)
	good := g.network(clienttest.Rules{})
	try := func(t *testing.T, octets int64, v clienttest.Verdict) {
		bad := g.network(clienttest.Rules{Bytes: octets, BytesVerdict: v})
		d := g.dialer(good, func(c *client.Config) {
			c.Routes = []client.Kind{client.Dedicated, client.ALPN}
			c.Timeout, c.LoginTimeout = time.Second, time.Second
			c.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasSuffix(address, ":993") {
					return bad.DialContext(ctx, network, address)
				}
				return good.DialContext(ctx, network, address)
			}
		})
		c, err := d.IMAP(within(t, 20*time.Second), nil)
		if err != nil {
			t.Errorf("after %d octets: %v", octets, err)
			return
		}
		c.Close()
	}
	for octets := int64(1000); octets < 6000; octets += 125 {
		try(t, octets, clienttest.Reset)
	}
	for octets := int64(2500); octets < 6000; octets += 500 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			try(t, octets, clienttest.BlackHole)
		})
	}
}

// Who gives up leaves nothing behind, whenever that is.
func TestCancel(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{RTT: 10 * time.Millisecond, Ports: map[uint16]clienttest.Verdict{993: clienttest.BlackHole}})
	d := g.dialer(n, func(c *client.Config) { c.Stagger, c.Routes = 5*time.Millisecond, client.AllRoutes() })
	var won atomic.Int32
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*8*time.Millisecond)
		c, err := d.IMAP(ctx, nil)
		switch {
		case err == nil:
			won.Add(1)
			c.Close()
		case ctx.Err() == nil:
			t.Error(err)
		}
		cancel()
	}
	await.Until(t, "all are gone", func() bool { return n.Open() == 0 })
	if runtime.NumGoroutine() > 300 {
		t.Errorf("%d goroutines", runtime.NumGoroutine())
	}
	t.Logf("%d of 20 were quick enough", won.Load())
}
