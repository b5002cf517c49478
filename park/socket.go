package park

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"posthorn/socket"
)

// Socket is a socket that is read without waiting, or by waiting for a while
// only. One goroutine at a time reads from it; from then on nobody else sets its
// read deadline, but to end that with Interrupt.
type Socket struct {
	conn        socket.Bare
	raw         syscall.RawConn
	known       bool // to the lot
	interrupted atomic.Bool
	armed       time.Time // the read deadline
}

// NewSocket returns the socket of a connection that is one and nothing more. For
// others, ok is false.
func NewSocket(nc net.Conn) (s *Socket, ok bool) {
	c, ok := socket.Of(nc)
	if !ok {
		return nil, false
	}
	raw, err := c.SyscallConn()
	return &Socket{conn: c, raw: raw}, err == nil
}

var longAgo = time.Unix(1, 0)

// Interrupt ends a Wait that is under way, and all later ones.
func (s *Socket) Interrupt() {
	s.interrupted.Store(true)
	_ = s.conn.SetReadDeadline(longAgo)
}

// Wait calls try at once, and again when there is something to read, until it
// returns true. The error is os.ErrDeadlineExceeded when it has waited for
// between half of limit and limit, or was interrupted. No deadline is set each
// time: that costs more than waiting.
func (s *Socket) Wait(limit time.Duration, try func(fd uintptr) bool) error {
	if now := time.Now(); s.armed.Sub(now) < limit/2 {
		s.armed = now.Add(limit)
		if err := s.conn.SetReadDeadline(s.armed); err != nil {
			return err
		}
		if s.interrupted.Load() {
			_ = s.conn.SetReadDeadline(longAgo) // whichever came first
		}
	}
	return s.raw.Read(try)
}

// TryRead reads what there is. It does not wait: the error is ErrNothing then.
func (s *Socket) TryRead(b []byte) (int, error) {
	n, ok, err := socket.TryRead(s.raw, b)
	if !ok && err == nil {
		err = ErrNothing
	}
	return n, err
}
