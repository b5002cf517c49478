package transport_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/alpn"
	"posthorn/client/webtransport"
	"posthorn/handlers/https"
	"posthorn/handlers/https/httpstest"
	"posthorn/handlers/https/transport"
	"posthorn/mux"
	"posthorn/mux/muxtest"
	"posthorn/splice"
)

func TestMain(m *testing.M) {
	if certs := os.Getenv(clientsEnv); certs != "" {
		if err := runClients(certs); err != nil {
			fmt.Fprintln(os.Stderr, "clients:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const host = "mail.example.org"

// gateway is a mux with web and mail.
type gateway struct {
	*mux.Server
	t       testing.TB
	web     *https.Server
	addr    string
	connect func() (net.Conn, error)
	log     *muxtest.Log
	cert    tls.Certificate
}

// newGateway makes one that does not serve yet. The edits change it before.
func newGateway(t testing.TB, imap mux.Handler, edits []func(*gateway, *mux.Config)) *gateway {
	t.Helper()
	certs := muxtest.NewCertificates(t, host)
	g := &gateway{t: t, log: new(muxtest.Log), cert: certs.Pair}
	log := zerolog.New(g.log)
	g.web = &https.Server{
		Serves: func(name string) bool { return name == host }, Log: log,
		Transport: &transport.Handler{Path: webtransport.DefaultPath, Ping: 25 * time.Second},
	}
	c := mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{alpn.HTTP1: g.web, alpn.IMAP: imap, alpn.SMTP: greeter{}},
		Certs:    certs, Log: log,
	}
	for _, edit := range edits {
		edit(g, &c)
	}
	g.Server = mux.New(c)
	return g
}

// start starts a gateway whose IMAP leads to a server that echoes lines, spliced.
func start(t testing.TB, edits ...func(*gateway, *mux.Config)) *gateway {
	t.Helper()
	g := newGateway(t, &splicer{server: echoServer(t)}, edits)
	g.addr, _ = httpstest.Serve(t, g.Server, alpn.Shared)
	g.connect = func() (net.Conn, error) { return net.Dial("tcp", g.addr) }
	return g
}

// startOnPipes starts a gateway in a synctest bubble. There is no addr, and its IMAP
// only greets.
func startOnPipes(t testing.TB, edits ...func(*gateway, *mux.Config)) *gateway {
	t.Helper()
	g := newGateway(t, greeter{}, edits)
	pipes := httpstest.NewPipes()
	httpstest.ServeOn(t, g.Server, pipes, alpn.Shared)
	g.connect = pipes.Dial
	return g
}

// splicer logs everybody in and joins them with a server.
type splicer struct{ server string }

func (h *splicer) Busy() []byte { return []byte("* BYE busy\r\n") }

func (h *splicer) ServeConn(ctx context.Context, c *mux.Conn) {
	if c.SetIdentity(mux.Identity{Account: "a", Mechanism: "PREAUTH", Key: c.Key}) != nil {
		return
	}
	server, err := net.Dial("tcp", h.server)
	if err != nil {
		return
	}
	link := splice.Link{Client: c, Server: server, Head: fmt.Appendf(nil, "* PREAUTH %s %s\r\n", c.Remote, c.Key),
		Goodbye: func(cause error, _ []byte) []byte { return fmt.Appendf(nil, "* BYE %v\r\n", cause) }}
	done := c.Detach()
	link.Start(ctx, func(err error) {
		if err != nil {
			c.SetReason(err.Error())
		}
		done()
	})
}

// greeter greets, and waits for the client to go.
type greeter struct{}

func (greeter) Busy() []byte { return []byte("421 busy\r\n") }

func (greeter) ServeConn(_ context.Context, c *mux.Conn) {
	fmt.Fprintf(c, "220 %s\r\n", c.Remote)
	io.Copy(io.Discard, c)
}

// echoServer echoes what it is sent. A line "send N" gets N octets.
func echoServer(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { serveEcho(ln) })
	t.Cleanup(func() { ln.Close(); served.Wait() })
	return ln.Addr().String()
}

// serveEcho serves until ln is closed and all connections have ended.
func serveEcho(ln net.Listener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer c.Close()
			echo(c)
		})
	}
}

func echo(c net.Conn) {
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		n := 0
		switch word, count, _ := strings.Cut(strings.TrimSpace(line), " "); word {
		case "send":
			fmt.Sscan(count, &n)
			io.CopyN(c, zeros{}, int64(n))
		case "take":
			fmt.Sscan(count, &n)
			io.CopyN(io.Discard, r, int64(n))
			io.WriteString(c, "taken\r\n")
		default:
			io.WriteString(c, line)
		}
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// outerConfig trusts the gateway's certificate.
func (g *gateway) outerConfig() *tls.Config {
	leaf, err := x509.ParseCertificate(g.cert.Certificate[0])
	if err != nil {
		g.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{RootCAs: roots}
}

func (g *gateway) dialer(mode webtransport.Mode) *webtransport.Dialer {
	return &webtransport.Dialer{
		TLSConfig: g.outerConfig(), Subprotocol: "imap", Mode: mode,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return g.connect() },
	}
}

// open opens a transport.
func (g *gateway) open(mode webtransport.Mode) net.Conn {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	nc, err := g.dialer(mode).Dial(ctx, host)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { nc.Close() })
	return nc
}

// inner makes the TLS connection inside, with a key or without.
func (g *gateway) inner(nc net.Conn, keys ...tls.Certificate) *session {
	g.t.Helper()
	c := g.outerConfig()
	c.ServerName, c.NextProtos, c.Certificates = host, []string{"imap"}, keys
	tc := tls.Client(nc, c)
	tc.SetDeadline(time.Now().Add(20 * time.Second))
	if err := tc.Handshake(); err != nil {
		g.t.Fatal(err)
	}
	return &session{Conn: tc, t: g.t, r: bufio.NewReaderSize(tc, 64<<10)}
}

// session is a client's end.
type session struct {
	*tls.Conn
	t testing.TB
	r *bufio.Reader
}

func (s *session) line() string {
	s.t.Helper()
	line, err := s.r.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%q, %v", line, err)
	}
	return strings.TrimSpace(line)
}

func (s *session) send(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s, line+"\r\n"); err != nil {
		s.t.Fatal(err)
	}
}

var modes = map[string]webtransport.Mode{
	"websocket": webtransport.WebSocket, "h2": webtransport.HTTP2, "auto": webtransport.Auto,
}
