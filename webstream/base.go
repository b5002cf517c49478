// Package webstream carries a stream of octets in the binary messages of a
// WebSocket (RFC 6455), or in a request and its response on HTTP/2 (RFC 9113), on
// either side. The stream is a net.Conn whose ends, deadlines and half-closes are
// the connection's below, and it can be parked where that can: it keeps no buffer
// and has no goroutine.
//
// What messages or frames the octets come in means nothing. A WebSocket's opening
// handshake is the caller's.
package webstream

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"posthorn/park"
)

// base is what streams have in common.
type base struct {
	nc net.Conn

	// The reader's.
	nowait  bool // it does not wait
	noise   noise
	left    int    // octets of the frame that are to come
	payload []byte // of a frame that is not the stream's, as far as it is there

	born  time.Time
	moved atomic.Int64  // when something last went either way, since born
	every time.Duration // see KeepAlive
	ping  func()
	timer atomic.Pointer[time.Timer]
}

func newBase(nc net.Conn) base { return base{nc: nc, born: time.Now()} }

// below reads from the connection. Its end in the midst of something is no good
// one.
func (s *base) below(b []byte, amid bool) (n int, err error) {
	if s.nowait {
		n, err = s.nc.(quiet).TryRead(b)
	} else {
		n, err = s.nc.Read(b)
	}
	if n > 0 {
		s.move()
	}
	switch {
	case err != io.EOF:
	case n > 0: // it comes again, when what it is the end of is known
		err = nil
	case amid:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// whole reads on in the payload of a frame that is not the stream's, and returns
// it when all of it is there.
func (s *base) whole() ([]byte, error) {
	for s.left > 0 {
		if s.payload == nil {
			s.payload = make([]byte, 0, s.left)
		}
		have := len(s.payload)
		n, err := s.below(s.payload[have:have+s.left], true)
		s.payload, s.left = s.payload[:have+n], s.left-n
		if s.left > 0 && err != nil {
			return nil, err
		}
	}
	payload := s.payload
	s.payload = nil
	return payload, nil
}

// noise counts the frames that bring the stream no octet. Peers may send some of
// them, but not live on it.
type noise struct {
	n     int
	since time.Duration
}

// maxNoise is how many there may be in a noiseWindow.
const (
	maxNoise    = 300
	noiseWindow = time.Minute
)

// add counts one; false: that is too many.
func (n *noise) add(now time.Duration) bool {
	if n.n == 0 || now-n.since > noiseWindow {
		n.n, n.since = 0, now
	}
	n.n++
	return n.n <= maxNoise
}

// quiet is a connection below that can be parked. *mux.Conn is one, and says
// what these do.
type quiet interface {
	Parking(closed func()) (*park.Lot, *park.Socket)
	TryRead([]byte) (int, error)
	Park(park.Waker) (park.Ticket, error)
}

// Parking implements mux.Quiet.
func (s *base) Parking(closed func()) (*park.Lot, *park.Socket) {
	if q, ok := s.nc.(quiet); ok {
		return q.Parking(closed)
	}
	return nil, nil
}

// Park implements mux.Quiet.
func (s *base) Park(w park.Waker) (park.Ticket, error) { return s.nc.(quiet).Park(w) }

// LocalAddr implements net.Conn.
func (s *base) LocalAddr() net.Addr { return s.nc.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *base) RemoteAddr() net.Addr { return s.nc.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *base) SetDeadline(t time.Time) error { return s.nc.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (s *base) SetReadDeadline(t time.Time) error { return s.nc.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (s *base) SetWriteDeadline(t time.Time) error { return s.nc.SetWriteDeadline(t) }

// move notes that something went either way.
func (s *base) move() { s.moved.Store(int64(time.Since(s.born))) }

// keepAlive has ping called whenever nothing has gone either way for a time.
func (s *base) keepAlive(every time.Duration, ping func()) {
	if every <= 0 {
		if timer := s.timer.Swap(nil); timer != nil {
			timer.Stop()
		}
		return
	}
	s.every, s.ping = every, ping
	s.timer.Store(time.AfterFunc(every, s.tick))
}

// tick sends a ping if it is time.
func (s *base) tick() {
	wait := s.every
	if still := time.Since(s.born) - time.Duration(s.moved.Load()); still < s.every {
		wait -= still
	} else {
		s.ping()
	}
	if timer := s.timer.Load(); timer != nil {
		timer.Reset(wait)
	}
}

// abort closes the connection below, at once if it has such a method itself.
func (s *base) abort() {
	s.keepAlive(0, nil)
	if a, ok := s.nc.(interface{ Abort() }); ok {
		a.Abort()
		return
	}
	s.nc.Close()
}
