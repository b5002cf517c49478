package imap_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-smtp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/handlers/imap"
	"posthorn/mailbox/guard"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice    = "alice@example.org"
	alias    = "a.liddell@example.org" // another address of alice's
	bob      = "bob@example.org"
	password = `correct "Horse\`
)

// gateway is a mux with an IMAP handler and what stands behind it.
type gateway struct {
	t        testing.TB
	mux      *mux.Server
	accounts *accounts.Store
	keys     *authkeys.Store
	backend  *memory
	ids      map[string]string // accounts by address
	log      *muxtest.Log
	addr     map[alpn.Port]string
	handler  *imap.Handler
}

// start runs a gateway with alice and bob, whose password is password.
func start(t testing.TB, edit ...func(*mux.Config, *imap.Handler)) *gateway {
	t.Helper()
	house := accountstest.New(t, accounts.Options{Throttle: accounts.Throttle{PerSource: 1000}})
	g := &gateway{t: t, accounts: house.Accounts, keys: house.Keys, ids: map[string]string{}, log: new(muxtest.Log), addr: map[alpn.Port]string{}}
	for _, address := range []string{alice, bob} {
		g.ids[address] = house.Account(address, password).ID
	}
	if err := g.accounts.AddAddress(t.Context(), g.ids[alice], alias); err != nil {
		t.Fatal(err)
	}
	g.backend = newMemory()
	logger := zerolog.New(g.log)
	g.handler = &imap.Handler{
		Accounts: g.accounts, Backend: g.backend, Hostname: "mail.example.org",
		ID: []string{"name", "Posthorn"}, Log: logger,
	}
	config := mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{alpn.IMAP: g.handler},
		Router:   &alpn.Router{},
		Certs:    muxtest.NewCertificates(t, "mail.example.org"),
		Log:      logger,
	}
	for _, e := range edit {
		e(&config, g.handler)
	}
	g.mux = mux.New(config)
	var serving sync.WaitGroup
	for _, port := range []alpn.Port{alpn.Shared, alpn.IMAPS, alpn.IMAPStartTLS} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g.addr[port] = ln.Addr().String()
		serving.Go(func() {
			if err := g.mux.Serve(context.Background(), ln, port); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		g.stop()
		serving.Wait()
		g.backend.close()
	})
	return g
}

func (g *gateway) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := g.mux.Shutdown(ctx); err != nil {
		g.t.Errorf("Shutdown: %v", err)
	}
}

// key registers a new key for an account and returns the client's certificate.
func (g *gateway) key(address string, edit ...func(*authkeys.Key)) tls.Certificate {
	g.t.Helper()
	cert, f := newKey(g.t)
	k := authkeys.Key{Fingerprint: f, Account: g.ids[address], Name: "test", Type: "ECDSA P-256"}
	for _, e := range edit {
		e(&k)
	}
	if err := g.keys.Add(g.t.Context(), k); err != nil {
		g.t.Fatal(err)
	}
	return cert
}

func noPreauth(k *authkeys.Key) { k.NoPreauth = true }

func newKey(t testing.TB) (tls.Certificate, authkeys.Fingerprint) {
	t.Helper()
	pair := muxtest.KeyPair(t)
	return pair, muxtest.Fingerprint(t, pair)
}

// client is a client's end that speaks protocol lines.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return &client{c, t, bufio.NewReader(c)}
}

func tlsConfig(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"imap"}, Certificates: certs}
}

// dial connects with implicit TLS and shows a certificate, if one is given.
func (g *gateway) dial(certs ...tls.Certificate) *client {
	g.t.Helper()
	c, err := tls.Dial("tcp", g.addr[alpn.IMAPS], tlsConfig(certs...))
	if err != nil {
		g.t.Fatal(err)
	}
	return newClient(g.t, c)
}

// greeted connects and takes the greeting of a client that has to log in.
func (g *gateway) greeted(certs ...tls.Certificate) *client {
	g.t.Helper()
	c := g.dial(certs...)
	c.want("* OK [CAPABILITY IMAP4rev1 ")
	return c
}

// dialPlain connects to the STARTTLS port and takes the greeting.
func (g *gateway) dialPlain() *client {
	g.t.Helper()
	nc, err := net.Dial("tcp", g.addr[alpn.IMAPStartTLS])
	if err != nil {
		g.t.Fatal(err)
	}
	c := newClient(g.t, nc)
	c.want("* OK [CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID STARTTLS LOGINDISABLED] mail.example.org ready")
	return c
}

// startTLS turns TLS on.
func (c *client) startTLS(certs ...tls.Certificate) *client {
	c.t.Helper()
	tc := tls.Client(c.Conn, tlsConfig(certs...))
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return newClient(c.t, tc)
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// line reads a line; "EOF" stands for the end of the connection.
func (c *client) line() string {
	line, err := c.r.ReadString('\n')
	if err == nil {
		return strings.TrimSuffix(line, "\r\n")
	}
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		c.t.Helper()
		c.t.Fatal("nothing comes")
	}
	return "EOF"
}

// want reads lines, which must begin so.
func (c *client) want(beginnings ...string) {
	c.t.Helper()
	for _, want := range beginnings {
		if got := c.line(); !strings.HasPrefix(got, want) {
			c.t.Fatalf("got %q, want %q…", got, want)
		}
	}
}

// talk sends and reads what must be the answers.
func (c *client) talk(text string, beginnings ...string) {
	c.t.Helper()
	c.send(text)
	c.want(beginnings...)
}

// memory is a backend that forgets: imapmemserver behind the guard.
type memory struct {
	server *imapserver.Server
	conns  chan net.Conn
	begun  func()
	ready  <-chan struct{} // closed when the server accepts
	done   chan struct{}

	mu    sync.Mutex
	users map[string]*imapmemserver.User
	fail  error // of OpenIMAP
	open  int   // sessions that are neither served nor closed
}

// memoryCaps is what sessions of a memory offer.
const memoryCaps = "IMAP4rev1 IDLE LITERAL- ID XMEMORY"

func newMemory() *memory {
	m := &memory{conns: make(chan net.Conn), done: make(chan struct{}), users: map[string]*imapmemserver.User{}}
	ready := make(chan struct{})
	m.ready, m.begun = ready, sync.OnceFunc(func() { close(ready) })
	m.server = imapserver.New(&imapserver.Options{
		NewSession: func(c *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			user := c.NetConn().(memoryConn).user
			return imapmemserver.NewUserSession(user), &imapserver.GreetingData{PreAuth: true}, nil
		},
		Caps:         goimap.CapSet{goimap.CapIMAP4rev1: {}},
		InsecureAuth: true,
		Logger:       log.New(io.Discard, "", 0),
	})
	go m.server.Serve(m)
	return m
}

type memoryConn struct {
	*guard.Conn
	user *imapmemserver.User
}

// Accept, Close and Addr make m the listener of its own server.
func (m *memory) Accept() (net.Conn, error) {
	m.begun()
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}
func (m *memory) Close() error   { close(m.done); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

// close waits for the server to have begun: imapserver cannot be closed before.
func (m *memory) close() {
	<-m.ready
	m.server.Close()
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// leaked is how many sessions nobody has served or closed.
func (m *memory) leaked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

func (m *memory) OpenIMAP(ctx context.Context, l *accounts.Login, _ *backend.Client) (backend.IMAPSession, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	u := m.users[l.Account.ID]
	if u == nil {
		u = imapmemserver.NewUser("", "")
		u.Create("INBOX", nil)
		u.Create("of "+l.Account.Primary(), nil)
		m.users[l.Account.ID] = u
	}
	m.open++
	return &memorySession{m, u}, nil
}

func (m *memory) OpenSubmission(context.Context, *accounts.Login, *backend.Client) (smtp.Session, error) {
	panic("not asked for")
}

type memorySession struct {
	m    *memory
	user *imapmemserver.User
}

func (s *memorySession) Capabilities() string { return memoryCaps }

func (s *memorySession) Close() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.open--
	return nil
}

func (s *memorySession) Serve(ctx context.Context, client net.Conn) error {
	s.Close()
	g := guard.New(ctx, client, guard.Options{Capabilities: memoryCaps, AppendLimit: 1 << 20})
	s.m.conns <- memoryConn{g, s.user}
	return g.Run()
}

// Submission implements backend.Backend.
func (m *memory) Submission(*accounts.Login) backend.Submission {
	return backend.Submission{EightBitMIME: true, UTF8: true}
}

// Passwords implements backend.Backend.
func (m *memory) Passwords(backend.Service, *backend.Client) accounts.Passwords { return nil }
