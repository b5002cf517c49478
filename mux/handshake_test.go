package mux_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"runtime"
	"testing"
	"testing/synctest"

	"posthorn/alpn"
	"posthorn/mux"
)

// chain is a client's certificate with size bytes of others behind it.
func chain(t testing.TB, size int) *tls.Config {
	t.Helper()
	own := certificate(t, newKey(t), nil)
	for size > 0 {
		n := min(size, 30<<10)
		size -= n
		filler := certificate(t, newKey(t), func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: make([]byte, n)}}
		})
		own.Certificate = append(own.Certificate, filler.Certificate[0])
	}
	c := clientConfig("imap")
	c.Certificates = []tls.Certificate{own}
	return c
}

// A client may send 192 KiB in its handshake.
func TestLargestHandshake(t *testing.T) {
	b := start(t)
	addr := b.listen(alpn.Shared)
	connect(t, addr, chain(t, 180<<10)).want("hello imap")
	tc := tls.Client(dial(t, addr), chain(t, 195<<10))
	if err := tc.Handshake(); err == nil {
		_, err = tc.Read(make([]byte, 1)) // TLS 1.3 tells a client late
		if err == nil {
			t.Error("195 KiB of certificates are taken")
		}
	}
}

// waitingCerts has everybody wait who wants a certificate.
type waitingCerts struct {
	mux.Certificates
	wanted chan struct{} // a value for each
	give   chan struct{}
}

func (c *waitingCerts) GetCertificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.wanted <- struct{}{}
	<-c.give
	return c.Certificates.GetCertificate(h)
}

// Two handshakes for each processor compute at a time.
func TestHandshakesAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := 2 * runtime.GOMAXPROCS(0)
		certs := &waitingCerts{wanted: make(chan struct{}, 10*slots), give: make(chan struct{})}
		b := start(t, func(c *mux.Config) { certs.Certificates, c.Certs = c.Certs, certs })
		ln := newPipes()
		b.serveOn(ln, alpn.Shared)
		done := make(chan error, 2*slots)
		for range 2 * slots {
			tc := tls.Client(ln.dial(), clientConfig("imap"))
			defer tc.NetConn().Close()
			go func() { done <- tc.Handshake() }()
		}
		synctest.Wait()
		if n := len(certs.wanted); n != slots {
			t.Errorf("%d compute, want %d", n, slots)
		}
		close(certs.give)
		for range 2 * slots {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
