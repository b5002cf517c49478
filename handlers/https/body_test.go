package https_test

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"posthorn/handlers/https"
)

// TestBodyNobodyReads: who sends a body that is not read hears the answer, and no
// reset after it, as long as the body is short and comes.
func TestBodyNobodyReads(t *testing.T) {
	g := start(t, func(s *https.Server) {
		s.Mount("POST /refused", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no", http.StatusForbidden)
		}))
	})
	for _, c := range []struct {
		name, path, host string
		length           int // announced; -1: not
		send             int
		status           string
		reset            bool
	}{
		{"short", "/refused", serverName, 10, 10, "403", false},
		{"short, of unknown length", "/refused", serverName, -1, 10, "403", false},
		{"for another host", "/", "other.invalid", 10, 10, "421", false},
		{"long", "/refused", serverName, 1 << 20, 1000, "403", true},
		{"never there", "/refused", serverName, 10, 0, "403", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := g.dial(serverName, "h2")
			var head bytes.Buffer
			enc := hpack.NewEncoder(&head)
			for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", c.host}, {":path", c.path}} {
				enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
			}
			if c.length >= 0 {
				enc.WriteField(hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(c.length)})
			}
			io.WriteString(conn, http2.ClientPreface)
			framer := http2.NewFramer(conn, conn)
			framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			framer.WriteSettings()
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true})
			time.Sleep(50 * time.Millisecond) // the answer is there before the body
			if c.send > 0 {
				framer.WriteData(1, c.send == c.length || c.length < 0, make([]byte, c.send))
			}
			status, reset := answerOf(t, framer)
			if status != c.status || reset != c.reset {
				t.Errorf("%s, reset %t; want %s, reset %t", status, reset, c.status, c.reset)
			}
		})
	}
}

// answerOf reads the answer on stream 1, and whether the stream was reset.
func answerOf(t *testing.T, framer *http2.Framer) (status string, reset bool) {
	framer.WritePing(false, [8]byte{1})
	for ended, asked := false, false; ; {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			status = frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			reset = true
		case *http2.PingFrame:
			if ended && asked {
				return status, reset
			}
			if ended {
				asked = true // what comes with the end comes before the next
			}
			framer.WritePing(false, [8]byte{1})
		}
		if frame.Header().StreamID == 1 && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			ended = true
		}
	}
}
