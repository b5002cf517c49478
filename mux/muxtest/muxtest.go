// Package muxtest is what tests of handlers have in common: certificates for a
// mux.Server and its clients, and a log that can be read while it is written.
package muxtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/authkeys"
)

// KeyPair makes an ECDSA P-256 key and a self-signed certificate for it, with
// server names or without.
func KeyPair(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), DNSNames: names,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Fingerprint is that of the key in a pair's certificate.
func Fingerprint(t testing.TB, pair tls.Certificate) authkeys.Fingerprint {
	t.Helper()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := authkeys.FromCertificate(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return key.Fingerprint
}

// Certificates is a mux.Certificates that serves every server name with the
// same pair, and has ticket keys that never change.
type Certificates struct{ Pair tls.Certificate }

// NewCertificates makes a pair for names.
func NewCertificates(t testing.TB, names ...string) Certificates {
	t.Helper()
	return Certificates{KeyPair(t, names...)}
}

// Serves implements mux.Certificates.
func (Certificates) Serves(string) bool { return true }

// TicketKeys implements mux.Certificates.
func (Certificates) TicketKeys(c alpn.Class) [][32]byte { return [][32]byte{{byte(c) + 1}} }

// ECHKeys implements mux.Certificates: there are none.
func (Certificates) ECHKeys(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
	return nil, nil
}

// GetCertificate implements mux.Certificates.
func (c Certificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.Pair, nil
}

// Log is an io.Writer that keeps what is written. Its methods may be called
// concurrently.
type Log struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns everything written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
