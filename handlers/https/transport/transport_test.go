package transport_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"posthorn/mux"
	"posthorn/mux/muxtest"
)

func TestBothWays(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			g := start(t)
			g.bothWays(g.open(mode), 100<<20)
		})
	}
}

// bothWays proves a key inside, and has as many octets go each way.
func (g *gateway) bothWays(nc net.Conn, size int64) {
	t := g.t
	t.Helper()
	s := g.inner(nc, muxtest.KeyPair(t))
	if greeting := s.line(); !strings.HasPrefix(greeting, "* PREAUTH 127.0.0.1:") || !strings.Contains(greeting, "SHA256:") {
		t.Fatalf("greeting %q", greeting)
	}
	s.send("hello")
	if got := s.line(); got != "hello" {
		t.Fatalf("echo %q", got)
	}
	s.SetDeadline(time.Now().Add(time.Minute))
	s.send(fmt.Sprint("send ", size))
	if n, err := io.CopyN(io.Discard, s.r, size); err != nil {
		t.Fatal(n, err)
	}
	s.send(fmt.Sprint("take ", size))
	if n, err := io.CopyN(s, zeros{}, size); err != nil {
		t.Fatal(n, err)
	}
	if got := s.line(); got != "taken" {
		t.Fatalf("%q", got)
	}
	s.Close()
}

// nothingInside reports whether no connection has another one inside.
func (g *gateway) nothingInside() bool {
	return !slices.ContainsFunc(g.Conns(), func(i mux.Info) bool { return i.Via != 0 })
}
