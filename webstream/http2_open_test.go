package webstream_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/net/http2"

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
