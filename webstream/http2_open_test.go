package webstream_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"posthorn/webstream"
)

func TestParseOpening(t *testing.T) {
	first := opening(t)
	o, n := webstream.ParseOpening(append(bytes.Clone(first), "more"...))
	if n != len(first) {
		t.Fatalf("%d of %d", n, len(first))
	}
	r := o.Request
	if r.Method != "POST" || r.Host != request.Host || r.URL.Path != "/a/imap" || r.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%+v", r)
	}
	for i := range first {
		if _, n := webstream.ParseOpening(first[:i]); n != 0 {
			t.Errorf("%d octets are enough", i)
		}
	}
	// So is what is malformed (RFC 9113 section 8.2.1, 8.3.1).
	block := func(fields ...string) string {
		var buf bytes.Buffer
		enc := hpack.NewEncoder(&buf)
		for i := 0; i < len(fields); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return buf.String()
	}
	settings := first[:bytes.LastIndex(first, []byte{byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders), 0, 0, 0, 1})-3]
	for name, tt := range map[string]struct {
		block string
		taken bool
	}{
		"well":             {block(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/", "a", "b"), true},
		"without a host":   {block(":method", "POST", ":scheme", "https", ":path", "/"), false},
		"with another one": {block(":method", "POST", ":scheme", "https", ":path", "/", ":protocol", "websocket"), false},
		"with one more":    {block(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/", ":a", "b"), false},
		"twice":            {block(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/", ":path", "/"), false},
		"behind a field":   {block(":method", "POST", ":scheme", "https", "a", "b", ":authority", "x", ":path", "/"), false},
		"in the clear":     {block(":method", "POST", ":scheme", "http", ":authority", "x", ":path", "/"), false},
		"no path":          {block(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "x"), false},
		"of a length":      {block(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/", "content-length", "1"), false},
		"capitals":         {block(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/", "A", "b"), false},
		"line breaks":      {block(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/", "a", "b\r\nc: d"), false},
		"no name":          {block(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/", "a b", "c"), false},
		"host with breaks": {block(":method", "POST", ":scheme", "https", ":authority", "x\r\ny", ":path", "/"), false},
	} {
		in := string(settings) + h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, tt.block)
		if _, n := webstream.ParseOpening([]byte(in)); (n == len(in)) != tt.taken {
			t.Errorf("%s: %d of %d", name, n, len(in))
		}
	}
	// What other clients begin with is others'.
	var buf bytes.Buffer
	buf.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&buf, nil)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 6 << 20})
	fr.WriteWindowUpdate(0, 15<<20)
	if _, n := webstream.ParseOpening(append(buf.Bytes(), first[len(first)-60:]...)); n != 0 {
		t.Error("a browser's is taken")
	}
}

// answerOf is a HEADERS frame with a block.
func answerOf(flags http2.Flags, block string) string {
	return h2(http2.FrameHeaders, flags|http2.FlagHeadersEndHeaders, 1, block)
}

// Whatever a server answers, a status is one only if it is told well.
func TestOpen(t *testing.T) {
	const (
		end    = http2.FlagHeadersEndStream
		ok     = "\x88"           // :status: 200
		gone   = "\x8d"           // 404
		hints  = "\x08\x03103"    // 103
		nobody = "\x00\x01a\x01b" // no status
	)
	for name, tt := range map[string]struct {
		in     string
		status int // 0: an error
		read   string
	}{
		"stream":             {answerOf(0, ok) + h2(http2.FrameData, http2.FlagDataEndStream, 1, "abc"), 200, "abc"},
		"nothing in it":      {answerOf(end, ok), 200, ""},
		"refused":            {answerOf(end, gone), 404, ""},
		"hints first":        {answerOf(0, hints) + answerOf(0, ok) + h2(http2.FrameData, http2.FlagDataEndStream, 1, "a"), 200, "a"},
		"hints, and no more": {answerOf(end, hints) + answerOf(0, ok), 0, ""},
		"no status":          {answerOf(0, nobody), 0, ""},
		"no number":          {answerOf(0, "\x08\x03abc"), 0, ""},
		"no block":           {answerOf(0, "\xff\xff"), 0, ""},
		"data first":         {h2(http2.FrameData, 0, 1, "a") + answerOf(0, ok), 0, ""},
		"another stream's":   {h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, ok), 0, ""},
		"reset":              {h2(http2.FrameRSTStream, 0, 1, "\x00\x00\x00\x07"), 0, ""},
		"going away":         {h2(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00"), 0, ""},
		"nothing":            {"", 0, ""},
		"HTTP/1.1":           {"HTTP/1.1 400 Bad Request\r\n\r\n", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for how, in := range ways(tt.in) {
				s, status, err := webstream.Open(&oneWay{Reader: in}, request)
				if status != tt.status || (err == nil) != (tt.status != 0) {
					t.Errorf("%s: %d, %v", how, status, err)
				}
				if err != nil {
					continue
				}
				if got, err := io.ReadAll(s); string(got) != tt.read || err != nil {
					t.Errorf("%s: read %q, %v", how, got, err)
				}
			}
		})
	}
}

func FuzzOpening(f *testing.F) {
	first := opening(f)
	f.Add(first)
	f.Add(append([]byte(http2.ClientPreface), h2(http2.FrameHeaders, 4, 1, "\x82\x87\x84")...))
	f.Fuzz(func(t *testing.T, in []byte) {
		o, n := webstream.ParseOpening(in)
		if n == 0 {
			return
		}
		if n > len(in) || o.Request.URL == nil || o.Request.Method == "" && o.Request.Host == "" {
			t.Errorf("%d of %d, %+v", n, len(in), o.Request)
		}
		if _, err := o.Accept(&oneWay{Reader: strings.NewReader("")}, nil); err != nil {
			var e *webstream.ProtocolError
			if !errors.As(err, &e) {
				t.Error(err)
			}
		}
	})
}
