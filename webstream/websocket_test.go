package webstream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/webstream"
)

// frame is one of a client's, with a mask, as its octets.
func frame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i&3])
	}
	return string(b)
}

const (
	binaryFinal = 0x82
	ping        = 0x89
	pong        = 0x8a
	closing     = 0x88
)

func TestFrames(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), webstream.MaxFrame))
	noise := ""
	for range 301 {
		noise += frame(pong, "")
	}
	for name, tt := range map[string]struct {
		in     string
		want   string
		status webstream.Status // of a *FrameError; 0: none
		err    error
	}{
		"nothing":                {"", "", 0, nil},
		"message":                {frame(binaryFinal, "abc"), "abc", 0, nil},
		"fragments":              {frame(0x02, "ab") + frame(0x00, "") + frame(0x80, "c") + frame(binaryFinal, "d"), "abcd", 0, nil},
		"ping amid fragments":    {frame(0x02, "ab") + frame(ping, "hi") + frame(0x80, "c"), "abc", 0, nil},
		"longest":                {frame(binaryFinal, long), long, 0, nil},
		"close":                  {frame(binaryFinal, "a") + frame(closing, "\x03\xe8bye") + frame(binaryFinal, "b"), "a", 0, nil},
		"close without status":   {frame(closing, ""), "", 0, nil},
		"too long":               {frame(binaryFinal, long+"x"), "", webstream.StatusTooBig, nil},
		"no mask":                {"\x82\x03abc", "", webstream.StatusProtocol, nil},
		"no mask, short":         {"\x82\x00", "", webstream.StatusProtocol, nil},
		"reserved bit":           {frame(0xc2, "abc"), "", webstream.StatusProtocol, nil},
		"reserved opcode":        {frame(0x83, "abc"), "", webstream.StatusProtocol, nil},
		"reserved control":       {frame(0x8b, ""), "", webstream.StatusProtocol, nil},
		"text":                   {frame(0x81, "abc"), "", webstream.StatusUnsupported, nil},
		"fragmented ping":        {frame(0x09, ""), "", webstream.StatusProtocol, nil},
		"long ping":              {frame(ping, long[:126]), "", webstream.StatusProtocol, nil},
		"nothing to continue":    {frame(0x80, "abc"), "", webstream.StatusProtocol, nil},
		"message in a message":   {frame(0x02, "ab") + frame(binaryFinal, "c"), "ab", webstream.StatusProtocol, nil},
		"length is not minimal":  {"\x82\xfe\x00\x05\x00\x00\x00\x00abcde", "", webstream.StatusProtocol, nil},
		"length not minimal, 64": {"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00abcde", "", webstream.StatusProtocol, nil},
		"negative length":        {"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00abcde", "", webstream.StatusProtocol, nil},
		"half a status":          {frame(closing, "\x03"), "", webstream.StatusProtocol, nil},
		"flood":                  {noise, "", webstream.StatusPolicy, nil},
		"cut off in a head":      {frame(binaryFinal, "abc")[:3], "", 0, io.ErrUnexpectedEOF},
		"cut off in a payload":   {frame(binaryFinal, "abc")[:8], "ab", 0, io.ErrUnexpectedEOF},
		"cut off in a ping":      {frame(ping, "abc")[:8], "", 0, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			for how, in := range ways(tt.in) {
				c := &oneWay{Reader: in}
				got, err := io.ReadAll(webstream.Server(c))
				var refused *webstream.FrameError
				switch {
				case string(got) != tt.want:
					t.Errorf("%s: read %.20q (%d), want %.20q", how, got, len(got), tt.want)
				case tt.status == 0 && !errors.Is(err, tt.err):
					t.Errorf("%s: %v, want %v", how, err, tt.err)
				case tt.status != 0 && (!errors.As(err, &refused) || refused.Status != tt.status):
					t.Errorf("%s: %v, want status %d", how, err, tt.status)
				case tt.status != 0 && !bytes.HasSuffix(c.sent.Bytes(), binary.BigEndian.AppendUint16([]byte{closing, 2}, uint16(tt.status))):
					t.Errorf("%s: the peer heard %q", how, c.sent.Bytes())
				}
			}
		})
	}
}

func TestClosedWithError(t *testing.T) {
	s := webstream.Server(&oneWay{Reader: bytes.NewReader([]byte(frame(closing, "\x03\xf3")))})
	var closed *webstream.ClosedError
	if _, err := s.Read(make([]byte, 1)); !errors.As(err, &closed) || closed.Status != 1011 {
		t.Fatal(err)
	}
}

// A ping is answered with what it holds, and the last one alone when there are
// many to answer.
func TestPong(t *testing.T) {
	c := &oneWay{Reader: bytes.NewReader([]byte(frame(ping, "a") + frame(ping, "bc")))}
	if _, err := webstream.Server(c).Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	if got := c.sent.String(); got != "\x8a\x01a\x8a\x02bc" {
		t.Fatalf("%q", got)
	}
}

// pair is both ends of a WebSocket.
func pair(testing.TB) (client, server stream) {
	near, far := net.Pipe()
	return webstream.Client(near), webstream.Server(far)
}

func TestBothWays(t *testing.T) {
	bothWays(t, pair, 0, 1, 125, 126, 32<<10, 32<<10+1, 66<<10, 1<<20)
}

// After a deadline in the midst of a frame, a read goes on where it was.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		s := webstream.Server(far)
		defer s.Abort()
		const head = 6
		whole := frame(binaryFinal, "abc")
		for i := range len(whole) {
			s.SetReadDeadline(time.Now().Add(time.Second))
			if n, err := s.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(n, err)
			}
			s.SetReadDeadline(time.Now().Add(time.Second))
			go near.Write([]byte{whole[i]})
			b := make([]byte, 5)
			n, err := s.Read(b)
			if i < head && (n > 0 || !errors.Is(err, os.ErrDeadlineExceeded)) || i >= head && (err != nil || string(b[:n]) != "abc"[i-head:i-head+1]) {
				t.Fatalf("%q, %v", b[:n], err)
			}
		}
	})
}

// A day of silence: a ping every 25 seconds, which neither side's reader sees;
// and none while something moves.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		counted := &counter{Conn: far}
		client, server := webstream.Client(near), webstream.Server(counted)
		server.KeepAlive(25 * time.Second)
		got := make(chan string, 10)
		for _, s := range []*webstream.WebSocket{client, server} {
			go func() {
				b := make([]byte, 10)
				for {
					n, err := s.Read(b)
					if err != nil {
						return
					}
					got <- string(b[:n])
				}
			}()
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := counted.writes; n != 24*3600/25 || len(got) > 0 {
			t.Errorf("%d pings in a day, %d reads", n, len(got))
		}
		for range 100 {
			time.Sleep(20 * time.Second)
			client.Write([]byte("x"))
			<-got
		}
		if n := counted.writes; n != 24*3600/25 {
			t.Errorf("%d pings beside traffic", n-24*3600/25)
		}
		server.Close()
		client.Close()
		synctest.Wait()
		time.Sleep(time.Minute)
	})
}

// counter counts writes.
type counter struct {
	net.Conn
	writes int
}

func (c *counter) Write(b []byte) (int, error) { c.writes++; return c.Conn.Write(b) }

// A client that sends pings and reads nothing does not stop the reader.
func TestUnreadPongs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		s := webstream.Server(far)
		stuck := make(chan struct{})
		go func() { defer close(stuck); s.Write([]byte("nobody reads this")) }()
		synctest.Wait()
		go func() {
			for range 100 {
				io.WriteString(near, frame(ping, "x"))
			}
			io.WriteString(near, frame(binaryFinal, "abc"))
		}()
		began := time.Now()
		b := make([]byte, 3)
		if n, err := io.ReadFull(s, b); err != nil || time.Since(began) != 0 {
			t.Fatal(n, err, time.Since(began))
		}
		s.Abort()
		near.Close()
		<-stuck
	})
}

func FuzzWebSocket(f *testing.F) {
	f.Add([]byte(frame(binaryFinal, "abc")+frame(ping, "x")+frame(closing, "\x03\xe8")), false)
	f.Add([]byte("\x82\x03abc\x89\x00\x88\x00"), true)
	f.Add([]byte("\x02\xfe\x00\x7e\x00\x00\x00\x00"), false)
	f.Fuzz(func(t *testing.T, in []byte, client bool) {
		sameInPieces(t, in, func(r io.Reader) io.Reader {
			if client {
				return webstream.Client(&oneWay{Reader: r})
			}
			return webstream.Server(&oneWay{Reader: r})
		})
	})
}
