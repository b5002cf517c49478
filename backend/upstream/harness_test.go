package upstream_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/authkeys"
	"posthorn/backend/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a server behind the gateway that does what a test wants.
type server struct {
	address string
	stop    func()

	mu    sync.Mutex
	count int // of connections accepted; guarded by mu
}

// serve starts a server on a new port of the loopback.
func serve(t testing.TB, handle func(net.Conn)) *server {
	t.Helper()
	return serveOn(t, "tcp", "127.0.0.1:0", handle)
}

// serveOn starts a server that calls handle for each connection, and closes it
// then. Stopping it closes all.
func serveOn(t testing.TB, network, address string, handle func(net.Conn)) *server {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: ln.Addr().String()}
	if network == "unix" {
		s.address = "unix:" + address
	}
	var all sync.WaitGroup
	var conns sync.Map
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.count++
			s.mu.Unlock()
			conns.Store(c, nil)
			all.Go(func() {
				defer conns.Delete(c)
				defer c.Close()
				handle(c)
			})
		}
	})
	s.stop = sync.OnceFunc(func() {
		_ = ln.Close()
		for done := false; !done; { // also those that were accepted meanwhile
			conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
			waited := make(chan struct{})
			go func() { all.Wait(); close(waited) }()
			select {
			case <-waited:
				done = true
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	t.Cleanup(s.stop)
	return s
}

// accepted is how many connections s has had.
func (s *server) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

const greeting = "* OK ready\r\n"

// says returns a handler that sends a text, and then reads until the end.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := io.WriteString(c, text); err == nil {
			_, _ = io.Copy(io.Discard, c)
		}
	}
}

// greeted is a Config.Open that wants a greeting, and takes BYE to mean that
// the server is full.
func greeted(_ context.Context, c *upstream.Conn) error {
	line, err := c.ReadLine(10_000)
	switch {
	case err != nil:
		return fmt.Errorf("greeting: %w", err)
	case strings.HasPrefix(line, "* BYE"):
		return fmt.Errorf("greeting: %w", upstream.ErrBusy)
	case !strings.HasPrefix(line, "* OK"):
		return fmt.Errorf("greeting: %s", line)
	}
	return nil
}

// newPool returns a pool for servers that greet.
func newPool(t testing.TB, c upstream.Config) *upstream.Pool {
	t.Helper()
	if c.Open == nil {
		c.Open = greeted
	}
	p, err := upstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// dial opens a connection that is closed at the end of the test.
func dial(t testing.TB, p *upstream.Pool, h upstream.Header) *upstream.Conn {
	t.Helper()
	c, err := p.Dial(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// run runs the pool's health checks until the test ends, or stop is called.
func run(t testing.TB, p *upstream.Pool) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// record is a log that is kept.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *record) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Split(strings.TrimSuffix(r.buf.String(), "\n"), "\n")
}

func (r *record) logger() zerolog.Logger { return zerolog.New(r) }

// authority is a CA for servers' certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate in PEM
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t), file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(a.file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue returns a certificate for names or addresses that has ended at, or will
// end, and its pin.
func (a *authority) issue(notAfter time.Time, names ...string) (cert tls.Certificate, pin string) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	f := authkeys.Fingerprint(sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, f.String()
}

// trusting is TrustConfig's template.
func trusting(t testing.TB, caFile string, pins []string, serverName string) *tls.Config {
	t.Helper()
	c, err := upstream.TrustConfig(caFile, pins, serverName)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// secured returns a handler that makes a TLS handshake first.
func secured(cert tls.Certificate, handle func(net.Conn)) func(net.Conn) {
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	return func(c net.Conn) {
		s := tls.Server(c, config)
		if s.Handshake() == nil {
			handle(s)
		}
	}
}
