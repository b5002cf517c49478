// Package loopback is what tests of all packages need of the network: servers and
// connections on loopback.
package loopback

import (
	"net"
	"sync"
	"testing"
)

// Serve has handle serve each connection to a TCP port, whose address it returns.
// The connection is closed when handle returns. The end of the test waits for that:
// who connects has to close.
func Serve(t testing.TB, handle func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ServeOn(t, ln, handle)
	return ln.Addr().String()
}

// ServeOn is Serve for a listener, which it closes.
func ServeOn(t testing.TB, ln net.Listener, handle func(net.Conn)) {
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		work.Wait()
	})
}

// Pair returns both ends of a TCP connection, which is closed when the test ends.
func Pair(t testing.TB) (accepted, dialed *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	return near.(*net.TCPConn), far.(*net.TCPConn)
}
