package transport_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"strings"
	"testing"

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
			for _, info := range g.Conns() {
				t.Logf("%+v", info)
			}
			const size = 20 << 20
			s.send("send 20971520")
			if n, err := io.CopyN(io.Discard, s.r, size); err != nil {
				t.Fatal(n, err)
			}
			s.send("take 20971520")
			b := make([]byte, size)
			rand.Read(b)
			if _, err := io.Copy(s, bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
			if got := s.line(); got != "taken" {
				t.Fatalf("%q", got)
			}
			s.Close()
		})
	}
}
