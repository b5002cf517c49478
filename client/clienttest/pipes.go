package clienttest

import (
	"context"
	"net"
	"sync"
)

// Pipes is a net.Listener in memory, for tests on a clock that only waiting moves.
type Pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
	close    func()
}

// NewPipes makes one.
func NewPipes() *Pipes {
	p := &Pipes{incoming: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

// Accept implements net.Listener.
func (p *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *Pipes) Close() error {
	p.close()
	return nil
}

// Addr implements net.Listener.
func (p *Pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// Deliver hands the far end of a connection to who accepts.
func (p *Pipes) Deliver(ctx context.Context, far net.Conn) error {
	select {
	case p.incoming <- far:
		return nil
	case <-p.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// DialContext connects to who accepts, by a net.Pipe, whatever the address. It is a
// client.Config's DialContext.
func (p *Pipes) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	if err := p.Deliver(ctx, far); err != nil {
		near.Close()
		return nil, err
	}
	return near, nil
}
