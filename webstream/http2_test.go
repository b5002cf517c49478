package webstream_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"posthorn/loopback"
	"posthorn/webstream"
)

var request = &http.Request{
	Method: http.MethodPost, URL: &url.URL{Path: "/a/imap"}, Host: "mail.example.org",
	Header: http.Header{"Content-Type": {"application/octet-stream"}},
}

// opening is what a client begins with.
func opening(t testing.TB) []byte {
	t.Helper()
	c := &oneWay{Reader: strings.NewReader("")}
	if _, _, err := webstream.Open(c, request); err != io.EOF {
		t.Fatal(err)
	}
	return c.sent.Bytes()
}

// h2 is a frame as its octets.
func h2(kind http2.FrameType, flags http2.Flags, id uint32, payload string) string {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), byte(flags)}
	return string(binary.BigEndian.AppendUint32(b, id)) + payload
}

// accepted is a server's end that has accepted an opening, before more.
func accepted(t testing.TB, more io.Reader) (*webstream.HTTP2, *oneWay) {
	t.Helper()
	o, n := webstream.ParseOpening(opening(t))
	if n == 0 {
		t.Fatal("no opening")
	}
	c := &oneWay{Reader: more}
	s, err := o.Accept(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestHTTP2Frames(t *testing.T) {
	const end, pad, ack = http2.FlagDataEndStream, http2.FlagDataPadded, http2.FlagSettingsAck
	data := func(flags http2.Flags, payload string) string { return h2(http2.FrameData, flags, 1, payload) }
	long := strings.Repeat("x", webstream.MaxFrame)
	for name, tt := range map[string]struct {
		in   string
		want string
		code http2.ErrCode // of a *ProtocolError
		err  error
	}{
		"nothing":              {"", "", 0, nil},
		"data":                 {data(0, "abc") + data(0, "") + data(end, "d") + data(0, "e"), "abcd", 0, nil},
		"end alone":            {data(0, "abc") + data(end, ""), "abc", 0, nil},
		"longest":              {data(0, long), long, 0, nil},
		"padding":              {data(pad, "\x02abcPP") + data(pad, "\x00") + data(pad|end, "\x01dP"), "abcd", 0, nil},
		"trailers":             {data(0, "a") + h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1, "\x00\x01a\x01b"), "a", 0, nil},
		"trailers in parts":    {h2(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, "\x00") + h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, "\x01a\x01b"), "", 0, nil},
		"settings and ping":    {h2(http2.FrameSettings, 0, 0, "\x00\x05\x00\x00\x50\x00") + h2(http2.FrameSettings, ack, 0, "") + h2(http2.FramePing, 0, 0, "12345678") + data(0, "a"), "a", 0, nil},
		"unknown":              {h2(0xbb, 0xff, 7, "what is this?") + data(0, "a"), "a", 0, nil},
		"priority":             {h2(http2.FramePriority, 0, 3, "\x00\x00\x00\x00\x00") + data(0, "a"), "a", 0, nil},
		"going away well":      {h2(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00") + data(end, "a"), "a", 0, nil},
		"too long":             {data(0, long+"x"), "", http2.ErrCodeFrameSize, nil},
		"long control frame":   {h2(http2.FrameSettings, 0, 0, long[:60000]), "", http2.ErrCodeFrameSize, nil},
		"padding too long":     {data(pad, "\x05abc"), "", http2.ErrCodeProtocol, nil},
		"padding of nothing":   {data(pad, ""), "", http2.ErrCodeFrameSize, nil},
		"another stream":       {h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, "\x82"), "", http2.ErrCodeRefusedStream, nil},
		"data of another":      {h2(http2.FrameData, 0, 3, "a"), "", http2.ErrCodeProtocol, nil},
		"data of none":         {h2(http2.FrameData, 0, 0, "a"), "", http2.ErrCodeProtocol, nil},
		"headers amid":         {data(0, "a") + h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x82"), "a", http2.ErrCodeProtocol, nil},
		"continuation of none": {h2(http2.FrameContinuation, 0, 1, "a"), "", http2.ErrCodeProtocol, nil},
		"block broken off":     {h2(http2.FrameHeaders, 0, 1, "\x82") + data(0, "a"), "", http2.ErrCodeProtocol, nil},
		"block of two streams": {h2(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, "\x00") + h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, "\x01a\x01b"), "", http2.ErrCodeProtocol, nil},
		"window grows over": {h2(http2.FrameSettings, 0, 0, "\x00\x04\x00\x00\x00\x0a") + h2(http2.FrameWindowUpdate, 0, 1, "\x7f\xff\xff\xf5") +
			h2(http2.FrameSettings, 0, 0, "\x00\x04\x00\x00\x00\x0b"), "", http2.ErrCodeFlowControl, nil},
		"push":                  {h2(http2.FramePushPromise, 0, 1, "\x00\x00\x00\x02"), "", http2.ErrCodeProtocol, nil},
		"odd settings":          {h2(http2.FrameSettings, 0, 0, "abc"), "", http2.ErrCodeFrameSize, nil},
		"window too large":      {h2(http2.FrameSettings, 0, 0, "\x00\x04\xff\xff\xff\xff"), "", http2.ErrCodeFlowControl, nil},
		"window overflows":      {h2(http2.FrameWindowUpdate, 0, 1, "\x7f\xff\xff\xff"), "", http2.ErrCodeFlowControl, nil},
		"nothing granted":       {h2(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00"), "", http2.ErrCodeProtocol, nil},
		"short ping":            {h2(http2.FramePing, 0, 0, "1"), "", http2.ErrCodeFrameSize, nil},
		"ping flood":            {strings.Repeat(h2(http2.FramePing, 0, 0, "12345678"), 301), "", http2.ErrCodeEnhanceYourCalm, nil},
		"settings flood":        {strings.Repeat(h2(http2.FrameSettings, 0, 0, ""), 301), "", http2.ErrCodeEnhanceYourCalm, nil},
		"empty data flood":      {strings.Repeat(data(0, ""), 301), "", http2.ErrCodeEnhanceYourCalm, nil},
		"padding flood":         {strings.Repeat(data(pad, "\x00"), 301), "", http2.ErrCodeEnhanceYourCalm, nil},
		"long padding flood":    {strings.Repeat(data(pad, "\x03PPP"), 301), "", http2.ErrCodeEnhanceYourCalm, nil},
		"padding and an end":    {strings.Repeat(data(pad, "\x00"), 300) + data(pad|end, "\x03PPP"), "", 0, nil},
		"grants for nobody":     {strings.Repeat(h2(http2.FrameWindowUpdate, 0, 7, "\x00\x00\x00\x01"), 301), "", http2.ErrCodeEnhanceYourCalm, nil},
		"continuation flood":    {h2(http2.FrameHeaders, 0, 1, "") + strings.Repeat(h2(http2.FrameContinuation, 0, 1, ""), 300), "", http2.ErrCodeEnhanceYourCalm, nil},
		"endless header block":  {h2(http2.FrameHeaders, 0, 1, "") + strings.Repeat(h2(http2.FrameContinuation, 0, 1, long[:16000]), 5), "", http2.ErrCodeEnhanceYourCalm, nil},
		"cut off in a head":     {data(0, "abc")[:5], "", 0, io.ErrUnexpectedEOF},
		"cut off in a frame":    {data(0, "abc")[:11], "ab", 0, io.ErrUnexpectedEOF},
		"cut off in a block":    {h2(http2.FrameHeaders, 0, 1, "\x82"), "", 0, io.ErrUnexpectedEOF},
		"reset":                 {data(0, "a") + h2(http2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08"), "a", 0, &webstream.ResetError{}},
		"going away":            {h2(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00"), "", 0, &webstream.ResetError{}},
		"going away in a fault": {h2(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x02"), "", 0, &webstream.ResetError{}},
	} {
		t.Run(name, func(t *testing.T) {
			for how, in := range ways(tt.in) {
				s, _ := accepted(t, in)
				got, err := io.ReadAll(s)
				var refused *webstream.ProtocolError
				var reset *webstream.ResetError
				_, wantReset := tt.err.(*webstream.ResetError)
				switch {
				case string(got) != tt.want:
					t.Errorf("%s: read %.20q (%d), want %.20q", how, got, len(got), tt.want)
				case tt.code != 0 && (!errors.As(err, &refused) || refused.Code != tt.code):
					t.Errorf("%s: %v, want %v", how, err, tt.code)
				case wantReset && !errors.As(err, &reset):
					t.Errorf("%s: %v, want a reset", how, err)
				case tt.code == 0 && !wantReset && !errors.Is(err, tt.err):
					t.Errorf("%s: %v, want %v", how, err, tt.err)
				}
			}
		})
	}
}

// h2pair is both ends of a stream.
func h2pair(t testing.TB) (client, server *webstream.HTTP2) {
	t.Helper()
	far, near := loopback.Pair(t)
	opened := make(chan *webstream.HTTP2, 1)
	go func() {
		s, status, err := webstream.Open(near, request)
		if status != http.StatusOK || err != nil {
			t.Errorf("%d, %v", status, err)
		}
		opened <- s
	}()
	first := make([]byte, 4096)
	n, _ := far.Read(first)
	o, length := webstream.ParseOpening(first[:n])
	if length != n {
		t.Fatalf("%d of %d octets", length, n)
	}
	server, err := o.Accept(far, nil)
	if err != nil {
		t.Fatal(err)
	}
	return <-opened, server
}

func TestHTTP2BothWays(t *testing.T) {
	bothWays(t, func(t testing.TB) (client, server stream) {
		near, far := h2pair(t)
		if !near.Roomy() {
			t.Error("the server grants little")
		}
		return near, far
	}, 0, 1, 16384, 16385, 66<<10, 1<<20)
}

func FuzzHTTP2(f *testing.F) {
	f.Add([]byte(h2(http2.FrameData, 0, 1, "abc") + h2(http2.FramePing, 0, 0, "12345678") + h2(http2.FrameData, 9, 1, "\x01dP")))
	f.Add([]byte(h2(http2.FrameSettings, 0, 0, "\x00\x04\x00\x00\x00\x0a") + h2(http2.FrameHeaders, 5, 1, "\x82")))
	f.Fuzz(func(t *testing.T, in []byte) {
		sameInPieces(t, in, func(r io.Reader) io.Reader { s, _ := accepted(t, r); return s })
	})
}
