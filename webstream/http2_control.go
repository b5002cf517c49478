package webstream

import (
	"encoding/binary"
	"io"
	"math"

	"golang.org/x/net/http2"
)

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
