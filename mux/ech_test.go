package mux_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"

	"posthorn/alpn"
	"posthorn/certs/ech"
)

const outerName = "public.example.org"

// echBench serves with one ECH key, whose list it returns, and a certificate for
// the public name and for the one that is hidden.
func echBench(t *testing.T) (addr string, list []byte, roots *x509.CertPool) {
	t.Helper()
	b := start(t)
	key, err := ech.Generate(1, outerName, 30)
	if err != nil {
		t.Fatal(err)
	}
	b.certs.ech = ech.ForTLS([]ech.Key{key})
	b.certs.cert = certificate(t, newKey(t), func(c *x509.Certificate) { c.DNSNames = []string{outerName, servedName} })
	leaf, err := x509.ParseCertificate(b.certs.cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	return b.listen(alpn.Shared), ech.List(key), roots
}

// TestECH: what the inner hello says decides, for every class.
func TestECH(t *testing.T) {
	addr, list, roots := echBench(t)
	for _, protocol := range []string{"imap", "smtp", "h2", "http/1.1"} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{
			ServerName: servedName, RootCAs: roots, NextProtos: []string{protocol}, EncryptedClientHelloConfigList: list,
		})
		if err != nil {
			t.Errorf("%s: %v", protocol, err)
			continue
		}
		if s := conn.ConnectionState(); !s.ECHAccepted || s.NegotiatedProtocol != protocol {
			t.Errorf("%s: accepted: %v, protocol %q", protocol, s.ECHAccepted, s.NegotiatedProtocol)
		}
		conn.Close()
	}
	// The hidden hello leads to the alerts that it would lead to in the open.
	for _, c := range []*tls.Config{
		{ServerName: "stranger.example", NextProtos: []string{"imap"}},
		{ServerName: servedName, NextProtos: []string{"pop3"}},
	} {
		c.RootCAs, c.EncryptedClientHelloConfigList = roots, list
		if conn, err := tls.Dial("tcp", addr, c); err == nil {
			t.Errorf("%s %q: accepted", c.ServerName, c.NextProtos)
			conn.Close()
		}
	}
}

// TestECHRetry: on every route a client with another key hears of the right one.
func TestECHRetry(t *testing.T) {
	addr, list, roots := echBench(t)
	stale, err := ech.Generate(2, outerName, 30)
	if err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"imap", "smtp", "h2", "http/1.1"} {
		_, err := tls.Dial("tcp", addr, &tls.Config{
			ServerName: servedName, RootCAs: roots, NextProtos: []string{protocol}, EncryptedClientHelloConfigList: ech.List(stale),
		})
		var rejected *tls.ECHRejectionError
		if !errors.As(err, &rejected) || string(rejected.RetryConfigList) != string(list) {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}
