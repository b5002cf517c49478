package transport

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"posthorn/alpn"
	"posthorn/mux"
)

// serveStream serves a request on HTTP/2 until what is inside has ended.
func serveStream(w http.ResponseWriter, r *http.Request, c *mux.Conn, p alpn.Port) {
	s, far := newStream(w, c)
	if s.open() != nil {
		return
	}
	c.Carry(s, p)
	pump(far, r.Body)
	<-s.gone
	s.end()
}

// stream is a request's body and its response, as a connection. net/http cannot
// wait for a body up to a deadline and go on later, so the request's goroutine,
// which has to stay anyhow, hands the body over through a pipe, which can.
type stream struct {
	net.Conn // the pipe's end: Read and its deadline
	outer    *mux.Conn
	w        http.ResponseWriter
	control  *http.ResponseController

	writing sync.Mutex // held while w is written to

	mu       sync.Mutex // guards what follows, and the use of control
	closed   bool       // nothing more is written
	ended    bool       // so has the handler
	busy     bool       // a write is under way
	deadline time.Time  // of writes; zero: none
	timer    *time.Timer
	gone     chan struct{} // closed when closed is set
}

func newStream(w http.ResponseWriter, c *mux.Conn) (s *stream, far net.Conn) {
	near, far := net.Pipe()
	return &stream{
		Conn: near, outer: c, w: w, control: http.NewResponseController(w), gone: make(chan struct{}),
	}, far
}

// open answers the request. It may take as long as it likes from now on.
func (s *stream) open() error {
	h := s.w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	s.w.WriteHeader(http.StatusOK)
	return cmp.Or(s.control.SetReadDeadline(time.Time{}), s.control.SetWriteDeadline(time.Time{}), s.control.Flush())
}

// A body that is quiet takes a small buffer, since a read must have one.
const (
	smallRead = 512
	largeRead = 16 << 10
)

var largeReads = sync.Pool{New: func() any {
	b := make([]byte, largeRead)
	return &b
}}

// pump hands a body over until either side ends.
func pump(to io.WriteCloser, body io.Reader) {
	defer to.Close()
	small := make([]byte, smallRead)
	for {
		n, err := hand(to, body, small)
		for n >= smallRead && err == nil {
			large := largeReads.Get().(*[]byte)
			n, err = hand(to, body, *large)
			largeReads.Put(large)
		}
		if err != nil {
			return
		}
	}
}

// hand hands over what comes next.
func hand(to io.Writer, body io.Reader, buf []byte) (n int, err error) {
	n, err = body.Read(buf)
	if n > 0 {
		if _, err := to.Write(buf[:n]); err != nil {
			return n, err
		}
	}
	return n, err
}

// stallTime is how long a client may take for the octets of one write.
const stallTime = 30 * time.Second

// Write implements net.Conn. What the client does not take in time ends the
// stream.
func (s *stream) Write(b []byte) (n int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.begin(); err != nil {
		return 0, err
	}
	defer s.done()
	if n, err = s.w.Write(b); err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// begin sets the time of a write.
func (s *stream) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	wait := stallTime
	if !s.deadline.IsZero() {
		wait = min(wait, time.Until(s.deadline))
	}
	if wait <= 0 {
		return os.ErrDeadlineExceeded
	}
	s.busy = true
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.Abort)
	} else {
		s.timer.Reset(wait)
	}
	return nil
}

func (s *stream) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	s.timer.Stop()
}

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deadline = t; s.busy && !t.IsZero() {
		s.timer.Reset(time.Until(t))
	}
	return nil
}

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	return cmp.Or(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// RemoteAddr is the client's.
func (s *stream) RemoteAddr() net.Addr { return s.outer.RemoteAddr() }

// LocalAddr is the address that the client connected to.
func (s *stream) LocalAddr() net.Addr { return s.outer.LocalAddr() }

var longAgo = time.Unix(1, 0)

// Close ends the response behind what was written.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	return nil
}

// close makes the handler return. The caller holds mu.
func (s *stream) close() {
	if s.closed {
		return
	}
	s.closed = true
	_ = s.control.SetReadDeadline(longAgo) // pump waits for the body
	s.Conn.Close()
	close(s.gone)
}

// Abort implements mux.Carrier: it resets the stream.
func (s *stream) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		_ = s.control.SetWriteDeadline(longAgo)
	}
	s.close()
}

// end waits until nobody uses the response any more.
func (s *stream) end() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}
