package mux_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/alpn"
	"posthorn/mux"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(clientEnv); kind != "" {
		if err := runClients(kind); err != nil {
			fmt.Fprintln(os.Stderr, "client:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// servedName is the only server name that testCerts has.
const servedName = "mail.example.org"

// testCerts is a Certificates with one certificate and fixed ticket keys.
type testCerts struct {
	cert tls.Certificate
	ech  []tls.EncryptedClientHelloKey
	mu   sync.Mutex
	keys map[alpn.Class][][32]byte
}

func newCerts(t testing.TB) *testCerts {
	return &testCerts{
		cert: certificate(t, newKey(t), func(c *x509.Certificate) { c.DNSNames = []string{servedName} }),
		keys: map[alpn.Class][][32]byte{alpn.Web: {{1}}, alpn.Mail: {{2}}},
	}
}

func (c *testCerts) Serves(name string) bool {
	return name == "" || strings.HasSuffix(name, "example.org")
}

func (c *testCerts) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.cert, nil
}

func (c *testCerts) ECHKeys(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
	return c.ech, nil
}

func (c *testCerts) TicketKeys(class alpn.Class) [][32]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys[class]
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// certificate makes a self-signed certificate, changed by edit.
func certificate(t testing.TB, key crypto.Signer, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	if edit != nil {
		edit(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// talker is a handler that greets with its name, answers each line with what it
// knows of the connection, and says goodbye with the cause.
type talker struct {
	name string
	// line, when set, does something with a line and answers it.
	line func(ctx context.Context, c *mux.Conn, line string) string
}

func (h *talker) Busy() []byte { return []byte("busy " + h.name + "\r\n") }

func (h *talker) ServeConn(ctx context.Context, c *mux.Conn) {
	stop := context.AfterFunc(ctx, func() { c.Conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	fmt.Fprintf(c.Conn, "hello %s\r\n", h.name)
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				fmt.Fprintf(c.Conn, "bye %v\r\n", cause)
			}
			return
		}
		line = strings.TrimSpace(line)
		if h.line == nil {
			fmt.Fprintf(c.Conn, "%s %s key=%s\r\n", h.name, line, c.Key)
		} else if answer := h.line(ctx, c, line); answer != "" {
			fmt.Fprintf(c.Conn, "%s\r\n", answer)
		}
	}
}

func talkers() map[alpn.Protocol]mux.Handler {
	return map[alpn.Protocol]mux.Handler{
		alpn.IMAP: &talker{name: "imap"}, alpn.SMTP: &talker{name: "smtp"}, alpn.HTTP1: &talker{name: "http"},
	}
}

// bench is a running server.
type bench struct {
	*mux.Server
	t     testing.TB
	certs *testCerts
	serve sync.WaitGroup
}

// start makes a server; what the edits leave alone is as in production.
func start(t testing.TB, edits ...func(*mux.Config)) *bench {
	t.Helper()
	b := &bench{t: t, certs: newCerts(t)}
	c := mux.Config{
		Handlers: talkers(),
		Router: &alpn.Router{Names: map[string]alpn.Protocol{
			"imap.example.org": alpn.IMAP, "smtp.example.org": alpn.SMTP,
		}},
		Certs: b.certs,
		Log:   zerolog.New(zerolog.NewTestWriter(t)),
	}
	for _, edit := range edits {
		edit(&c)
	}
	b.Server = mux.New(c)
	t.Cleanup(b.stop)
	return b
}

func (b *bench) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		b.t.Errorf("Shutdown: %v", err)
	}
	b.serve.Wait()
}

// listen serves a port on loopback, and returns its address.
func (b *bench) listen(p alpn.Port) string {
	b.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	b.serveOn(ln, p)
	return ln.Addr().String()
}

func (b *bench) serveOn(ln net.Listener, p alpn.Port) {
	b.serve.Go(func() {
		if err := b.Serve(context.Background(), ln, p); err != nil {
			b.t.Errorf("Serve: %v", err)
		}
	})
}

// clientConfig is that of a client which believes everything.
func clientConfig(protos ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: servedName, NextProtos: protos}
}

// client is the client's end of a connection.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { c.Close() })
	return &client{c, t, bufio.NewReader(c)}
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// connect makes a TLS connection that must succeed.
func connect(t testing.TB, addr string, c *tls.Config) *client {
	t.Helper()
	tc := tls.Client(dial(t, addr), c)
	tc.SetDeadline(time.Now().Add(10 * time.Second))
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	return newClient(t, tc)
}

func (c *client) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
}

// want reads a line, which must be this.
func (c *client) want(line string) {
	c.t.Helper()
	if got := c.line(); got != line {
		c.t.Fatalf("got %q, want %q", got, line)
	}
}

func (c *client) line() string {
	c.t.Helper()
	got, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%q, %v", got, err)
	}
	return strings.TrimSpace(got)
}

// wantEnd reads what must be the end of the connection, with close_notify if it
// is TLS.
func (c *client) wantEnd() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err != io.EOF {
		c.t.Fatalf("read %q, %v; want EOF", b, err)
	}
}

// wantGone reads until the connection has ended in whatever way; it fails when
// it lives on.
func wantGone(t testing.TB, c net.Conn, within time.Duration) []byte {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(within))
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("still there after %v", within)
	}
	return b
}

// pipes is a listener without a network, for tests in a synctest bubble.
type pipes struct {
	conns chan net.Conn
	gone  chan struct{}
	once  sync.Once
	wrap  func(net.Conn) net.Conn // of the server's end; may be nil
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), gone: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.gone:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.gone) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	if p.wrap != nil {
		far = p.wrap(far)
	}
	p.conns <- far
	return near
}

// connect makes a TLS connection through the pipes, without deadlines.
func (p *pipes) connect(t testing.TB, c *tls.Config) *client {
	t.Helper()
	tc := tls.Client(p.dial(), c)
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	return newClient(t, tc)
}
