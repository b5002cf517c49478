package mux

import (
	"crypto/tls"
	"time"

	"posthorn/park"
)

// Parking returns where the connection can wait without a goroutine, with
// Park, and the socket that it then waits for; nil when it neither is a socket
// nor came in one, or the system has no such thing. From then on TryRead alone reads from the
// connection, and the server looks after Limits.Idle. In any case, closed is
// called when mux closes the connection under its user, after the end of its
// context: that wakes nobody who is parked, or waits for another socket.
func (c *Conn) Parking(closed func()) (*park.Lot, *park.Socket) {
	c.wire.mu.Lock()
	c.wire.closed = closed
	c.wire.mu.Unlock()
	var lot *park.Lot
	socket, ok := park.NewSocket(c.wire.Conn)
	if ok {
		lot = c.srv.parkingLot()
	} else if c.wire.quiet, ok = c.wire.Conn.(Quiet); ok {
		lot, socket = c.wire.quiet.Parking(closed)
	}
	if lot == nil {
		return nil, nil
	}
	c.wire.socket = socket
	c.srv.table.park(c)
	return lot, socket
}

// TryRead is Read that does not wait: when there is nothing to read the error
// is park.ErrNothing, and that may come with bytes. Parking goes before it.
func (c *Conn) TryRead(b []byte) (int, error) {
	if len(c.sniffed) > 0 {
		return c.Read(b)
	}
	c.wire.nowait = true
	defer func() { c.wire.nowait = false }()
	return c.Conn.Read(b)
}

// Park has w woken when there is something to read, or to be told by TryRead.
// The reader calls it after TryRead has returned park.ErrNothing, and reads no
// more until w is woken. While parked, the connection keeps no more than it
// needs to go on: TLS answers only for its version and protocol.
func (c *Conn) Park(w park.Waker) (park.Ticket, error) {
	if tc, ok := c.Conn.(*tls.Conn); ok {
		trim(tc)
	}
	if c.wire.quiet != nil {
		return c.wire.quiet.Park(w)
	}
	return c.srv.parkingLot().Park(c.wire.socket, w)
}

// readNow is Read for TryRead.
func (t *transport) readNow(b []byte) (int, error) {
	if err := t.flushHeld(); err != nil {
		return 0, err
	}
	t.mu.Lock()
	err := t.readErr
	t.mu.Unlock()
	if err != nil {
		return 0, err
	}
	var n int
	if t.quiet != nil {
		n, err = t.quiet.TryRead(b)
	} else {
		n, err = t.socket.TryRead(b)
	}
	if n > 0 {
		t.took(n)
	}
	return n, err
}

// silent reports whether the client of a parked connection has been silent for
// too long.
func (t *transport) silent(now int64) bool {
	idle := int64(t.conn.limits.Idle)
	t.mu.Lock()
	defer t.mu.Unlock()
	if now < max(t.until, t.heard.Load()+idle) {
		return false
	}
	if t.writing.Load() > 0 {
		t.until = now + idle // it is being served; Limits.MinRate holds
		return false
	}
	return true
}

// parkingLot returns the server's lot; nil when there can be none now.
func (s *Server) parkingLot() *park.Lot {
	s.lotMu.Lock()
	defer s.lotMu.Unlock()
	if s.lot == nil {
		lot, err := park.New()
		if err != nil {
			s.config.Log.Debug().Err(err).Msg("connection cannot be parked")
			return nil
		}
		s.lot = lot
	}
	return s.lot
}

// closeLot closes the lot, when all connections are gone.
func (s *Server) closeLot() {
	s.lotMu.Lock()
	lot := s.lot
	s.lotMu.Unlock()
	if lot != nil {
		lot.Close()
	}
}

// sweep ends the parked connections whose clients have been silent for too
// long. The others have deadlines.
func (s *Server) sweep() {
	for _, c := range s.table.parkers() {
		if c.wire.silent(s.now()) {
			c.end(ErrTimeout)
		}
	}
}

// sweepTime is how long sweep may find out too late.
func (s *Server) sweepTime() time.Duration {
	return min(max(s.limits.Load().Idle/16, time.Millisecond), time.Minute)
}

// park notes that c is parked now and then, and has it swept.
func (t *table) park(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.parks = true
	if t.sweeper == nil && !t.closing {
		t.sweeper = time.AfterFunc(c.srv.sweepTime(), c.srv.sweep)
	}
}

// parkers returns the connections that are parked now and then, and has them
// looked at again.
func (t *table) parkers() []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweeper = nil
	var conns []*Conn
	for _, c := range t.conns {
		if c.parks {
			conns = append(conns, c)
		}
	}
	if len(conns) > 0 && !t.closing {
		s := conns[0].srv
		t.sweeper = time.AfterFunc(s.sweepTime(), s.sweep)
	}
	return conns
}
