// Package httpstest is what tests of handlers for the web have in common: a
// mux.Server that serves, on loopback or in a synctest bubble.
package httpstest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/mux"
)

// Serve has s serve a port on loopback until the test ends. stop ends it before
// that; it may be called several times.
func Serve(t testing.TB, s *mux.Server, p alpn.Port) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln.Addr().String(), ServeOn(t, s, ln, p)
}

// ServeOn is Serve for a listener.
func ServeOn(t testing.TB, s *mux.Server, ln net.Listener, p alpn.Port) (stop func()) {
	t.Helper()
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.Serve(context.Background(), ln, p); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		served.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// Pipes is a listener without a network: in a synctest bubble, who waits for one
// of its connections takes no time.
type Pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewPipes returns a listener to which nobody has connected.
func NewPipes() *Pipes {
	return &Pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial returns the client's end of a new connection, when the other one is
// accepted. Nothing is buffered in between.
func (p *Pipes) Dial() (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Accept implements net.Listener.
func (p *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *Pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *Pipes) Addr() net.Addr { return &net.TCPAddr{} }
