package transport_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"posthorn/mux"
	"posthorn/mux/muxtest"
)

// What ends the connection around, or is meant for the one inside, ends both;
// the client hears why, and each has its line in the log.
func TestEnds(t *testing.T) {
	for mode, m := range modes {
		for name, end := range map[string]struct {
			act  func(*gateway)
			hear string
		}{
			"revoked":       {func(g *gateway) { g.CloseAccount("a", nil, mux.ErrRevoked) }, "* BYE access revoked"},
			"outer evicted": {func(g *gateway) { g.Close(func(i mux.Info) bool { return i.Via == 0 }, mux.ErrEvicted) }, "* BYE closed by the administrator"},
			"drain":         {func(g *gateway) { go g.Shutdown(context.Background()) }, "* BYE shutting down"},
		} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				g := start(t)
				s := g.inner(g.open(m), muxtest.KeyPair(t))
				s.line()
				s.send("hello")
				s.line()
				parked(t)
				end.act(g)
				if got := s.line(); got != end.hear {
					t.Errorf("heard %q", got)
				}
				if _, err := s.r.ReadByte(); err != io.EOF {
					t.Errorf("then %v", err)
				}
				wait(t, func() bool { return strings.Count(g.log.String(), `"message":"connection"`) == 2 })
				if log := g.log.String(); !strings.Contains(log, `"via":1`) || strings.Count(log, `"remote":"127.0.0.1:`) != 2 {
					t.Errorf("log:\n%s", log)
				}
				if len(g.Conns()) != 0 {
					t.Errorf("%v are left", g.Conns())
				}
			})
		}
	}
}

// A client that is gone in the midst of things, without a word inside, leaves
// nothing behind.
func TestKilled(t *testing.T) {
	for mode, m := range modes {
		t.Run(mode, func(t *testing.T) {
			g := start(t)
			nc := g.open(m)
			g.inner(nc, muxtest.KeyPair(t)).line()
			parked(t)
			nc.(interface{ Abort() }).Abort()
			wait(t, func() bool { return len(g.Conns()) == 0 })
			g.open(m).Close() // nor one that never began
			wait(t, func() bool { return len(g.Conns()) == 0 })
		})
	}
}
