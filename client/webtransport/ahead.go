package webtransport

import (
	"errors"
	"io"
	"net"
	"time"

	"posthorn/webstream"
)

// ahead is a stream that is read from before anybody asks. net/http's server
// grants so little that a writer would wait for ever for more of it, unless
// somebody reads.
type ahead struct {
	*webstream.HTTP2
	pipe net.Conn      // what was read
	done chan struct{} // closed when nothing more is read
	err  error         // then: why, unless it ended well
}

// readAhead begins to read.
func readAhead(s *webstream.HTTP2) net.Conn {
	near, far := net.Pipe()
	a := &ahead{HTTP2: s, pipe: near, done: make(chan struct{})}
	go a.carry(far)
	return a
}

func (a *ahead) carry(to io.WriteCloser) {
	defer to.Close()
	defer close(a.done)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{a.HTTP2}, make([]byte, 64<<10))
	if !errors.Is(err, io.ErrClosedPipe) {
		a.err = err
	}
}

// Read implements net.Conn.
func (a *ahead) Read(b []byte) (int, error) {
	n, err := a.pipe.Read(b)
	if err == io.EOF && a.err != nil {
		err = a.err
	}
	return n, err
}

// SetReadDeadline implements net.Conn.
func (a *ahead) SetReadDeadline(t time.Time) error { return a.pipe.SetReadDeadline(t) }

// SetDeadline implements net.Conn.
func (a *ahead) SetDeadline(t time.Time) error {
	return errors.Join(a.SetReadDeadline(t), a.SetWriteDeadline(t))
}

// Close implements net.Conn.
func (a *ahead) Close() error {
	a.pipe.Close()
	err := a.HTTP2.Close()
	<-a.done
	return err
}
