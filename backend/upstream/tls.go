package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"posthorn/authkeys"
)

// ErrNotPinned says that a server showed another public key than the pinned
// ones, and no certificate of the given CAs.
var ErrNotPinned = errors.New("the server's public key is not pinned")

// ErrCleartext says that a server sent something in cleartext that TLS is to
// begin with: somebody on the way may have put it there.
var ErrCleartext = errors.New("cleartext from server before TLS")

// TrustConfig returns a TLS template that believes the CAs in a PEM file, or a
// certificate with one of the pinned public keys ("SHA256:…") whatever else
// is in it; with neither, the system's CAs. An empty serverName stands for the
// host of each address, and "localhost" for a unix socket.
func TrustConfig(caFile string, pins []string, serverName string) (*tls.Config, error) {
	t := trust{}
	for _, pin := range pins {
		f, err := authkeys.ParseFingerprint(pin)
		if err != nil {
			return nil, fmt.Errorf("pin %q: %w", pin, err)
		}
		t.pins = append(t.pins, f)
	}
	if caFile != "" {
		var err error
		if t.roots, err = readCAs(caFile); err != nil {
			return nil, err
		}
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName, RootCAs: t.roots}
	if len(pins) > 0 {
		c.InsecureSkipVerify = true // t.verify does it
		c.VerifyConnection = t.verify
	}
	return c, nil
}

// readCAs reads a file that holds certificates, and nothing but.
func readCAs(file string) (*x509.CertPool, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	roots := x509.NewCertPool()
	found := 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("CA file %s: want certificates, found a %s", file, block.Type)
		}
		found++
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("CA file %s: certificate %d: %w", file, found, err)
		}
		roots.AddCert(c)
	}
	if found == 0 {
		return nil, fmt.Errorf("CA file %s: no certificate in PEM", file)
	}
	return roots, nil
}

// trust is what is believed of servers when some public keys are pinned.
type trust struct {
	pins  []authkeys.Fingerprint
	roots *x509.CertPool // nil: pins alone count
}

// verify is for tls.Config.VerifyConnection, which runs for resumed connections
// too.
func (t *trust) verify(s tls.ConnectionState) error {
	leaf := s.PeerCertificates[0]
	shown := authkeys.Fingerprint(sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
	if slices.Contains(t.pins, shown) {
		return nil
	}
	if t.roots == nil {
		return fmt.Errorf("%w: it is %s", ErrNotPinned, shown)
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: t.roots, Intermediates: between, DNSName: s.ServerName})
	if err != nil {
		return fmt.Errorf("%w: it is %s, and %w", ErrNotPinned, shown, err)
	}
	return nil
}

// sessions is how many TLS sessions are kept for an address. Each connection
// takes up the last one.
const sessions = 4

// tlsFor completes a template for the address of a host.
func tlsFor(template *tls.Config, host string) *tls.Config {
	c := new(tls.Config)
	if template != nil {
		c = template.Clone()
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	if c.ServerName == "" {
		c.ServerName = strings.TrimSuffix(host, ".")
	}
	if c.ClientSessionCache == nil {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(sessions)
	}
	if verify := c.VerifyConnection; verify != nil {
		c.VerifyConnection = func(s tls.ConnectionState) error {
			s.ServerName = c.ServerName // crypto/tls leaves out IP addresses
			return verify(s)
		}
	}
	return c
}

// StartTLS makes the TLS handshake, after which R reads through it. What R
// holds was sent in cleartext: that is ErrCleartext.
func (c *Conn) StartTLS(ctx context.Context) error {
	switch {
	case c.address.tls == nil:
		return errors.New("upstream: TLS for a server that is configured without")
	case c.Conn != c.raw:
		return errors.New("upstream: TLS in TLS")
	case c.R.Buffered() > 0:
		return ErrCleartext
	}
	t := tls.Client(c.raw, c.address.tls)
	if err := c.Within(ctx, c.pool.config.Timeout, t.Handshake); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.Conn, c.direct = t, nil
	c.R.Reset(t)
	return nil
}
