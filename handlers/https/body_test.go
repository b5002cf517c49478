package https_test

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"posthorn/handlers/https"
)

// TestBodyNobodyReads: who sends a body that is not read hears the answer, and no
// reset after it, as long as the body is short and comes.
func TestBodyNobodyReads(t *testing.T) {
	refusing := func(s *https.Server) {
		s.Mount("POST /refused", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no", http.StatusForbidden)
		}))
	}
	for _, c := range []unreadRequest{
		{"short", "/refused", serverName, 10, 10, "403", false},
		{"short, of unknown length", "/refused", serverName, -1, 10, "403", false},
		{"for another host", "/", "other.invalid", 10, 10, "421", false},
		{"long", "/refused", serverName, 1 << 20, 1000, "403", true},
		{"never there", "/refused", serverName, 10, 0, "403", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := startOnPipes(t, refusing).dial(serverName, "h2")
				framer := http2.NewFramer(conn, conn)
				framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				var got streamAnswer
				var reading sync.WaitGroup
				defer reading.Wait()
				defer conn.Close()
				reading.Go(func() { got.read(framer) })

				io.WriteString(conn, http2.ClientPreface)
				framer.WriteSettings()
				framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.head(), EndHeaders: true})
				synctest.Wait() // the answer is there before the body
				if c.send > 0 {
					framer.WriteData(1, c.send == c.length || c.length < 0, make([]byte, c.send))
				}
				time.Sleep(10 * time.Second) // more than anybody waits for the rest
				synctest.Wait()
				if got != (streamAnswer{c.status, true, c.reset}) {
					t.Errorf("%+v; want %s, reset %t", got, c.status, c.reset)
				}
			})
		})
	}
}

// unreadRequest is a request of HTTP/2 whose body nobody reads, and what is to come
// of it.
type unreadRequest struct {
	name, path, host string
	length           int // announced; -1: not
	send             int
	status           string
	reset            bool
}

// head is the request's header section.
func (r *unreadRequest) head() []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", r.host}, {":path", r.path}} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	if r.length >= 0 {
		enc.WriteField(hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(r.length)})
	}
	return b.Bytes()
}

// streamAnswer is what has come on stream 1.
type streamAnswer struct {
	status       string
	ended, reset bool
}

// read reads until the connection ends.
func (a *streamAnswer) read(framer *http2.Framer) {
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			a.status = frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			a.reset = true
		}
		if frame.Header().StreamID == 1 && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			a.ended = true
		}
	}
}
