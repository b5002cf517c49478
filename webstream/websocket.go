package webstream

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// MaxFrame is the most octets of a frame that is taken from a peer. Those that
// are sent are half as long at most.
const MaxFrame = 64 << 10

const sendFrame = MaxFrame / 2

// Opcodes (RFC 6455 section 5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	final   = 0x80 // of the first octet
	masked  = 0x80 // of the second
	control = 0x8  // of an opcode
)

const (
	maxHead    = 14
	maxControl = 125
)

// Status is why a WebSocket ends (RFC 6455 section 7.4).
type Status uint16

// The statuses that are sent.
const (
	StatusNormal      Status = 1000
	StatusProtocol    Status = 1002
	StatusUnsupported Status = 1003 // a text message
	StatusPolicy      Status = 1008 // too much noise
	StatusTooBig      Status = 1009
	statusGoingAway   Status = 1001
	statusNone        Status = 1005 // never sent: there was none
)

// FrameError is what a peer has done that it must not; it ends the stream.
type FrameError struct {
	Status Status // what the peer is told
	reason string
}

func (e *FrameError) Error() string { return "websocket: " + e.reason }

// ClosedError is that the peer has ended the stream in another way than well.
type ClosedError struct{ Status Status }

func (e *ClosedError) Error() string { return fmt.Sprintf("websocket: peer closed with %d", e.Status) }

// AcceptKey is what a server answers to a client's Sec-WebSocket-Key (RFC 6455
// section 4.2.2).
func AcceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// WebSocket is a stream in binary messages (RFC 6455). One goroutine reads at a
// time; the other methods may be called concurrently. Read returns io.EOF when
// the peer has ended its direction, with a Close frame or with that of the
// connection below.
type WebSocket struct {
	base
	client bool

	// The reader's.
	inFrame bool // its head is complete
	open    bool // a message is to be continued
	op      byte
	have    uint8 // of head
	head    [maxHead]byte
	key     [4]byte
	pos     int   // in key
	err     error // for good

	mu     sync.Mutex             // orders frames on nc, and guards closed
	closed bool                   // a Close frame was sent
	due    atomic.Pointer[[]byte] // a ping's payload that is to be answered
}

// Server returns the server's end of a WebSocket on nc, which it closes when it
// is closed.
func Server(nc net.Conn) *WebSocket { return &WebSocket{base: newBase(nc)} }

// Client returns the client's end.
func Client(nc net.Conn) *WebSocket { return &WebSocket{base: newBase(nc), client: true} }

// Read implements net.Conn.
func (s *WebSocket) Read(b []byte) (int, error) {
	for s.err == nil {
		switch {
		case !s.inFrame:
			if err := s.readHead(); err != nil {
				return 0, err
			}
		case s.op&control != 0:
			if err := s.readControl(); err != nil {
				return 0, err
			}
		case s.left == 0:
			s.inFrame = false
		case len(b) == 0:
			return 0, nil
		default:
			n, err := s.below(b[:min(len(b), s.left)], true)
			s.left -= n
			if !s.client {
				s.pos = mask(b[:n], s.key, s.pos)
			}
			if n > 0 || err != nil {
				return n, err
			}
		}
	}
	return 0, s.err
}

// readHead reads on in a frame's head.
func (s *WebSocket) readHead() error {
	need := s.headLen()
	n, err := s.below(s.head[s.have:need], s.have > 0)
	s.have += uint8(n)
	if s.have >= 2 {
		if refused := s.checkHead(); refused != nil {
			return s.fail(refused)
		}
	}
	if s.have < 2 || int(s.have) < s.headLen() {
		return err
	}
	s.have = 0
	if refused := s.begin(); refused != nil {
		return s.fail(refused)
	}
	return nil // an error that came with the last octet comes again
}

// headLen is how long the head is, as far as that is known.
func (s *WebSocket) headLen() int {
	n := 2
	if !s.client {
		n += 4 // no frame of a client's is shorter
	}
	if s.have >= 2 {
		switch s.head[1] &^ masked {
		case 126:
			n += 2
		case 127:
			n += 8
		}
	}
	return n
}

// checkHead looks at a head's first two octets.
func (s *WebSocket) checkHead() *FrameError {
	op, fin := s.head[0]&0xf, s.head[0]&final != 0
	switch {
	case s.head[0]&0x70 != 0:
		return &FrameError{StatusProtocol, "reserved bits are set"}
	case s.head[1]&masked != 0 && s.client:
		return &FrameError{StatusProtocol, "a server's frame is masked"}
	case s.head[1]&masked == 0 && !s.client:
		return &FrameError{StatusProtocol, "a client's frame is not masked"}
	}
	switch op {
	case opContinuation:
		if !s.open {
			return &FrameError{StatusProtocol, "nothing is to be continued"}
		}
	case opText:
		return &FrameError{StatusUnsupported, "text message"}
	case opBinary:
		if s.open {
			return &FrameError{StatusProtocol, "a message begins inside another"}
		}
	case opClose, opPing, opPong:
		if !fin || s.head[1]&^masked > maxControl {
			return &FrameError{StatusProtocol, "control frame is fragmented or too long"}
		}
	default:
		return &FrameError{StatusProtocol, "unknown opcode"}
	}
	return nil
}

// begin takes a complete head in.
func (s *WebSocket) begin() *FrameError {
	length := uint64(s.head[1] &^ masked)
	rest := s.head[2:]
	switch length {
	case 126:
		if length, rest = uint64(binary.BigEndian.Uint16(rest)), rest[2:]; length < 126 {
			return &FrameError{StatusProtocol, "length is not minimal"}
		}
	case 127:
		if length, rest = binary.BigEndian.Uint64(rest), rest[8:]; length < 1<<16 || length > 1<<63-1 {
			return &FrameError{StatusProtocol, "length is not minimal, or none"}
		}
	}
	if length > MaxFrame {
		return &FrameError{StatusTooBig, "frame is too long"}
	}
	if !s.client {
		copy(s.key[:], rest)
	}
	s.inFrame, s.pos, s.left = true, 0, int(length)
	if s.op = s.head[0] & 0xf; s.op&control == 0 {
		s.open = s.head[0]&final == 0
		if length > 0 {
			return nil
		}
	}
	if !s.noise.add(time.Since(s.born)) {
		return &FrameError{StatusPolicy, "too many control frames"}
	}
	return nil
}

// readControl reads on in a control frame, and does what it says.
func (s *WebSocket) readControl() error {
	payload, err := s.whole()
	if err != nil {
		return err
	}
	s.inFrame = false
	if !s.client {
		mask(payload, s.key, 0)
	}
	switch s.op {
	case opPing:
		s.due.Store(&payload)
		s.pay()
	case opClose:
		return s.peerClosed(payload)
	}
	return nil
}

// peerClosed ends the peer's direction.
func (s *WebSocket) peerClosed(payload []byte) error {
	status := statusNone
	switch {
	case len(payload) == 1:
		return s.fail(&FrameError{StatusProtocol, "half a status"})
	case len(payload) > 1:
		status = Status(binary.BigEndian.Uint16(payload))
	}
	switch status {
	case StatusNormal, statusGoingAway, statusNone:
		s.err = io.EOF
	default:
		s.err = &ClosedError{status}
	}
	return s.err
}

// fail ends the stream for what the peer has done.
func (s *WebSocket) fail(e *FrameError) error {
	s.err = e
	s.sayClosed(e.Status)
	return e
}
