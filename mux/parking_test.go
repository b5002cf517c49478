package mux_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/mux"
	"posthorn/mux/muxtest"
	"posthorn/park"
)

// parker is a handler that echoes, and parks its connections when they are
// quiet.
type parker struct {
	parked chan stay
	ended  chan string
}

func newParker() *parker {
	return &parker{parked: make(chan stay, 100), ended: make(chan string, 100)}
}

func (h *parker) Busy() []byte { return nil }

func (h *parker) ServeConn(ctx context.Context, c *mux.Conn) {
	e := &echo{h: h, c: c, ctx: ctx}
	if c.SetIdentity(mux.Identity{Account: "a"}) != nil {
		return
	}
	if e.lot, _ = c.Parking(func() {}); e.lot == nil {
		panic("this is no socket")
	}
	e.done = c.Detach()
	context.AfterFunc(ctx, e.stop)
	e.Wake()
}

// stay is a connection that was parked after so many bytes.
type stay struct {
	*echo
	echoed int
}

// echo is one of its connections.
type echo struct {
	h      *parker
	c      *mux.Conn
	ctx    context.Context
	lot    *park.Lot
	done   func()
	echoed int

	mu     sync.Mutex
	ticket park.Ticket // guarded by mu
	wakes  int         // guarded by mu
}

func (e *echo) Wake() {
	e.mu.Lock() // for who looks at it while it is parked
	e.wakes++
	e.mu.Unlock()
	b := make([]byte, 64<<10)
	for {
		n, err := e.c.TryRead(b)
		if e.echoed += n; n > 0 {
			if _, werr := e.c.Write(b[:n]); werr != nil {
				err = werr
			}
		}
		if err == park.ErrNothing {
			echoed := e.echoed
			if err = e.park(); err == nil {
				e.h.parked <- stay{e, echoed}
				return
			}
		}
		if err != nil {
			e.h.ended <- err.Error()
			e.done()
			return
		}
	}
}

func (e *echo) park() (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ticket, err = e.c.Park(e)
	return err
}

func (e *echo) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lot.Leave(e.ticket) {
		e.h.ended <- context.Cause(e.ctx).Error()
		e.done()
	}
}

func startParker(t *testing.T, edits ...func(*mux.Config)) (*bench, *parker) {
	h := newParker()
	return start(t, append([]func(*mux.Config){func(c *mux.Config) {
		c.Handlers = map[alpn.Protocol]mux.Handler{alpn.IMAP: h}
	}}, edits...)...), h
}

// If this fails, crypto/tls has changed, and parked connections take up to 25 KB
// more: look whether the fields in trim.go still mean the same.
func TestTrimKnowsTheFields(t *testing.T) {
	for i, offset := range mux.TrimFields {
		if offset == 0 {
			t.Errorf("field %d of trimFields is not there", i)
		}
	}
	for i, offset := range mux.OtherFields {
		if offset != 0 {
			t.Errorf("field %d is found, but of another name or type", i)
		}
	}
}

// kept is how large a buffer of a tls.Conn is.
func kept(tc *tls.Conn, buffer string) int {
	return reflect.ValueOf(tc).Elem().FieldByName(buffer).FieldByName("buf").Cap()
}

func TestParkedKeepsLittle(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		b, h := startParker(t)
		config := clientConfig("imap")
		config.MaxVersion = version
		config.Certificates = []tls.Certificate{muxtest.KeyPair(t)}
		c := connect(t, b.listen(alpn.Shared), config)
		big := strings.Repeat("x", 40<<10)
		for range 3 {
			c.send(big)
			c.want(big)
		}
		var e stay
		for e.echoed < 3*(len(big)+2) {
			e = <-h.parked
		}
		e.mu.Lock()
		tc := e.c.Conn.(*tls.Conn)
		if raw, hand := kept(tc, "rawInput"), kept(tc, "hand"); raw+hand > 0 {
			t.Errorf("%s: it keeps %d and %d bytes", tls.VersionName(version), raw, hand)
		}
		if n := len(e.c.TLS().PeerCertificates); n > 0 {
			t.Errorf("it keeps %d certificates", n)
		}
		if _, err := e.c.TLS().ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err == nil {
			t.Error("it exports keys")
		}
		if e.c.Key.IsZero() {
			t.Error("the key is forgotten too")
		}
		e.mu.Unlock()
		c.send("on")
		c.want("on")
	}
}

// The rest of a record may come after its connection was parked.
func TestParkedInMidRecord(t *testing.T) {
	b, h := startParker(t)
	half := &halfway{Conn: dial(t, b.listen(alpn.Shared))}
	tc := tls.Client(half, clientConfig("imap"))
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, tc)
	<-h.parked
	half.pause = func() { <-h.parked }
	c.send(strings.Repeat("x", 1000))
	half.pause = nil
	c.want(strings.Repeat("x", 1000))
}

// halfway pauses in the middle of each write.
type halfway struct {
	net.Conn
	pause func()
}

func (h *halfway) Write(b []byte) (int, error) {
	if h.pause == nil {
		return h.Conn.Write(b)
	}
	n, err := h.Conn.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	h.pause()
	m, err := h.Conn.Write(b[n:])
	return n + m, err
}

func TestParkedIsEnded(t *testing.T) {
	for _, cause := range []error{mux.ErrRevoked, mux.ErrDraining, mux.ErrTimeout} {
		var log muxtest.Log
		b, h := startParker(t, func(c *mux.Config) { c.Log = zerolog.New(&log) })
		c := connect(t, b.listen(alpn.Shared), clientConfig("imap"))
		<-h.parked
		c.send("x")
		c.want("x")
		e := <-h.parked
		switch cause {
		case mux.ErrRevoked:
			b.CloseAccount("a", nil, cause)
		case mux.ErrDraining:
			b.stop()
		case mux.ErrTimeout:
			e.c.PassSilently(time.Hour)
		}
		c.wantEnd()
		if got := <-h.ended; got != cause.Error() {
			t.Errorf("it ends with %s, not %v", got, cause)
		}
		b.stop()
		if n := strings.Count(log.String(), `"message":"connection"`); n != 1 || !strings.Contains(log.String(), `"reason":"`+cause.Error()) {
			t.Errorf("logged: %s", log.String())
		}
	}
}

// A client that says something now and then is not silent.
func TestParkedIsNotIdle(t *testing.T) {
	b, h := startParker(t, func(c *mux.Config) { c.Limits.Idle = time.Hour })
	c := connect(t, b.listen(alpn.Shared), clientConfig("imap"))
	for range 5 {
		(<-h.parked).c.PassSilently(59 * time.Minute)
		c.send("x")
		c.want("x")
	}
	(<-h.parked).c.PassSilently(time.Hour)
	c.wantEnd()
	if got := <-h.ended; got != mux.ErrTimeout.Error() {
		t.Errorf("it ends with %s", got)
	}
}

// detacher is a handler that leaves its connections to others.
type detacher struct {
	left chan func()
	then func(*mux.Conn)
}

func (h *detacher) Busy() []byte { return nil }

func (h *detacher) ServeConn(_ context.Context, c *mux.Conn) {
	h.left <- c.Detach()
	if h.then != nil {
		h.then(c)
	}
}

func TestDetach(t *testing.T) {
	var log muxtest.Log
	h := &detacher{left: make(chan func(), 1)}
	b := start(t, func(c *mux.Config) {
		c.Handlers, c.Log = map[alpn.Protocol]mux.Handler{alpn.IMAP: h}, zerolog.New(&log)
	})
	c := connect(t, b.listen(alpn.Shared), clientConfig("imap"))
	done := <-h.left
	stopped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	go func() { stopped <- b.Shutdown(ctx) }()
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown does not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if len(b.Conns()) != 1 || strings.Contains(log.String(), "connection") {
		t.Fatal("the connection is over")
	}
	done()
	c.wantEnd()
	done()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), `"message":"connection"`); n != 1 {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

// A panic ends the connection, whoever else has it.
func TestDetachAndPanic(t *testing.T) {
	h := &detacher{left: make(chan func(), 1), then: func(*mux.Conn) { panic("test") }}
	b := start(t, func(c *mux.Config) { c.Handlers = map[alpn.Protocol]mux.Handler{alpn.IMAP: h} })
	c := connect(t, b.listen(alpn.Shared), clientConfig("imap"))
	c.wantEnd()
	(<-h.left)()
	b.stop()
}

func TestUnread(t *testing.T) {
	b := start(t, func(c *mux.Config) {
		c.Handlers = map[alpn.Protocol]mux.Handler{alpn.IMAP: &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, line string) string {
			c.Unread([]byte("d\r\n"))
			c.Unread([]byte("b\r\nc"))
			rest := make([]byte, 7)
			io.ReadFull(c, rest)
			c.Unread(nil)
			return line + " " + strings.ReplaceAll(string(rest), "\r\n", "|")
		}}}
	})
	c := connect(t, b.listen(alpn.Shared), clientConfig("imap"))
	c.want("hello imap")
	c.send("a")
	c.want("a b|cd|")
}

// counted counts the writes to a socket.
type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

type countedListener struct {
	net.Listener
	writes atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return counted{nc, &l.writes}, nil
}

func TestWriteJoinsRecords(t *testing.T) {
	const size = 200 << 10
	var l countedListener
	b := start(t, func(c *mux.Config) {
		c.Handlers = map[alpn.Protocol]mux.Handler{alpn.IMAP: &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, line string) string {
			before := l.writes.Load()
			if n, err := c.Write([]byte(strings.Repeat("x", size-2) + "\r\n")); n != size || err != nil {
				return "broken"
			}
			if n := l.writes.Load() - before; n != 4 {
				t.Errorf("%d writes", n)
			}
			return line
		}}}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Listener = ln
	b.serveOn(&l, alpn.Shared)
	c := connect(t, ln.Addr().String(), clientConfig("imap"))
	c.want("hello imap")
	for range 3 {
		c.send("a")
		c.want(strings.Repeat("x", size-2))
		c.want("a")
	}
}

// passer is a handler that goes on elsewhere, twice.
type passer struct{ talker }

func (h *passer) ServeConn(ctx context.Context, c *mux.Conn) {
	c.Go(func() { c.Go(func() { h.talker.ServeConn(ctx, c) }) })
}

func TestGo(t *testing.T) {
	b := start(t, func(c *mux.Config) {
		c.Handlers = map[alpn.Protocol]mux.Handler{alpn.IMAP: &passer{talker{name: "imap"}}}
	})
	addr := b.listen(alpn.Shared)
	for range 100 { // it matters who is first
		c := connect(t, addr, clientConfig("imap"))
		c.want("hello imap")
		c.send("a")
		c.line()
		c.Close()
	}
	c := connect(t, addr, clientConfig("imap"))
	c.want("hello imap")
	b.stop()
	c.want("bye shutting down")
	c.wantEnd()
}
