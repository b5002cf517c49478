package webstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// appendOpening appends what a side begins with behind the preface: that it takes
// long frames, and grants as much as there is. For a client that is also the
// sign that it has but one stream.
func appendOpening(b []byte, settings ...http2.Setting) []byte {
	settings = append(settings,
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: largeWindow},
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: MaxFrame})
	b = appendFrameHead(b, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return appendGrant(b, 0, largeWindow-firstWindow)
}

// appendHeaders appends a HEADERS frame.
func appendHeaders(b []byte, id uint32, fields ...hpack.HeaderField) []byte {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range fields {
		_ = enc.WriteField(f) // a bytes.Buffer takes everything
	}
	return append(appendFrameHead(b, block.Len(), http2.FrameHeaders, endHeaders, id), block.Bytes()...)
}

// Open sends a request on a new connection of HTTP/2, whose body the stream
// becomes, and reads on to the answer, whose body it reads. r's method, target,
// host and header count. status is the answer's; only with 200 there is a
// stream.
func Open(nc net.Conn, r *http.Request) (s *HTTP2, status int, err error) {
	s = newHTTP2(nc, 1)
	s.client = true
	s.answer = newAnswer()
	fields := []hpack.HeaderField{
		{Name: ":method", Value: r.Method}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: r.Host}, {Name: ":path", Value: r.URL.RequestURI()},
	}
	for name, values := range r.Header {
		for _, v := range values {
			fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: v})
		}
	}
	b := appendOpening([]byte(http2.ClientPreface), http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	if _, err := nc.Write(appendHeaders(b, s.id, fields...)); err != nil {
		return nil, 0, err
	}
	answer := s.answer
	for answer.status < 200 {
		if _, err := s.step(); err != nil {
			return nil, 0, err
		} else if s.err != nil && answer.status < 200 {
			return nil, 0, io.ErrUnexpectedEOF
		}
	}
	return s, answer.status, nil
}

// Roomy reports whether the peer grants so much that it need not be read from
// while it is written to.
func (s *HTTP2) Roomy() bool {
	s.flow.Lock()
	defer s.flow.Unlock()
	return s.initial >= regrant
}

// answer is that to a request, while it is awaited.
type answer struct {
	decoder *hpack.Decoder
	status  int
}

func newAnswer() *answer {
	a := new(answer)
	a.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" && len(f.Value) == 3 {
			a.status, _ = strconv.Atoi(f.Value)
		}
	})
	a.decoder.SetMaxStringLength(maxBlock)
	return a
}

var errNoStatus = errors.New("http2: answer has no status")

// take takes a header block.
func (a *answer) take(block []byte) error {
	a.status = 0
	if _, err := a.decoder.Write(block); err != nil {
		return err
	}
	if err := a.decoder.Close(); err != nil {
		return err
	}
	if a.status < 100 {
		return errNoStatus
	}
	return nil
}

// Opening is what a client of this package begins with.
type Opening struct {
	Request  *http.Request // without a body
	id       uint32
	settings []byte // the payload of SETTINGS
	granted  bool   // the client has granted the connection all there is
}

// ParseOpening looks for the opening of a client that has but one stream in what
// has come on a connection of HTTP/2, and returns how long it is. What is
// anything else, or not complete, is left to others: the length is 0 then. It
// keeps opening.
func ParseOpening(opening []byte) (o *Opening, length int) {
	b, ok := bytes.CutPrefix(opening, []byte(http2.ClientPreface))
	o = new(Opening)
	for ok && o.Request == nil {
		ok = len(b) >= frameHead
		if !ok {
			break
		}
		length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		kind, flags, id := http2.FrameType(b[3]), http2.Flags(b[4]), binary.BigEndian.Uint32(b[5:])
		if b = b[frameHead:]; length > len(b) {
			return nil, 0
		}
		payload := b[:length]
		b = b[length:]
		switch kind {
		case http2.FrameSettings:
			ok = o.settings == nil && id == 0 && flags == 0 && length > 0 && length%6 == 0
			o.settings = payload
		case http2.FrameWindowUpdate:
			ok = !o.granted && id == 0 && length == 4 && binary.BigEndian.Uint32(payload) == largeWindow-firstWindow
			o.granted = true
		case http2.FrameHeaders:
			ok = o.granted && o.single() && id&1 == 1 && id < math.MaxInt32 && flags&^withPriority == endHeaders
			if ok {
				o.id = id
				ok = o.request(flags, payload)
			}
		default:
			ok = false
		}
	}
	if !ok {
		return nil, 0
	}
	return o, len(opening) - len(b)
}

// single reports whether the settings are those of a client with one stream.
func (o *Opening) single() bool {
	for b := o.settings; len(b) > 0; b = b[6:] {
		if http2.SettingID(binary.BigEndian.Uint16(b)) == http2.SettingInitialWindowSize &&
			binary.BigEndian.Uint32(b[2:]) == largeWindow {
			return true
		}
	}
	return false
}

// request reads the header block of a request; false: it is malformed, or has more
// than those of this package have (RFC 9113 section 8.2.1, 8.3.1).
func (o *Opening) request(flags http2.Flags, payload []byte) bool {
	block, ok := fragment(flags, payload)
	if !ok {
		return false
	}
	decoder := hpack.NewDecoder(4096, nil)
	decoder.SetMaxStringLength(maxSettings)
	fields, err := decoder.DecodeFull(block)
	if err != nil {
		return false
	}
	r := &http.Request{Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{}, ContentLength: -1}
	pseudo := map[string]string{}
	for _, f := range fields {
		if f.IsPseudo() {
			if _, twice := pseudo[f.Name]; twice || len(r.Header) > 0 {
				return false
			}
			pseudo[f.Name] = f.Value
			continue
		}
		if f.Name == "content-length" || f.Name != strings.ToLower(f.Name) ||
			!httpguts.ValidHeaderFieldName(f.Name) || !httpguts.ValidHeaderFieldValue(f.Value) {
			return false
		}
		r.Header.Add(f.Name, f.Value)
	}
	r.Method, r.Host, r.RequestURI = pseudo[":method"], pseudo[":authority"], pseudo[":path"]
	if len(pseudo) != 4 || r.Method == "" || r.Host == "" || !httpguts.ValidHostHeader(r.Host) || pseudo[":scheme"] != "https" {
		return false
	}
	if r.URL, err = url.ParseRequestURI(r.RequestURI); err != nil {
		return false
	}
	o.Request = r
	return true
}

// Accept answers the request of an opening, which was read from nc to its end,
// with 200 and a header, and returns the stream.
func (o *Opening) Accept(nc net.Conn, header http.Header) (*HTTP2, error) {
	s := newHTTP2(nc, o.id)
	s.conn = largeWindow
	for b := o.settings; len(b) > 0; b = b[6:] {
		if s.apply(http2.SettingID(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint32(b[2:])) != 0 {
			return nil, &ProtocolError{http2.ErrCodeProtocol, "setting cannot be"}
		}
	}
	fields := []hpack.HeaderField{{Name: ":status", Value: "200"}}
	for name, values := range header {
		for _, v := range values {
			fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: v})
		}
	}
	b := appendOpening(nil, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	b = appendFrameHead(b, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	_, err := nc.Write(appendHeaders(b, s.id, fields...))
	return s, err
}
