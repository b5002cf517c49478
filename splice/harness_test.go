package splice_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/mux"
	"posthorn/mux/muxtest"
	"posthorn/socket"
	"posthorn/splice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// edge is a gateway that links every client with a connection to a server, and
// that server's listener.
type edge struct {
	*mux.Server
	t       testing.TB
	addr    string
	servers net.Listener
	log     muxtest.Log
	results chan error // of links that are over
	edit    func(*splice.Link)
	dial    func() (net.Conn, error)
	serving sync.WaitGroup
}

type options struct {
	limits mux.Limits
	grace  time.Duration
	link   func(*splice.Link)
	dial   func(addr string) (net.Conn, error) // default: plain TCP
	tls    bool                                // servers speak it
	cover  bool                                // clients cannot be parked
}

func newEdge(t testing.TB, o options) *edge {
	t.Helper()
	e := &edge{t: t, results: make(chan error, 10000), edit: o.link}
	e.servers = patiently{listen(t)}
	addr := e.servers.Addr().String()
	if o.tls {
		config := &tls.Config{Certificates: []tls.Certificate{muxtest.KeyPair(t, "imap.internal")}}
		e.servers = tls.NewListener(e.servers, config)
	}
	if o.dial == nil {
		o.dial = func(addr string) (net.Conn, error) { return new(socket.Dialer).DialContext(t.Context(), "tcp", addr) }
	}
	e.dial = func() (net.Conn, error) { return o.dial(addr) }
	if o.limits.ConnsPerSource == 0 {
		o.limits.ConnsPerSource, o.limits.UnauthPerSource, o.limits.ConnsPerAccount = 20000, 20000, 20000
	}
	e.Server = mux.New(mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{alpn.IMAP: e},
		Certs:    muxtest.NewCertificates(t, "mail.example.org"),
		Limits:   o.limits,
		Grace:    o.grace,
		Log:      zerolog.New(&e.log),
	})
	ln := listen(t)
	e.addr = ln.Addr().String()
	if o.cover {
		ln = covered{ln}
	}
	e.serving.Go(func() {
		if err := e.Serve(context.Background(), ln, alpn.Shared); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		e.shutdown(5 * time.Second)
		e.serving.Wait()
		e.servers.Close()
	})
	return e
}

// patient is a connection whose reads and writes may each take patience, which is
// more than the other side needs; how long all take together is the machine's.
type patient struct{ *net.TCPConn }

func (p patient) Read(b []byte) (int, error) {
	p.SetReadDeadline(time.Now().Add(patience))
	return p.TCPConn.Read(b)
}

func (p patient) Write(b []byte) (int, error) {
	p.SetWriteDeadline(time.Now().Add(patience))
	return p.TCPConn.Write(b)
}

// patiently is a listener of patient connections.
type patiently struct{ net.Listener }

func (l patiently) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return patient{nc.(*net.TCPConn)}, nil
}

// listen makes a listener as the gateway's are: without Multipath TCP, which has
// no TCP_USER_TIMEOUT.
func listen(t testing.TB) net.Listener {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	ln, err := c.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// shutdown returns when every connection is gone.
func (e *edge) shutdown(wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	return e.Shutdown(ctx)
}

func (e *edge) Busy() []byte { return nil }

// ServeConn implements mux.Handler.
func (e *edge) ServeConn(ctx context.Context, c *mux.Conn) {
	server, err := e.dial()
	if err != nil {
		e.t.Error(err)
		return
	}
	id := mux.Identity{Account: "a", Address: "user@example.org", Mechanism: "PLAIN"}
	if err := c.SetIdentity(id); err != nil {
		e.t.Error(err)
		server.Close()
		return
	}
	l := &splice.Link{Client: c, Server: server}
	l.SetLinger(2 * time.Millisecond)
	if e.edit != nil {
		e.edit(l)
	}
	done := c.Detach()
	l.Start(ctx, func(err error) {
		if err != nil {
			c.SetReason(err.Error())
		}
		done()
		e.results <- err
	})
}

// joined is both ends of a link.
type joined struct {
	*edge
	client *tls.Conn
	tcp    *net.TCPConn // below client
	server net.Conn
	r      *bufio.Reader // of client
}

func (e *edge) join(edits ...func(*tls.Config)) *joined {
	e.t.Helper()
	raw, err := net.Dial("tcp", e.addr)
	if err != nil {
		e.t.Fatal(err)
	}
	c := &tls.Config{ServerName: "mail.example.org", InsecureSkipVerify: true, NextProtos: []string{"imap"}}
	for _, edit := range edits {
		edit(c)
	}
	client := tls.Client(patient{raw.(*net.TCPConn)}, c)
	accepted := make(chan net.Conn, 1)
	go func() { accepted <- e.accept() }()
	if err := client.Handshake(); err != nil {
		e.t.Fatal(err)
	}
	server := <-accepted
	if server == nil {
		e.t.FailNow()
	}
	e.t.Cleanup(func() { client.Close(); server.Close() })
	return &joined{e, client, raw.(*net.TCPConn), server, bufio.NewReader(client)}
}

// accept is the server's end of the next link; nil if there is none.
func (e *edge) accept() net.Conn {
	nc, err := e.servers.Accept()
	if tc, ok := nc.(*tls.Conn); ok && err == nil {
		err = tc.Handshake()
	}
	if err != nil {
		e.t.Error(err)
		return nil
	}
	return nc
}

// park waits until the connections have no goroutine: a stack dump has the
// carriers of nobody.
func (e *edge) park() {
	e.t.Helper()
	await.Until(e.t, "they park", func() bool { return carriers() == 0 })
}

// result waits for the end of a link.
func (e *edge) result(want error) {
	e.t.Helper()
	select {
	case err := <-e.results:
		if !errors.Is(err, want) {
			e.t.Errorf("the link's result is %v, want %v", err, want)
		}
	case <-time.After(patience):
		e.t.Fatal("the link does not end")
	}
}

// write sends s.
func write(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

// read reads what must be s.
func read(t testing.TB, r io.Reader, s string) {
	t.Helper()
	b := make([]byte, len(s))
	if _, err := io.ReadFull(r, b); err != nil || string(b) != s {
		t.Fatalf("read %q, %v; want %q", b, err, s)
	}
}

// readEnd reads what must be s and the end.
func readEnd(t testing.TB, r io.Reader, s string) {
	t.Helper()
	if b, err := io.ReadAll(r); err != nil || string(b) != s {
		t.Fatalf("read %q, %v; want %q and the end", b, err, s)
	}
}

// talk has both sides say something and hear it.
func (j *joined) talk() {
	j.t.Helper()
	write(j.t, j.client, "a IDLE\r\n")
	read(j.t, j.server, "a IDLE\r\n")
	write(j.t, j.server, "+ idling\r\n")
	read(j.t, j.r, "+ idling\r\n")
}
