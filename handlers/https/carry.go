package https

import (
	"context"
	"time"

	"posthorn/mux"
)

// carry serves a connection of HTTP/2 that begins with a request for the
// transport and has no other, or with nothing at all; false: it does not, and
// nothing was read.
func (s *Server) carry(ctx context.Context, c *mux.Conn) bool {
	stop := context.AfterFunc(ctx, func() { _ = c.Conn.SetReadDeadline(time.Unix(1, 0)) })
	end := time.Now().Add(headerTimeout)
	_ = c.Conn.SetReadDeadline(end)
	first := c.Peek()
	switch {
	case !stop():
		return false // serve ends it
	case first == nil && !time.Now().Before(end):
		c.SetReason(mux.ErrTimeout.Error())
		return true
	}
	_ = c.Conn.SetReadDeadline(time.Time{})
	o := s.Transport.Find(first)
	if o == nil {
		return false
	}
	r := o.Request
	if newFront(s, c, nil).refusal(r, hostname(r.Host)) != 0 {
		return false // net/http answers it
	}
	s.Transport.Open(c, o, c.Detach())
	return true
}
