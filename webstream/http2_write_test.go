package webstream_test

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"posthorn/webstream"
)

// What a client grants is what it is sent, and who waits for more does so up to
// a deadline.
func TestHTTP2FlowControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go io.Copy(io.Discard, near)
		o, _ := webstream.ParseOpening(opening(t))
		s, err := o.Accept(far, nil)
		if err != nil {
			t.Fatal(err)
		}
		// The stream's window shrinks to ten octets (RFC 9113 section 6.9.2).
		go io.WriteString(near, h2(http2.FrameSettings, 0, 0, "\x00\x04\x00\x00\x00\x0a")+h2(http2.FrameData, 0, 1, "x"))
		if _, err := s.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s.SetWriteDeadline(began.Add(20 * time.Millisecond))
		if n, err := s.Write(make([]byte, 30)); n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 20*time.Millisecond {
			t.Fatal(n, err, time.Since(began))
		}
		s.SetWriteDeadline(time.Time{})
		wrote := make(chan int)
		go func() { n, _ := s.Write(make([]byte, 30)); wrote <- n }()
		synctest.Wait()
		go io.WriteString(near, h2(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x1e")+h2(http2.FrameData, 0, 1, "x"))
		if _, err := s.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if n := <-wrote; n != 30 {
			t.Fatal(n)
		}
		// A client that grants nothing is not waited for; who is, is not after Abort.
		began = time.Now()
		if n, err := s.Write(make([]byte, 30)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 30*time.Second {
			t.Fatal(n, err, time.Since(began))
		}
		go func() { n, _ := s.Write(make([]byte, 30)); wrote <- n }()
		synctest.Wait()
		began = time.Now()
		s.Abort()
		if n := <-wrote; n != 0 || time.Since(began) != 0 {
			t.Fatal(n, time.Since(began))
		}
	})
}

// A writer that waits for more to be granted does not wait for a peer that has gone.
func TestHTTP2PeerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go io.Copy(io.Discard, near)
		o, _ := webstream.ParseOpening(opening(t))
		s, err := o.Accept(far, nil)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(near, h2(http2.FrameSettings, 0, 0, "\x00\x04\x00\x00\x00\x00")+h2(http2.FrameData, 0, 1, "x"))
		if _, err := s.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		wrote := make(chan error)
		go func() { _, err := s.Write([]byte("x")); wrote <- err }()
		synctest.Wait()
		near.Close()
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		if err := <-wrote; err == nil || time.Since(began) != 0 {
			t.Errorf("%v, after %v", err, time.Since(began))
		}
		s.Abort()
	})
}

// Frames are no longer than the peer takes, and none comes behind the end.
func TestHTTP2FrameSize(t *testing.T) {
	s, c := accepted(t, strings.NewReader(h2(http2.FrameSettings, 0, 0, "\x00\x05\x00\x00\x50\x00")+h2(http2.FrameData, 0, 1, "x")))
	if _, err := s.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.sent.Reset()
	const size = 50_000
	if n, err := s.Write(make([]byte, size)); n != size || err != nil {
		t.Fatal(n, err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Error(n, err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Error(err)
	}
	var sizes []int
	frames := http2.NewFramer(nil, &c.sent)
	for {
		f, err := frames.ReadFrame()
		if err != nil {
			break
		}
		sizes = append(sizes, int(f.Header().Length))
	}
	if want := []int{0x5000, 0x5000, size - 2*0x5000, 0}; !slices.Equal(sizes, want) {
		t.Errorf("frames of %d, want %d", sizes, want)
	}
}

// The connection's window bounds what is sent, besides the stream's.
func TestHTTP2ConnectionWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := h2(http2.FrameSettings, 0, 0, "\x00\x04\x7f\xff\xff\xff") + answerOf(0, "\x88")
		s, _, err := webstream.Open(&oneWay{Reader: strings.NewReader(in)}, request)
		if err != nil {
			t.Fatal(err)
		}
		s.SetWriteDeadline(time.Now().Add(time.Hour))
		if n, err := s.Write(make([]byte, 70_000)); n != 65535 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(n, err)
		}
	})
}

// again is a text that comes again and again.
type again struct {
	text string
	at   int
}

func (a *again) Read(b []byte) (int, error) {
	n := copy(b, a.text[a.at:])
	a.at = (a.at + n) % len(a.text)
	return n, nil
}

// As much as has come is granted anew, before the peer runs out of it.
func TestHTTP2Grants(t *testing.T) {
	const frame, granted = 64 << 10, 1 << 30
	s, c := accepted(t, &again{text: h2(http2.FrameData, 0, 1, strings.Repeat("x", frame))})
	c.sent.Reset()
	buf := make([]byte, frame)
	for n := 0; n < granted; {
		m, err := s.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n += m; n < granted && c.sent.Len() > 0 {
			t.Fatalf("granted after %d octets", n)
		}
	}
	if _, err := s.Read(buf[:1]); err != nil { // of the next frame
		t.Fatal(err)
	}
	want := h2(http2.FrameWindowUpdate, 0, 0, "\x40\x00\x00\x00") + h2(http2.FrameWindowUpdate, 0, 1, "\x40\x00\x00\x00")
	if c.sent.String() != want {
		t.Errorf("%q", c.sent.String())
	}
}

// A peer whose frame comes while our direction is ended has its answer after that.
func TestHTTP2AnswersWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		o, _ := webstream.ParseOpening(opening(t))
		accepted := make(chan *webstream.HTTP2, 1)
		go func() {
			s, err := o.Accept(far, nil)
			if err != nil {
				t.Error(err)
			}
			accepted <- s
		}()
		if _, err := near.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		s := <-accepted
		go s.CloseWrite()
		read := make(chan struct{})
		go func() { io.Copy(io.Discard, s); close(read) }()
		synctest.Wait()
		io.WriteString(near, h2(http2.FramePing, 0, 0, "12345678"))
		synctest.Wait()
		near.SetReadDeadline(time.Now().Add(time.Second))
		want := h2(http2.FrameData, http2.FlagDataEndStream, 1, "") + h2(http2.FramePing, http2.FlagPingAck, 0, "12345678")
		got := make([]byte, len(want))
		if n, err := io.ReadFull(near, got); string(got[:n]) != want {
			t.Errorf("%q, %v", got[:n], err)
		}
		near.Close()
		<-read
		s.Abort()
	})
}
