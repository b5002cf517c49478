package mux

import (
	"errors"
	"net"
	"runtime/debug"
	"time"

	"posthorn/alpn"
)

// sniffSilence is how long a client whose first bytes are to tell its protocol
// may say nothing before it is taken for an HTTP client.
const sniffSilence = 10 * time.Second

// open is the connection's goroutine: PROXY header, TLS handshake, and its
// handler. The handshake leaves a large stack behind; what idles goes on
// elsewhere (see Go and Detach).
func (c *Conn) open() {
	growStack(0)
	c.run(c.own(), func() {
		if c.prepare() {
			c.serve()
		}
	})
}

// growStack makes the stack large enough for a handshake and a login, at once,
// and while there is nothing on it that must be copied: growing by and by is a
// twentieth of what a connection costs.
//
//go:noinline
func growStack(i int) byte {
	var room [stackRoom]byte
	return room[i]
}

const stackRoom = 12 << 10

// run runs f for the owner of the connection, and finishes that unless it has
// another one then.
func (c *Conn) run(owner uint8, f func()) {
	panicked := true
	defer func() {
		c.recovered(recover())
		if panicked || c.isOwner(owner) {
			c.finish()
		}
	}()
	f()
	panicked = false
}

// own makes its caller the owner of the connection, who has to finish it.
func (c *Conn) own() (owner uint8) {
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	c.owner++
	return c.owner
}

func (c *Conn) isOwner(owner uint8) bool {
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	return c.owner == owner
}

// prepare gets the connection ready for its handler; false: it is over.
func (c *Conn) prepare() bool {
	s := c.srv
	start := s.now()
	c.wire.setLimit(start + int64(min(c.limits.Handshake, c.limits.PreLogin)))
	if c.via == nil && s.trusted(c.Remote.Addr()) {
		if err := c.readProxyHeader(); err != nil {
			c.SetReason("PROXY header: " + err.Error())
			return false
		}
		victim, drop := s.table.locate(c)
		s.crowdOut(victim)
		if drop != nil {
			s.metrics.dropped(drop)
			c.SetReason(drop.Error())
			return false
		}
	}
	if c.Port.StartTLS() {
		c.wire.setLimit(start + int64(c.limits.PreLogin))
		return true
	}
	return c.handshake() == nil && c.Protocol != alpn.ACME
}

// serve finds the handler and has it serve the connection.
func (c *Conn) serve() {
	if c.Protocol == "" && !c.sniff() {
		return
	}
	h := c.handler()
	if h == nil {
		c.srv.metrics.dropped(errProtocol)
		c.SetReason(errProtocol.Error())
		return
	}
	if c.busy {
		c.SetReason("too many connections")
		if c.Protocol != alpn.HTTP2 || c.srv.config.Handlers[alpn.HTTP2] != nil {
			_, _ = c.Conn.Write(h.Busy())
		}
		return
	}
	if c.Protocol == alpn.HTTP1 || c.Protocol == alpn.HTTP2 {
		// A request need not log in; net/http has deadlines of its own.
		c.srv.table.settle(c)
		c.wire.setLimit(0)
	}
	if c.hand() {
		h.ServeConn(c.ctx, c)
	}
}

// sniff reads until the client's first bytes tell its protocol, or its silence
// does; false: it is gone.
func (c *Conn) sniff() bool {
	var buf [alpn.SniffLen]byte
	n := 0
	p, more := alpn.Sniff(nil)
	for more {
		_ = c.Conn.SetReadDeadline(time.Now().Add(sniffSilence))
		m, err := c.Conn.Read(buf[n:])
		n += m
		p, more = alpn.Sniff(buf[:n])
		if err == nil {
			continue
		}
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() || errors.Is(err, ErrTimeout) {
			return false
		}
		break
	}
	_ = c.Conn.SetReadDeadline(time.Time{})
	c.sniffed = append([]byte(nil), buf[:n]...)
	c.srv.table.mu.Lock()
	c.Protocol = p
	c.srv.table.mu.Unlock()
	return true
}

func (c *Conn) handler() Handler {
	hs := c.srv.config.Handlers
	if h := hs[c.Protocol]; h != nil || c.Protocol != alpn.HTTP2 {
		return h
	}
	return hs[alpn.HTTP1]
}

// recovered logs a panic, if r is one. It is called by deferred functions
// alone, so that the stack still shows where it came from.
func (c *Conn) recovered(r any) {
	if r != nil {
		c.Panicked(r, debug.Stack())
	}
}

// Panicked logs a panic in a goroutine that works for a detached connection,
// and notes it as the reason for the connection's end.
func (c *Conn) Panicked(value any, stack []byte) {
	c.SetReason("panic")
	c.srv.config.Log.Error().Uint64("id", c.ID).Str("protocol", string(c.Protocol)).
		Any("panic", value).Bytes("stack", stack).Msg("panic")
}
