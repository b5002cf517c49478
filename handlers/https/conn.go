package https

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"posthorn/alpn"
	"posthorn/mux"
)

// lifetime follows a connection through net/http.
type lifetime struct {
	state    atomic.Int32 // http.ConnState
	hijacked atomic.Bool
	once     sync.Once
	done     chan struct{} // closed when net/http is through with it
	// next goes on with a hijacked connection, on no goroutine of net/http's; its
	// done is mux.Conn.Detach's. The handler sets it before it returns.
	next func(ctx context.Context, done func())
}

// changed is http.Server.ConnState.
func (l *lifetime) changed(_ net.Conn, state http.ConnState) {
	l.state.Store(int32(state))
	switch state {
	case http.StateHijacked:
		l.hijacked.Store(true)
	case http.StateClosed:
		l.end()
	}
}

// unused reports whether no byte of a request has come yet.
func (l *lifetime) unused() bool { return http.ConnState(l.state.Load()) == http.StateNew }

// handled is called when a request's handler has returned.
func (l *lifetime) handled() {
	if l.hijacked.Load() {
		l.end()
	}
}

func (l *lifetime) end() { l.once.Do(func() { close(l.done) }) }

// single is a listener with one connection. It fails when that is done with or
// the listener is closed, which ends Serve.
type single struct {
	conn   net.Conn
	taken  bool
	done   <-chan struct{}
	closed chan struct{}
	once   sync.Once
}

// newSingle gives net/http the bare *tls.Conn for HTTP/2, which it speaks on no
// other. What was sniffed, or read already, only c has.
func newSingle(c *mux.Conn, done <-chan struct{}) *single {
	l := &single{done: done, closed: make(chan struct{})}
	if l.conn = c.Conn; c.Protocol != alpn.HTTP2 {
		l.conn = &unfolded{Conn: c}
	}
	return l
}

func (l *single) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return l.conn, nil
	}
	select {
	case <-l.done:
	case <-l.closed:
	}
	return nil, net.ErrClosed
}

func (l *single) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }
