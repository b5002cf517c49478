package https

import (
	"context"
	"time"

	"posthorn/mux"
)

// carry serves a connection of HTTP/2 that begins with a request for the
// transport and has no other; false: it has not, and nothing was read.
func (s *Server) carry(ctx context.Context, c *mux.Conn) bool {
	stop := context.AfterFunc(ctx, func() { _ = c.Conn.SetReadDeadline(time.Unix(1, 0)) })
	_ = c.Conn.SetReadDeadline(time.Now().Add(headerTimeout))
	first := c.Peek()
	if !stop() {
		return false // serve ends it
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
