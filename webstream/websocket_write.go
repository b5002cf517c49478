package webstream

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// batch is the most of one Write that becomes one write below: as much as a TLS
// connection inside writes at once, four full records.
const batch = 66 << 10

var batches = sync.Pool{New: func() any {
	b := make([]byte, 0, batch+(batch/sendFrame+1)*maxHead)
	return &b
}}

// Write implements net.Conn.
func (s *WebSocket) Write(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.pay()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	buf := batches.Get().(*[]byte)
	defer batches.Put(buf)
	for err == nil && n < len(b) {
		frames, part := (*buf)[:0], b[n:min(len(b), n+batch)]
		for rest := part; len(rest) > 0; {
			m := min(len(rest), sendFrame)
			frames = s.appendFrame(frames, opBinary, rest[:m])
			rest = rest[m:]
		}
		if _, err = s.nc.Write(frames); err == nil {
			n += len(part)
		}
	}
	s.move()
	return n, err
}

// appendFrame appends a final frame.
func (s *WebSocket) appendFrame(b []byte, op byte, payload []byte) []byte {
	bit := byte(0)
	if s.client {
		bit = masked
	}
	b = append(b, final|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, bit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(n))
	}
	if !s.client {
		return append(b, payload...)
	}
	var key [4]byte
	_, _ = rand.Read(key[:]) // never fails
	b = append(b, key[:]...)
	at := len(b)
	b = append(b, payload...)
	mask(b[at:], key, 0)
	return b
}

// mask does or undoes the masking of b, which begins at pos in the key, and
// returns where in the key it ends (RFC 6455 section 5.3).
func mask(b []byte, key [4]byte, pos int) int {
	end := (pos + len(b)) & 3
	var pattern [maskPattern]byte
	for i := range key {
		pattern[i] = key[(pos+i)&3]
	}
	for have, need := len(key), min(len(b), maskPattern); have < need; have *= 2 {
		copy(pattern[have:], pattern[:have])
	}
	for len(b) > 0 {
		b = b[subtle.XORBytes(b, b, pattern[:min(len(b), maskPattern)]):]
	}
	return end
}

// maskPattern is how much subtle.XORBytes, which is quick with much, is given at
// a time.
const maskPattern = 1 << 10

// pay answers the last ping. When somebody else is writing, he does it after
// that: the reader does not wait for a peer that does not read.
func (s *WebSocket) pay() {
	for s.due.Load() != nil && s.mu.TryLock() {
		if payload := s.due.Swap(nil); payload != nil && !s.closed {
			s.writeControl(opPong, *payload)
		}
		s.mu.Unlock()
	}
}

// writeControl writes a control frame. A failure shows in whatever comes next.
// The caller holds mu.
func (s *WebSocket) writeControl(op byte, payload []byte) {
	var buf [maxHead + maxControl]byte
	_, _ = s.nc.Write(s.appendFrame(buf[:0], op, payload))
	s.move()
}

// sayClosed ends our direction, unless somebody is in the midst of writing.
func (s *WebSocket) sayClosed(status Status) {
	if s.mu.TryLock() {
		s.end(status)
		s.mu.Unlock()
	}
}

// end sends a Close frame, once. The caller holds mu.
func (s *WebSocket) end(status Status) {
	if !s.closed {
		s.closed = true
		s.writeControl(opClose, binary.BigEndian.AppendUint16(nil, uint16(status)))
	}
}

// CloseWrite ends our direction; the peer's goes on until it ends that.
func (s *WebSocket) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(StatusNormal)
	return nil
}

// closeTime is how long a peer may take to take the Close frame.
const closeTime = 5 * time.Second

// Close says goodbye and closes the connection below. It does not wait for the
// peer's.
func (s *WebSocket) Close() error {
	s.keepAlive(0, nil)
	_ = s.nc.SetWriteDeadline(time.Now().Add(closeTime))
	s.sayClosed(StatusNormal)
	return s.nc.Close()
}

// Abort implements mux.Carrier.
func (s *WebSocket) Abort() { s.abort() }

// TryRead implements mux.Quiet. Parking goes before it.
func (s *WebSocket) TryRead(b []byte) (int, error) {
	s.nowait = true
	defer func() { s.nowait = false }()
	return s.Read(b)
}

// KeepAlive sends a ping whenever nothing has gone either way for a time, until
// the stream is closed. Who is in between sees traffic then; who reads from the
// stream, at either end, sees nothing of it. It is called at most once, before
// the stream is used by others; zero: never.
func (s *WebSocket) KeepAlive(every time.Duration) { s.keepAlive(every, s.sendPing) }

// sendPing sends a ping, unless somebody is writing anyhow.
func (s *WebSocket) sendPing() {
	if !s.mu.TryLock() {
		return
	}
	if !s.closed {
		s.writeControl(opPing, nil)
	}
	s.mu.Unlock()
	s.pay()
}
