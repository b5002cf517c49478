package webstream

import (
	"cmp"
	"encoding/binary"
	"net"
	"os"
	"time"

	"golang.org/x/net/http2"
)

func appendFrameHead(b []byte, length int, kind http2.FrameType, flags http2.Flags, id uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(b, id)
}

func appendGrant(b []byte, id, more uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHead(b, 4, http2.FrameWindowUpdate, 0, id), more)
}

// Write implements net.Conn.
func (s *HTTP2) Write(b []byte) (n int, err error) {
	s.writers.Lock()
	defer s.writers.Unlock()
	for err == nil && n < len(b) {
		var m, frame int
		if m, frame, err = s.reserve(min(len(b)-n, batch)); err == nil {
			err = s.writeData(b[n:n+m], frame)
		}
		if err == nil {
			n += m
		}
	}
	return n, err
}

// writeData writes what the peer has granted, in frames of up to so many octets.
func (s *HTTP2) writeData(b []byte, frame int) error {
	defer s.pay()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	buf := batches.Get().(*[]byte)
	defer batches.Put(buf)
	frames := (*buf)[:0]
	for len(b) > 0 {
		m := min(len(b), frame)
		frames = appendFrameHead(frames, m, http2.FrameData, 0, s.id)
		frames = append(frames, b[:m]...)
		b = b[m:]
	}
	_, err := s.nc.Write(frames)
	s.move()
	return err
}

// reserve waits until the peer grants something, up to n octets. A client that
// grants nothing for too long is not waited for.
func (s *HTTP2) reserve(n int) (granted, frame int, err error) {
	var timer *time.Timer
	for {
		s.flow.Lock()
		granted, frame = int(min(int64(n), s.conn, s.stream)), int(min(s.frame, maxSent))
		if granted > 0 && s.broken == nil {
			s.conn -= int64(granted)
			s.stream -= int64(granted)
			s.flow.Unlock()
			return granted, frame, nil
		}
		err, deadline := s.broken, s.deadline
		s.flow.Unlock()
		if err != nil {
			return 0, 0, err
		}
		if timer == nil {
			timer = time.NewTimer(time.Hour)
			defer timer.Stop()
			if !s.client {
				timer.Reset(stallTime)
			}
		}
		if !deadline.IsZero() {
			timer.Reset(time.Until(deadline))
		}
		select {
		case <-s.changed:
		case <-timer.C:
			if !s.client || !deadline.IsZero() {
				return 0, 0, os.ErrDeadlineExceeded
			}
			timer.Reset(time.Hour)
		}
	}
}

// poke has a writer that waits look again. The caller holds flow.
func (s *HTTP2) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// breakOff ends all writing.
func (s *HTTP2) breakOff(err error) {
	s.flow.Lock()
	defer s.flow.Unlock()
	s.broken = cmp.Or(s.broken, err)
	s.poke()
}

// SetWriteDeadline implements net.Conn.
func (s *HTTP2) SetWriteDeadline(t time.Time) error {
	s.flow.Lock()
	s.deadline = t
	s.poke()
	s.flow.Unlock()
	return s.nc.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (s *HTTP2) SetDeadline(t time.Time) error {
	return cmp.Or(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// owe has frames sent that answer the peer's. The reader does not wait for who
// is writing: he sends them after that.
func (s *HTTP2) owe(frames []byte) {
	s.dueMu.Lock()
	s.due = append(s.due, frames...)
	s.owing.Store(true)
	s.dueMu.Unlock()
	s.pay()
}

// pay sends what is owed.
func (s *HTTP2) pay() {
	for s.owing.Load() && s.mu.TryLock() {
		s.dueMu.Lock()
		due := s.due
		s.due = nil
		s.owing.Store(false)
		s.dueMu.Unlock()
		if len(due) > 0 {
			_, _ = s.nc.Write(due)
			s.move()
		}
		s.mu.Unlock()
	}
}

// CloseWrite ends our direction; the peer's goes on until it ends that.
func (s *HTTP2) CloseWrite() error {
	defer s.pay()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end()
}

// end sends END_STREAM, once. The caller holds mu.
func (s *HTTP2) end() error {
	if s.closed {
		return nil
	}
	s.closed = true
	_, err := s.nc.Write(appendFrameHead(nil, 0, http2.FrameData, endStream, s.id))
	return err
}

// Close ends the stream and closes the connection below.
func (s *HTTP2) Close() error {
	s.keepAlive(0, nil)
	s.breakOff(net.ErrClosed)
	_ = s.nc.SetWriteDeadline(time.Now().Add(closeTime))
	if s.mu.TryLock() {
		_ = s.end()
		s.mu.Unlock()
	}
	return s.nc.Close()
}

// Abort implements mux.Carrier.
func (s *HTTP2) Abort() {
	s.breakOff(net.ErrClosed)
	s.abort()
}

// TryRead implements mux.Quiet. Parking goes before it.
func (s *HTTP2) TryRead(b []byte) (int, error) {
	s.nowait = true
	defer func() { s.nowait = false }()
	return s.Read(b)
}

// KeepAlive is as that of WebSocket.
func (s *HTTP2) KeepAlive(every time.Duration) { s.keepAlive(every, s.sendPing) }

// sendPing sends a ping, unless somebody is writing anyhow.
func (s *HTTP2) sendPing() {
	if !s.mu.TryLock() {
		return
	}
	if !s.closed {
		_, _ = s.nc.Write(append(appendFrameHead(nil, 8, http2.FramePing, 0, 0), make([]byte, 8)...))
		s.move()
	}
	s.mu.Unlock()
	s.pay()
}
