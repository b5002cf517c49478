package webstream

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Frames (RFC 9113 section 4.1) that are sent and taken.
const (
	frameHead    = 9
	maxSent      = 64 << 10 // octets of a DATA frame, if the peer takes so many
	maxBlock     = 64 << 10 // octets of a header block
	maxSettings  = 16 << 10
	largeWindow  = math.MaxInt32
	regrant      = 1 << 30 // so many octets are granted anew at a time
	firstWindow  = 65535   // what a peer grants that says nothing
	firstFrame   = 16384
	stallTime    = 30 * time.Second
	endStream    = http2.FlagDataEndStream
	endHeaders   = http2.FlagHeadersEndHeaders
	padded       = http2.FlagDataPadded
	withPriority = http2.FlagHeadersPriority
)

// ProtocolError is what a peer on HTTP/2 has done that it must not; it ends the
// stream.
type ProtocolError struct {
	Code   http2.ErrCode // what the peer is told
	reason string
}

func (e *ProtocolError) Error() string { return "http2: " + e.reason }

// ResetError is that the peer has ended the stream, or the connection, with an
// error.
type ResetError struct{ Code http2.ErrCode }

func (e *ResetError) Error() string { return fmt.Sprintf("http2: peer ended the stream: %s", e.Code) }

// HTTP2 is a stream in the body of a request and that of its response, on a
// connection of HTTP/2 (RFC 9113) that has no other stream. So the connection's
// own flow control is all that is needed, and both sides grant as much as there
// is. One goroutine reads at a time; the other methods may be called
// concurrently.
type HTTP2 struct {
	base
	client bool
	id     uint32 // of the stream

	// The reader's.
	inFrame  bool // its head is complete
	inBlock  bool // CONTINUATION has to come
	have     uint8
	head     [frameHead]byte
	kind     http2.FrameType
	flags    http2.Flags
	pad      int    // of them, padding; negative: its length comes first
	block    []byte // of headers
	ended    bool   // the peer's direction ends with this frame, or this block
	received int    // octets that are to be granted anew
	answer   *answer
	err      error // for good

	writers sync.Mutex // held by who writes to the stream
	mu      sync.Mutex // orders frames on nc, and guards closed
	closed  bool       // END_STREAM was sent

	dueMu sync.Mutex // guards due
	due   []byte     // frames that answer the peer's
	owing atomic.Bool

	flow     sync.Mutex // guards what follows
	conn     int64      // what the peer has granted
	stream   int64
	initial  int64 // of a stream
	frame    int64 // the most of one frame
	deadline time.Time
	broken   error         // no writing any more
	changed  chan struct{} // one of these may have
}

func newHTTP2(nc net.Conn, id uint32) *HTTP2 {
	return &HTTP2{
		base: newBase(nc), id: id,
		conn: firstWindow, stream: firstWindow, initial: firstWindow, frame: firstFrame, changed: make(chan struct{}, 1),
	}
}

// Read implements net.Conn.
func (s *HTTP2) Read(b []byte) (int, error) {
	for s.err == nil {
		if data, err := s.step(); err != nil {
			return 0, err
		} else if !data {
			continue
		}
		if len(b) == 0 {
			return 0, nil
		}
		n, err := s.below(b[:min(len(b), s.left-s.pad)], true)
		s.left -= n
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, s.err
}

// step reads on; data: up to octets of the stream.
func (s *HTTP2) step() (data bool, err error) {
	switch {
	case !s.inFrame:
		return false, s.readHead()
	case s.kind != http2.FrameData:
		return false, s.readPayload()
	case s.pad < 0:
		var b [1]byte
		n, err := s.below(b[:], true)
		if n == 0 {
			return false, err
		}
		switch s.left, s.pad = s.left-1, int(b[0]); {
		case s.pad > s.left:
			return false, s.fail(http2.ErrCodeProtocol, "padding is too long")
		case s.pad == s.left && !s.ended:
			return false, s.quiet()
		}
		return false, nil
	case s.left > s.pad:
		return true, nil
	case s.left > 0:
		var waste [256]byte
		n, err := s.below(waste[:s.left], true)
		s.left, s.pad = s.left-n, s.pad-n
		if n == 0 {
			return false, err
		}
		return false, nil
	}
	s.inFrame = false
	s.grant()
	if s.ended {
		s.err = io.EOF
	}
	return false, nil
}

// readHead reads on in a frame's head.
func (s *HTTP2) readHead() error {
	n, err := s.below(s.head[s.have:], s.have > 0 || s.inBlock)
	if s.have += uint8(n); s.have < frameHead {
		if err == io.EOF {
			s.breakOff(io.ErrClosedPipe)
		}
		return err
	}
	s.have, s.inFrame, s.pad, s.ended = 0, true, 0, s.ended && s.inBlock
	s.left = int(s.head[0])<<16 | int(s.head[1])<<8 | int(s.head[2])
	s.kind, s.flags = http2.FrameType(s.head[3]), http2.Flags(s.head[4])
	id := binary.BigEndian.Uint32(s.head[5:]) & math.MaxInt32
	switch {
	case s.left > MaxFrame, s.kind != http2.FrameData && s.left > maxSettings:
		return s.fail(http2.ErrCodeFrameSize, "frame is too long")
	case s.inBlock != (s.kind == http2.FrameContinuation) || s.inBlock && id != s.id:
		return s.fail(http2.ErrCodeProtocol, "header block is broken off, or begins in the middle")
	case s.kind == http2.FrameData:
		return s.beginData(id)
	}
	if s.kind == http2.FrameWindowUpdate && (id == 0 || id == s.id) {
		return nil // what many octets that were sent are answered with
	}
	return s.quiet()
}

// beginData begins a DATA frame.
func (s *HTTP2) beginData(id uint32) error {
	if id != s.id || s.answer != nil {
		return s.fail(http2.ErrCodeProtocol, "data of no stream")
	}
	s.received += s.left
	s.ended = s.flags.Has(endStream)
	length := s.left
	if s.flags.Has(padded) {
		if s.pad = -1; length == 0 {
			return s.fail(http2.ErrCodeFrameSize, "padding has no length")
		}
	}
	if length == 0 && !s.ended {
		return s.quiet()
	}
	return nil
}

// quiet counts a frame that brings the stream nothing.
func (s *HTTP2) quiet() error {
	if !s.noise.add(time.Since(s.born)) {
		return s.fail(http2.ErrCodeEnhanceYourCalm, "too many control frames")
	}
	return nil
}

// fail ends the stream for what the peer has done.
func (s *HTTP2) fail(code http2.ErrCode, reason string) error {
	e := &ProtocolError{code, reason}
	s.stop(e)
	if s.mu.TryLock() {
		s.closed = true
		b := appendFrameHead(nil, 8, http2.FrameGoAway, 0, 0)
		b = binary.BigEndian.AppendUint32(b, s.id)
		_, _ = s.nc.Write(binary.BigEndian.AppendUint32(b, uint32(code)))
		s.mu.Unlock()
	}
	return e
}

// stop ends the stream both ways.
func (s *HTTP2) stop(err error) {
	s.err = err
	s.breakOff(err)
}
