package transport_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/client/webtransport"
)

// dribble writes octets one by one until somebody ends it, or ctx ends.
func dribble(ctx context.Context, w io.Writer, octets string, pause time.Duration) {
	for i := range octets {
		if _, err := io.WriteString(w, octets[i:i+1]); err != nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
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
		for name, octets := range map[string]string{"silent": "", "an octet at a time": hello} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := startOnPipes(t)
					nc := m(g)
					began := time.Now()
					ctx, cancel := context.WithCancel(t.Context())
					go dribble(ctx, nc, octets, 200*time.Millisecond)
					_, _ = io.Copy(io.Discard, nc) // whatever it hears
					cancel()
					if took := time.Since(began); took < handshakeTime || took > handshakeTime+2*time.Second {
						t.Errorf("took %v", took)
					}
					synctest.Wait()
					if !g.nothingInside() {
						t.Errorf("it is still there: %+v", g.Conns())
					}
					if log := g.log.String(); !strings.Contains(log, "handshake timeout") {
						t.Errorf("log:\n%s", log)
					}
				})
			})
		}
	}
}

// handshakeTime is the default of mux.Limits.Handshake.
const handshakeTime = 7500 * time.Millisecond

// pinging opens a transport whose client sends many pings.
func (g *gateway) pinging(mode webtransport.Mode) net.Conn {
	g.t.Helper()
	d := g.dialer(mode)
	d.Ping = 100 * time.Millisecond
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
			synctest.Test(t, func(t *testing.T) {
				g := startOnPipes(t)
				tc := g.dial(proto)
				began := time.Now()
				go dribble(t.Context(), tc, first, 100*time.Millisecond)
				_, _ = io.Copy(io.Discard, tc) // whatever it hears
				if took := time.Since(began); took > 11*time.Second {
					t.Errorf("took %v", took)
				}
				if synctest.Wait(); len(g.Conns()) != 0 {
					t.Errorf("it is still there: %+v", g.Conns())
				}
			})
		})
	}
}
