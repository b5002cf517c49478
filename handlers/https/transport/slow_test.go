package transport_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"posthorn/client/webtransport"
	"posthorn/mux"
)

// dribble writes octets one by one until somebody ends it.
func dribble(w io.Writer, octets string, pause time.Duration) {
	for i := range octets {
		if _, err := io.WriteString(w, octets[i:i+1]); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

// Who opens a transport and then dawdles has as much time for the handshake
// inside as a stranger on a dedicated port, whatever he fills it with.
func TestSlowInside(t *testing.T) {
	hello := "\x16\x03\x01\x02\x00\x01" + strings.Repeat("\x00", 400)
	for mode, m := range map[string]func(*gateway) net.Conn{
		"websocket": func(g *gateway) net.Conn { return g.pinging(webtransport.WebSocket) },
		"h2":        func(g *gateway) net.Conn { return g.pinging(webtransport.HTTP2) },
		"net/http":  func(g *gateway) net.Conn { return g.stream(g.browser()) },
	} {
		for name, dawdle := range map[string]func(net.Conn){
			"silent":             func(net.Conn) {},
			"an octet at a time": func(nc net.Conn) { dribble(nc, hello, 20*time.Millisecond) },
		} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel()
				g := start(t, func(_ *gateway, c *mux.Config) { c.Limits.Handshake = time.Second })
				nc := m(g)
				began := time.Now()
				over := make(chan struct{})
				go func() { io.Copy(io.Discard, nc); close(over) }()
				go dawdle(nc)
				wait(t, g.nothingInside)
				select {
				case <-over:
				case <-time.After(5 * time.Second):
					t.Error("the client has heard nothing of it")
				}
				if took := time.Since(began); took > 4*time.Second {
					t.Errorf("took %v", took)
				}
				if log := g.log.String(); !strings.Contains(log, "handshake timeout") {
					t.Errorf("log:\n%s", log)
				}
			})
		}
	}
}

// pinging opens a transport whose client sends many pings.
func (g *gateway) pinging(mode webtransport.Mode) net.Conn {
	g.t.Helper()
	d := g.dialer(mode)
	d.Ping = 20 * time.Millisecond
	nc, err := d.Dial(g.t.Context(), host)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { nc.Close() })
	return nc
}

// A request for the transport that takes its time is over in as much as any
// other, and holds nothing.
func TestSlowUpgrade(t *testing.T) {
	for proto, first := range map[string]string{
		"http/1.1": strings.ReplaceAll(upgrade, "\n", "\r\n") + "\r\nX-More: " + strings.Repeat("x", 1000),
		"h2":       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			c := g.outerConfig()
			c.ServerName, c.NextProtos = host, []string{proto}
			tc, err := (&tls.Dialer{Config: c}).DialContext(context.Background(), "tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer tc.Close()
			go dribble(tc, first, 100*time.Millisecond)
			began := time.Now()
			for len(g.Conns()) != 0 {
				if time.Since(began) > 15*time.Second {
					t.Fatalf("it is still there: %+v", g.Conns())
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
}
