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

// readPayload reads on in a frame other than DATA, and does what it says.
func (s *HTTP2) readPayload() error {
	payload, err := s.whole()
	if err != nil {
		return err
	}
	s.inFrame = false
	id := binary.BigEndian.Uint32(s.head[5:]) & math.MaxInt32
	switch s.kind {
	case http2.FrameHeaders, http2.FrameContinuation:
		return s.headers(id, payload)
	case http2.FrameSettings:
		return s.settings(id, payload)
	case http2.FramePing:
		return s.pinged(id, payload)
	case http2.FrameWindowUpdate:
		return s.granted(id, payload)
	case http2.FrameRSTStream, http2.FrameGoAway:
		return s.reset(id, payload)
	case http2.FramePushPromise:
		return s.fail(http2.ErrCodeProtocol, "nothing may be pushed")
	}
	return nil // PRIORITY, and what is not known (RFC 9113 section 5.5)
}

// reset is RST_STREAM, or GOAWAY.
func (s *HTTP2) reset(id uint32, payload []byte) error {
	rest := payload
	if s.kind == http2.FrameGoAway && len(rest) >= 8 {
		if last := binary.BigEndian.Uint32(rest) & math.MaxInt32; last >= s.id && binary.BigEndian.Uint32(rest[4:]) == 0 {
			return nil // this stream may go on
		}
		rest = rest[4:8]
	}
	switch {
	case len(rest) != 4 || s.kind == http2.FrameRSTStream && id == 0:
		return s.fail(http2.ErrCodeFrameSize, "malformed end")
	case s.kind == http2.FrameRSTStream && id != s.id:
		return nil
	}
	s.stop(&ResetError{http2.ErrCode(binary.BigEndian.Uint32(rest))})
	return s.err
}

// headers takes a part of a header block: the answer, trailers, or what wants to
// be another request.
func (s *HTTP2) headers(id uint32, b []byte) error {
	if s.kind == http2.FrameHeaders {
		b, ok := fragment(s.flags, b)
		switch {
		case !ok || id == 0:
			return s.fail(http2.ErrCodeProtocol, "malformed headers")
		case id != s.id:
			return s.fail(http2.ErrCodeRefusedStream, "there is but one stream")
		}
		s.block, s.inBlock, s.ended = b, true, s.flags.Has(endStream)
	} else {
		s.block = append(s.block, b...)
	}
	if len(s.block) > maxBlock {
		return s.fail(http2.ErrCodeEnhanceYourCalm, "headers are too long")
	}
	if !s.flags.Has(endHeaders) {
		return nil
	}
	block := s.block
	s.block, s.inBlock = nil, false
	switch {
	case s.answer != nil:
		if err := s.answer.take(block); err != nil {
			return s.fail(http2.ErrCodeCompression, "malformed answer")
		}
		if s.answer.status >= 200 {
			s.answer = nil
		}
	case !s.ended:
		return s.fail(http2.ErrCodeProtocol, "headers in the middle of the stream")
	}
	if s.ended {
		s.err = io.EOF
	}
	return nil
}

// fragment is a HEADERS frame's part of the header block.
func fragment(flags http2.Flags, b []byte) ([]byte, bool) {
	pad := 0
	if flags.Has(padded) {
		if len(b) == 0 {
			return nil, false
		}
		pad, b = int(b[0]), b[1:]
	}
	if flags.Has(withPriority) {
		if len(b) < 5 {
			return nil, false
		}
		b = b[5:]
	}
	if pad > len(b) {
		return nil, false
	}
	return b[:len(b)-pad], true
}

// settings takes the peer's.
func (s *HTTP2) settings(id uint32, b []byte) error {
	switch {
	case id != 0 || len(b)%6 != 0:
		return s.fail(http2.ErrCodeFrameSize, "malformed settings")
	case s.flags.Has(http2.FlagSettingsAck):
		return nil
	}
	for ; len(b) > 0; b = b[6:] {
		if code := s.apply(http2.SettingID(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint32(b[2:])); code != 0 {
			return s.fail(code, "setting cannot be")
		}
	}
	s.owe(appendFrameHead(nil, 0, http2.FrameSettings, http2.FlagSettingsAck, 0))
	return nil
}

// apply applies a setting; the result is not zero when it cannot be.
func (s *HTTP2) apply(id http2.SettingID, value uint32) http2.ErrCode {
	if (http2.Setting{ID: id, Val: value}).Valid() != nil {
		if id == http2.SettingInitialWindowSize {
			return http2.ErrCodeFlowControl
		}
		return http2.ErrCodeProtocol
	}
	s.flow.Lock()
	defer s.flow.Unlock()
	switch id {
	case http2.SettingInitialWindowSize:
		if s.stream += int64(value) - s.initial; s.stream > largeWindow {
			return http2.ErrCodeFlowControl // RFC 9113 section 6.9.2
		}
		s.initial = int64(value)
		s.poke()
	case http2.SettingMaxFrameSize:
		s.frame = int64(value)
	}
	return 0
}

// pinged answers a ping.
func (s *HTTP2) pinged(id uint32, b []byte) error {
	switch {
	case id != 0 || len(b) != 8:
		return s.fail(http2.ErrCodeFrameSize, "malformed ping")
	case !s.flags.Has(http2.FlagPingAck):
		s.owe(append(appendFrameHead(nil, 8, http2.FramePing, http2.FlagPingAck, 0), b...))
	}
	return nil
}

// granted is WINDOW_UPDATE.
func (s *HTTP2) granted(id uint32, b []byte) error {
	if len(b) != 4 {
		return s.fail(http2.ErrCodeFrameSize, "malformed window update")
	}
	more := int64(binary.BigEndian.Uint32(b) & math.MaxInt32)
	if more == 0 {
		return s.fail(http2.ErrCodeProtocol, "nothing is granted")
	}
	if !s.widen(id, more) {
		return s.fail(http2.ErrCodeFlowControl, "too much is granted")
	}
	return nil
}

// widen widens the window of the stream or, with id 0, of the connection; false:
// it cannot be so wide.
func (s *HTTP2) widen(id uint32, more int64) bool {
	s.flow.Lock()
	defer s.flow.Unlock()
	window := &s.conn
	switch id {
	case 0:
	case s.id:
		window = &s.stream
	default:
		return true
	}
	if *window+more > largeWindow {
		return false
	}
	*window += more
	s.poke()
	return true
}

// grant lets the peer send as much again as has come.
func (s *HTTP2) grant() {
	if s.received < regrant {
		return
	}
	update := appendGrant(appendGrant(nil, 0, uint32(s.received)), s.id, uint32(s.received))
	s.received = 0
	s.owe(update)
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
