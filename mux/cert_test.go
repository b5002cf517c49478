package mux_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/await"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

// TestStrangeCertificates: nothing in a certificate matters but its key.
func TestStrangeCertificates(t *testing.T) {
	b := start(t)
	addr := b.listen(alpn.Shared)
	other := certificate(t, newKey(t), nil)
	for name, edit := range map[string]func(*x509.Certificate){
		"expired": func(c *x509.Certificate) { c.NotAfter = time.Unix(1, 0) },
		"not yet": func(c *x509.Certificate) { c.NotBefore = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC) },
		"CA":      func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
		"usages":  func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} },
		"critical": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		},
		"name": func(c *x509.Certificate) { c.Subject.CommonName = "a\r\nb\x00\x1b[31m" },
		"large": func(c *x509.Certificate) {
			c.Subject.CommonName = strings.Repeat("x", 50_000)
			for i := range 2000 {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("host-%d.example.org", i))
			}
		},
	} {
		for _, version := range versions {
			cert := certificate(t, newKey(t), edit)
			cert.Certificate = append(cert.Certificate, other.Certificate[0]) // nobody asks
			cc := clientConfig("imap")
			cc.MaxVersion = version
			cc.Certificates = []tls.Certificate{cert}
			c := connect(t, addr, cc)
			c.want("hello imap")
			c.send("x")
			if got, want := c.line(), fmt.Sprintf("imap x key=%s", muxtest.Fingerprint(t, cert)); got != want {
				t.Errorf("%s, %s: %q, want %q", name, tls.VersionName(version), got, want)
			}
			c.Close()
		}
	}
}

// TestRefusedKeyType: the client goes on without its key.
func TestRefusedKeyType(t *testing.T) {
	var log syncBuffer
	b := start(t, func(c *mux.Config) {
		c.Log = zerolog.New(&log)
		c.Handlers[alpn.IMAP] = &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, _ string) string {
			var bad *authkeys.UnacceptableError
			return fmt.Sprint(errors.As(c.KeyErr, &bad) && c.Key.IsZero())
		}}
	})
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	cc := clientConfig("imap")
	cert := certificate(t, key, nil)
	cc.Certificates = []tls.Certificate{cert}
	c := connect(t, b.listen(alpn.Shared), cc)
	c.want("hello imap")
	c.send("x")
	c.want("true")
	c.Close()
	await.Until(t, "it comes about", func() bool { return len(b.Conns()) == 0 })
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	shown := authkeys.Fingerprint(sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
	if s := log.String(); !strings.Contains(s, shown.String()) || !strings.Contains(s, "RSA 1024") {
		t.Errorf("the log does not name the key and why: %s", s)
	}
}

// unable is a signer that has a public key only.
type unable struct{ public crypto.PublicKey }

func (u unable) Public() crypto.PublicKey { return u.public }
func (u unable) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 256), nil
}

// TestHostileCertificates: the handshake ends, soon, and the next client is
// served.
func TestHostileCertificates(t *testing.T) {
	b := start(t)
	addr := b.listen(alpn.Shared)
	good := certificate(t, newKey(t), nil)

	signer := newKey(t)
	huge := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 65535, 1), E: 65537}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	rsa64k, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, huge, signer)
	if err != nil {
		t.Fatal(err)
	}

	chain := good
	for range 10_000 {
		chain.Certificate = append(chain.Certificate, good.Certificate[0])
	}
	for name, cert := range map[string]tls.Certificate{
		"no proof of the key": {Certificate: good.Certificate, PrivateKey: unable{good.PrivateKey.(crypto.Signer).Public()}},
		"10,000":              chain,
		"15 MB":               {Certificate: [][]byte{bytes.Repeat([]byte{0x30}, 15<<20)}, PrivateKey: signer},
		"junk":                {Certificate: [][]byte{bytes.Repeat([]byte{0xff}, 1000)}, PrivateKey: signer},
		"RSA 65536":           {Certificate: [][]byte{rsa64k}, PrivateKey: unable{huge}},
	} {
		for _, version := range versions {
			cc := clientConfig("imap")
			cc.MaxVersion = version
			cc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			start := time.Now()
			tc := tls.Client(dial(t, addr), cc)
			tc.SetDeadline(start.Add(5 * time.Second))
			if b, err := io.ReadAll(tc); err == nil || len(b) > 0 {
				t.Errorf("%s, %s: %q, %v", name, tls.VersionName(version), b, err)
			}
			if got := time.Since(start); got > 4*time.Second {
				t.Errorf("%s, %s: over after %v", name, tls.VersionName(version), got)
			}
		}
	}
	connect(t, addr, clientConfig("imap")).want("hello imap")
}

// TestLargeHandshakes: only so many connections may hold large certificates.
func TestLargeHandshakes(t *testing.T) {
	const most = 256
	b := start(t, func(c *mux.Config) { c.Limits.ConnsPerSource, c.Limits.UnauthPerSource = 5000, 5000 })
	addr := b.listen(alpn.Shared)
	large := clientConfig("imap")
	large.Certificates = []tls.Certificate{certificate(t, newKey(t), func(c *x509.Certificate) {
		c.Subject.CommonName = strings.Repeat("x", 30_000)
	})}
	first := connect(t, addr, large)
	first.want("hello imap")
	for range most - 1 {
		connect(t, addr, large).want("hello imap")
	}
	if b, _ := io.ReadAll(tls.Client(dial(t, addr), large)); len(b) > 0 {
		t.Errorf("one too many is greeted: %q", b)
	}
	connect(t, addr, clientConfig("imap")).want("hello imap")
	first.Close()
	deadline := time.Now().Add(5 * time.Second)
	for {
		tc := tls.Client(dial(t, addr), large)
		line := make([]byte, len("hello imap"))
		if _, err := io.ReadFull(tc, line); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the room that one left is not given to another")
		}
	}
}
