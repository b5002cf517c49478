package webstream

import (
	"net"
	"time"

	"posthorn/park"
)

// quiet is a connection below that can be parked. *mux.Conn is one, and says
// what these do.
type quiet interface {
	Parking(closed func()) (*park.Lot, *park.Socket)
	TryRead([]byte) (int, error)
	Park(park.Waker) (park.Ticket, error)
}

// Parking implements mux.Quiet.
func (s *WebSocket) Parking(closed func()) (*park.Lot, *park.Socket) {
	if q, ok := s.nc.(quiet); ok {
		return q.Parking(closed)
	}
	return nil, nil
}

// TryRead implements mux.Quiet. Parking goes before it.
func (s *WebSocket) TryRead(b []byte) (int, error) {
	s.nowait = true
	defer func() { s.nowait = false }()
	return s.Read(b)
}

// Park implements mux.Quiet.
func (s *WebSocket) Park(w park.Waker) (park.Ticket, error) { return s.nc.(quiet).Park(w) }

// LocalAddr implements net.Conn.
func (s *WebSocket) LocalAddr() net.Addr { return s.nc.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *WebSocket) RemoteAddr() net.Addr { return s.nc.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *WebSocket) SetDeadline(t time.Time) error { return s.nc.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (s *WebSocket) SetReadDeadline(t time.Time) error { return s.nc.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (s *WebSocket) SetWriteDeadline(t time.Time) error { return s.nc.SetWriteDeadline(t) }

// move notes that something went either way.
func (s *WebSocket) move() { s.moved.Store(int64(time.Since(s.born))) }

// KeepAlive sends a ping whenever nothing has gone either way for a time, until
// the stream is closed; zero: no more. Who is in between sees traffic then; who
// reads from the stream, at either end, sees nothing of it. It is called once
// before the stream is used by others.
func (s *WebSocket) KeepAlive(every time.Duration) {
	if every <= 0 {
		if timer := s.timer.Swap(nil); timer != nil {
			timer.Stop()
		}
		return
	}
	s.every = every
	s.timer.Store(time.AfterFunc(every, s.tick))
}

// tick sends a ping if it is time.
func (s *WebSocket) tick() {
	wait := s.every
	if still := time.Since(s.born) - time.Duration(s.moved.Load()); still < s.every {
		wait -= still
	} else if s.mu.TryLock() { // else somebody is writing
		if !s.closed {
			s.writeControl(opPing, nil)
		}
		s.mu.Unlock()
		s.pay()
	}
	if timer := s.timer.Load(); timer != nil {
		timer.Reset(wait)
	}
}
