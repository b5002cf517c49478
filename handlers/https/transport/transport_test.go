package transport_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"posthorn/mux/muxtest"
)

func TestBothWays(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			g := start(t)
			s := g.inner(g.open(mode), muxtest.KeyPair(t))
			if greeting := s.line(); !strings.HasPrefix(greeting, "* PREAUTH 127.0.0.1:") || !strings.Contains(greeting, "SHA256:") {
				t.Fatalf("greeting %q", greeting)
			}
			s.send("hello")
			if got := s.line(); got != "hello" {
				t.Fatalf("echo %q", got)
			}
			const size = 100 << 20
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
		})
	}
}
