package mux

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"time"

	"posthorn/socket"
)

// end makes the connection go. A handler has Config.Grace to say goodbye, or
// when draining all the time that Shutdown gives; without a handler there is
// nobody to say it.
func (c *Conn) end(cause error) {
	c.cancel(cause)
	t := &c.srv.table
	t.mu.Lock()
	handled, closing, carries := c.handled, c.closing, slices.Clone(c.carries)
	if handled && !closing && cause != ErrDraining && c.grace == nil {
		c.grace = time.AfterFunc(c.srv.config.Grace, c.wire.abort)
	}
	t.mu.Unlock()
	for _, inner := range carries { // while there is still something to say goodbye in
		inner.end(cause)
	}
	switch {
	case closing:
	case !handled:
		c.wire.abort()
	case cause != ErrDraining:
		c.wire.failReads(cause)
	}
}

// finish closes the connection, logs it and forgets it, once.
func (c *Conn) finish() {
	if !c.startClosing() {
		return
	}
	c.sayClose()
	c.Conn.Close()
	c.log()
	c.cancel(nil)
	if c.large {
		c.srv.large.Add(-1)
	}
	c.srv.table.leave(c)
}

// sayClose ends the outgoing side, so that a handler's last words arrive. For
// clients that never came as far, and those that others push out, there is
// no time.
func (c *Conn) sayClose() {
	tc, ok := c.Conn.(*tls.Conn)
	switch {
	case context.Cause(c.ctx) == ErrCrowded, c.Protocol == "":
		return
	case !ok:
		if c.Port.StartTLS() {
			c.wire.linger()
		}
	case tc.CloseWrite() == nil && !c.wire.drained(tc): // close_notify
		c.wire.linger()
	}
}

// startClosing makes sure that nothing cuts the last words short; false: it has
// been called before.
func (c *Conn) startClosing() bool {
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.closing {
		return false
	}
	c.closing = true
	for _, timer := range []*time.Timer{c.grace, c.expiry} {
		if timer != nil {
			timer.Stop()
		}
	}
	return true
}

// abort closes the connection at once, and lets the kernel forget what the
// client has not taken.
func (t *transport) abort() {
	switch nc := t.Conn.(type) {
	case interface{ SetLinger(seconds int) error }: // a socket
		_ = nc.SetLinger(0)
		t.Conn.Close()
	case Carrier:
		nc.Abort()
	default:
		nc.Close()
	}
	t.mu.Lock()
	closed := t.closed
	t.mu.Unlock()
	if closed != nil {
		closed()
	}
}

// drained reports whether the client has said close_notify. It reads nothing
// more from the network.
func (t *transport) drained(tc *tls.Conn) bool {
	t.failReads(net.ErrClosed)
	var b [1]byte
	_, err := tc.Read(b[:])
	return err == io.EOF
}

const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// linger ends our side of the connection and waits a little for the client's.
// A close with bytes unread would make the kernel send a reset, and that could
// overtake the last words of a handler.
func (t *transport) linger() {
	tc, ok := socket.Of(t.Conn)
	if !ok || t.flush() != nil || tc.CloseWrite() != nil {
		return
	}
	if tc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	var waste [2048]byte
	for n := 0; n < lingerBytes; {
		m, err := tc.Read(waste[:])
		if err != nil {
			return
		}
		n += m
	}
}
