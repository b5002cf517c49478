package sites

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// line is a connection to the site that carries one request at a time, none of
// which has a body.
type line struct {
	net.Conn
	head io.LimitedReader // of Conn, bounded while the head of a response is read
	br   *bufio.Reader    // of head
	raw  syscall.RawConn
	used bool      // for a request before
	idle time.Time // since when it is
}

func newLine(conn net.Conn) (*line, error) {
	l := &line{Conn: conn, head: io.LimitedReader{R: conn, N: math.MaxInt64}}
	l.br = bufio.NewReader(&l.head)
	below := conn
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		below = secure.NetConn()
	}
	var err error
	l.raw, err = below.(syscall.Conn).SyscallConn()
	return l, err
}

var errHead = errors.New("https: the head of a response is too large")

// readHead reads the head of a response.
func (l *line) readHead(r *http.Request) (*http.Response, error) {
	l.head.N = maxAnswerHeader
	res, err := http.ReadResponse(l.br, r)
	if err != nil && l.head.N <= 0 {
		err = errHead
	}
	l.head.N = math.MaxInt64
	return res, err
}

// alive reports whether the site has neither closed an idle line nor sent what
// it was not asked for.
func (l *line) alive() bool {
	if l.br.Buffered() > 0 {
		return false
	}
	alive := false
	err := l.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = err == unix.EAGAIN
		return true
	})
	return err == nil && alive
}

// lines are the idle ones. The zero value is ready.
type lines struct {
	mu    sync.Mutex // guards what follows
	idle  []*line    // the last one was used last
	sweep *time.Timer
}

// take returns a line to use again; nil: there is none.
func (p *lines) take() *line {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		l := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if l.alive() {
			return l
		}
		l.Close()
	}
}

// put keeps a line for later, unless there are enough.
func (p *lines) put(l *line) {
	l.used, l.idle = true, time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= idleConns {
		l.Close()
		return
	}
	p.idle = append(p.idle, l)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(idleConnTimeout, p.expire)
	}
}

// expire closes the lines that have been idle for too long.
func (p *lines) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].idle) >= idleConnTimeout {
		p.idle[n].Close()
		n++
	}
	p.idle = append([]*line(nil), p.idle[n:]...)
	p.sweep = nil
	if len(p.idle) > 0 {
		p.sweep = time.AfterFunc(idleConnTimeout-time.Since(p.idle[0].idle), p.expire)
	}
}

// close closes all idle lines.
func (p *lines) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.idle {
		l.Close()
	}
	p.idle = nil
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
}

// line returns an idle line, or a new one.
func (s *proxy) line(ctx context.Context) (*line, error) {
	if l := s.lines.take(); l != nil {
		return l, nil
	}
	return s.newLine(ctx)
}

func (s *proxy) newLine(ctx context.Context) (*line, error) {
	conn, err := s.dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	l, err := newLine(conn)
	if err != nil {
		conn.Close()
	}
	return l, err
}
