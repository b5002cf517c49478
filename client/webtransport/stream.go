package webtransport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// stream is a request on HTTP/2 and its answer, as a connection: what is written
// goes through one pipe into the request's body, and what the answer has comes
// through the other. Pipes have deadlines, bodies have not.
type stream struct {
	net.Conn // the outer TLS connection: its addresses
	in, out  net.Conn
	cancel   context.CancelFunc
	carried  chan struct{} // closed when the answer has ended
	err      error         // then: how, if not well
}

// contentType is that of both bodies.
const contentType = "application/octet-stream"

// openStream opens a stream on a connection that speaks HTTP/2.
func (t *target) openStream(ctx context.Context, tc *tls.Conn) (net.Conn, error) {
	cc, err := t.clientConn(ctx, tc)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	body, out := net.Pipe()
	req := (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "https", Host: t.host(), Path: t.path}, Host: t.host(),
		Header: http.Header{"Content-Type": {contentType}, "Accept": {contentType}, "User-Agent": {""}},
		Body:   body, ContentLength: -1,
	}).WithContext(life)
	res, err := cc.RoundTrip(req)
	switch {
	case err != nil:
	case res.StatusCode != http.StatusOK:
		err = &StatusError{res.StatusCode}
	case res.Header.Get("Content-Type") != contentType:
		err = ErrHandshake
	case !stop():
		err = ctx.Err()
	default:
		in, from := net.Pipe()
		s := &stream{Conn: tc, in: in, out: out, cancel: cancel, carried: make(chan struct{})}
		go s.carry(from, res.Body)
		return s, nil
	}
	stop()
	cancel()
	cc.Close()
	return nil, err
}

// clientConn gives a connection to net/http.
func (t *target) clientConn(ctx context.Context, tc *tls.Conn) (*http.ClientConn, error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		DialTLSContext:     func(context.Context, string, string) (net.Conn, error) { return tc, nil },
		Protocols:          protocols,
		DisableCompression: true,
		HTTP2:              &http.HTTP2Config{SendPingTimeout: t.ping()},
	}
	return transport.NewClientConn(ctx, "https", t.address)
}

// carry carries the answer.
func (s *stream) carry(to io.WriteCloser, body io.ReadCloser) {
	defer close(s.carried)
	defer to.Close()
	defer body.Close()
	if _, err := io.CopyBuffer(writer{to}, body, make([]byte, 64<<10)); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		s.err = err
	}
}

// writer hides what io.Copy would use in place of a buffer.
type writer struct{ io.Writer }

// Read implements net.Conn.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.in.Read(b)
	if err == io.EOF {
		if <-s.carried; s.err != nil {
			err = s.err
		}
	}
	return n, err
}

// Write implements net.Conn.
func (s *stream) Write(b []byte) (int, error) { return s.out.Write(b) }

// CloseWrite ends the request's body.
func (s *stream) CloseWrite() error { return s.out.Close() }

// closeTime is how long a server may take to end the answer when the request
// has ended; what was written last is on its way until then.
const closeTime = time.Second

// Close implements net.Conn.
func (s *stream) Close() error {
	s.out.Close()
	s.in.Close()
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-s.carried:
	case <-timer.C:
	}
	s.cancel()
	err := s.Conn.Close()
	<-s.carried
	return err
}

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error { return s.in.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.out.SetWriteDeadline(t) }
