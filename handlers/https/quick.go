package https

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"posthorn/mux"
)

// quick serves a connection of HTTP/1.1 as long as its requests are simple, and
// for files that are at hand. net/http takes more for each of them than all the
// rest together: a goroutine that waits for the client meanwhile, a context, four
// deadlines. It gets the connection at the first request that is anything else,
// as if nothing had been before.
type quick struct {
	server *Server
	conn   *mux.Conn
	buf    *[quickBuffer]byte
	have   int       // octets in buf
	armed  time.Time // the read deadline
	over   atomic.Bool

	known   string // a Host that is the connection's
	named   bool   // it has what is mounted
	hsts    string
	request http.Request // for owns
	target  url.URL      // its URL
}

const (
	quickBuffer = 4 << 10
	// quickContent is the most that is sent in one piece with its header.
	quickContent = 48 << 10
)

var (
	quickBuffers = sync.Pool{New: func() any { return new([quickBuffer]byte) }}
	quickAnswers = sync.Pool{New: func() any { b := make([]byte, 0, quickContent+quickBuffer); return &b }}
)

// serveQuickly returns true when the connection is over, and else with what comes
// next unread.
func (s *Server) serveQuickly(ctx context.Context, c *mux.Conn) (over bool) {
	if s.Sites == nil || c.ServerName == "" || !s.Sites.HasFiles(c.ServerName) || !s.Serves(c.ServerName) {
		return false
	}
	s.router() // makes own
	q := &quick{server: s, conn: c, buf: quickBuffers.Get().(*[quickBuffer]byte)}
	defer quickBuffers.Put(q.buf)
	q.request = http.Request{Method: http.MethodGet, URL: &q.target}
	stop := context.AfterFunc(ctx, func() {
		q.over.Store(true)
		_ = c.SetReadDeadline(longAgo)
	})
	defer stop()
	err := q.serve()
	if err == errNotSimple {
		c.Unread(bytes.Clone(q.buf[:q.have]))
		return false
	}
	if ctx.Err() != nil {
		c.SetReason(context.Cause(ctx).Error())
	}
	return true
}

var (
	errNotSimple = errors.New("https: a request that is not simple")
	longAgo      = time.Unix(1, 0)
)

// serve answers one request after the other.
func (q *quick) serve() error {
	wait := headerTimeout
	var r simple
	for {
		n := r.parse(q.buf[:q.have])
		if n == 0 && q.have > 0 {
			return errNotSimple
		}
		if n == 0 {
			if err := q.read(wait); err != nil {
				return err
			}
			continue
		}
		if err := q.answer(&r); err != nil {
			return err
		}
		q.have = copy(q.buf[:], q.buf[n:q.have])
		wait = idleTimeout
	}
}

// read waits for the client, for between half of wait and wait: to set a deadline
// costs as much as to read.
func (q *quick) read(wait time.Duration) error {
	if now := time.Now(); q.armed.Sub(now) < wait/2 || q.armed.Sub(now) > wait {
		q.armed = now.Add(wait)
		if err := q.conn.SetReadDeadline(q.armed); err != nil {
			return err
		}
	}
	if q.over.Load() {
		return net.ErrClosed
	}
	n, err := q.conn.Read(q.buf[q.have:])
	q.have += n
	if n > 0 {
		return nil
	}
	return err
}

// answer answers a request; errNotSimple: net/http has to.
func (q *quick) answer(r *simple) error {
	if r.host != q.known && !q.know(r.host) {
		return errNotSimple
	}
	if q.target.Path = r.path; q.named && q.server.owns(q.server.routable(&q.request)) {
		return errNotSimple
	}
	file, ok := q.server.Sites.File(q.conn.ServerName, r.path, r.acceptEncoding)
	if !ok {
		return errNotSimple
	}
	buf := quickAnswers.Get().(*[]byte)
	defer quickAnswers.Put(buf)
	b := append((*buf)[:0], "HTTP/1.1 200 OK\r\nDate: "...)
	b = append(time.Now().UTC().AppendFormat(b, http.TimeFormat), "\r\n"...)
	if q.hsts != "" {
		b = append(append(append(b, "Strict-Transport-Security: "...), q.hsts...), "\r\n"...)
	}
	b = append(file.AppendFields(append(b, "X-Content-Type-Options: nosniff\r\n"...)), "\r\n"...)
	content := file.Content
	if r.head {
		content = nil
	}
	n := min(len(content), quickContent)
	_, err := q.conn.Write(append(b, content[:n]...))
	if err == nil && n < len(content) {
		_, err = q.conn.Write(content[n:])
	}
	return err
}

// know reports whether a Host is the connection's.
func (q *quick) know(host string) bool {
	name := hostname(host)
	if name != q.conn.ServerName || !q.server.Serves(name) {
		return false
	}
	q.known = strings.Clone(host) // and not the request that it is a part of
	q.named = q.server.named(name)
	q.request.Host = q.known
	q.hsts = q.server.hsts(&q.request)
	return true
}
