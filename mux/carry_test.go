package mux_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/mux"
)

// cleartext carries what the client says behind its request, as it is.
type cleartext struct {
	*mux.Conn
	done func()
}

func (c cleartext) Close() error { c.done(); return nil }

// carrier is a web handler that carries a connection in each of its own.
type carrier struct{ peeked chan string }

func (h *carrier) Busy() []byte { return []byte("HTTP/1.1 503 Busy\r\n\r\n") }

func (h *carrier) ServeConn(_ context.Context, c *mux.Conn) {
	first := string(c.Peek())
	b := make([]byte, len(first))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != first {
		first = fmt.Sprintf("%q, %v", b, err)
	}
	h.peeked <- first
	c.Carry(cleartext{c, c.Detach()}, alpn.IMAPS)
}

// inside makes a connection in a connection.
func inside(t *testing.T, addr, request string) *client {
	t.Helper()
	outer := connect(t, addr, clientConfig("http/1.1"))
	outer.send(request)
	tc := tls.Client(outer.Conn, clientConfig("imap"))
	tc.SetDeadline(time.Now().Add(10 * time.Second))
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	return newClient(t, tc)
}

func TestCarry(t *testing.T) {
	h := &carrier{peeked: make(chan string, 10)}
	b := start(t, func(c *mux.Config) {
		c.Handlers[alpn.HTTP1] = h
		c.Limits.ConnsPerSource = 2
		c.Limits.UnauthPerSource = 3
	})
	addr := b.listen(alpn.Shared)
	var clients []*client
	for range 2 {
		c := inside(t, addr, "carry me")
		if got := <-h.peeked; got != "carry me\r\n" {
			t.Errorf("peeked at %q", got)
		}
		c.want("hello imap")
		clients = append(clients, c)
	}
	infos := b.Conns()
	if len(infos) != 4 || infos[1].Via != infos[0].ID || infos[1].Remote != infos[0].Remote || infos[0].Via != 0 {
		t.Errorf("%+v", infos)
	}
	// The source may have two, which it has: one that comes in neither way.
	busy := connect(t, addr, clientConfig("imap"))
	busy.want("busy imap")
	busy.Close()
	// One that ends gives its place back, with that of the one around.
	clients[0].Close()
	await.Until(t, "two connections are left", func() bool { return len(b.Conns()) == 2 })
	again := connect(t, addr, clientConfig("imap"))
	again.want("hello imap")
	if n := b.Close(func(i mux.Info) bool { return i.Via == 0 && i.Protocol == alpn.HTTP1 }, mux.ErrEvicted); n != 1 {
		t.Errorf("%d connections around others", n)
	}
	clients[1].want("bye closed by the administrator")
	clients[1].wantEnd()
}
