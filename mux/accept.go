package mux

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"posthorn/alpn"
	"posthorn/socket"
)

// Serve accepts connections from ln, which it takes over, until ln fails, ctx
// ends or Shutdown is called; then it closes ln and returns nil, or the error. The
// connections live on.
func (s *Server) Serve(ctx context.Context, ln net.Listener, p alpn.Port) error {
	ln, err := socket.Listen(ln)
	if err != nil {
		return err
	}
	defer ln.Close()
	if !s.table.listen(ln) {
		return nil
	}
	defer s.table.unlisten(ln)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()

	var pause backoff
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(nc, p)
		case ctx.Err() != nil || s.table.closed():
			return nil
		case !passing(err):
			return err
		default:
			// A connection that has yet to log in gives its descriptor back.
			s.crowdOut(s.table.victim())
			if pause == 0 {
				s.config.Log.Error().Err(err).Msg("cannot accept connections")
			}
			pause.wait(ctx)
		}
	}
}

// passing reports whether an error of Accept is of one connection, or of
// resources that come back.
func passing(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPROTO, syscall.EINTR,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// backoff is how long to wait after the next failure in a row.
type backoff time.Duration

func (b *backoff) wait(ctx context.Context) {
	*b = min(max(*b*2, backoff(5*time.Millisecond)), backoff(time.Second))
	t := time.NewTimer(time.Duration(*b))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// accept takes a connection in and starts its first goroutine, or drops it at
// once, without a byte.
func (s *Server) accept(nc net.Conn, p alpn.Port) {
	c := newConn(s, nc, p)
	_ = socket.SetPatience(nc, c.limits.patience()) // what cannot be set is no reason not to serve
	victim, drop := s.table.enter(c)
	if drop == nil && !s.trusted(c.Remote.Addr()) {
		s.crowdOut(victim)
		if victim, drop = s.table.locate(c); drop != nil {
			s.table.leave(c)
		}
	}
	s.crowdOut(victim)
	if drop != nil {
		s.metrics.dropped(drop)
		nc.Close()
		return
	}
	go c.open()
}

// crowdOut ends a connection, if there is one, to make room for another.
func (s *Server) crowdOut(victim *Conn) {
	if victim != nil {
		s.metrics.dropped(ErrCrowded)
		victim.end(ErrCrowded)
	}
}
