package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/certs"
	"posthorn/certs/acmetest"
	"posthorn/mux"
)

// gateway is a mux that serves with a Manager, and whose protocols greet and
// hang up.
type gateway struct {
	t  *testing.T
	ln net.Listener
}

// listen takes the port that a CA is to validate on.
func listen(t *testing.T) *gateway {
	t.Helper()
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { _ = ln.Close() }) // mux may have closed it
	return &gateway{t: t, ln: ln}
}

func (g *gateway) port() int { return g.ln.Addr().(*net.TCPAddr).Port }

// greeter is a mux.Handler that says what it is for.
type greeter string

func (g greeter) ServeConn(_ context.Context, c *mux.Conn) { _, _ = io.WriteString(c, string(g)) }
func (greeter) Busy() []byte                               { return nil }

// serve starts a mux and m's background work.
func (g *gateway) serve(m *certs.Manager) {
	server := mux.New(mux.Config{
		Certs:  m,
		Router: &alpn.Router{ACMEPending: m.Pending},
		Handlers: map[alpn.Protocol]mux.Handler{
			alpn.IMAP: greeter("imap"), alpn.SMTP: greeter("smtp"), alpn.HTTP1: greeter("http/1.1"), alpn.HTTP2: greeter("h2"),
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- server.Serve(ctx, g.ln, alpn.Shared) }()
	g.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
		if err := server.Shutdown(context.Background()); err != nil {
			g.t.Error(err)
		}
	})
	run(g.t, m)
}

// run lets m.Run work until the test ends.
func run(t *testing.T, m *certs.Manager) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run does not end")
		}
	})
}

// dial connects, reads the greeting, and returns the certificate.
func (g *gateway) dial(config *tls.Config) (*x509.Certificate, string, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", g.ln.Addr().String(), config)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	greeting, err := io.ReadAll(conn)
	return conn.ConnectionState().PeerCertificates[0], string(greeting), err
}

// get is dial for a name, with a certificate that must be the CA's.
func (g *gateway) get(ca *acmetest.CA, name string, protocols ...string) (*x509.Certificate, error) {
	leaf, _, err := g.dial(&tls.Config{ServerName: name, RootCAs: ca.Issuers, NextProtos: protocols})
	return leaf, err
}

// acmeConfig is a Config that orders from ca.
func acmeConfig(ca *acmetest.CA, names ...string) certs.Config {
	return certs.Config{
		Names: names,
		ACME:  &certs.ACME{Directory: ca.Directory, CAFile: ca.RootsFile, AgreeTerms: true, Email: "postmaster@example.org"},
	}
}

// obtained reports whether every name has a certificate.
func obtained(m *certs.Manager) bool {
	for _, s := range m.Status() {
		if s.NotAfter.IsZero() {
			return false
		}
	}
	return true
}
