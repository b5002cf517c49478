package certs

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"posthorn/authkeys"
)

// ready is what handshakes look at. It does not change once it is stored.
type ready struct {
	byName     map[string][]*tls.Certificate // best first, never empty
	byDefault  []*tls.Certificate
	unknownToo bool // unknown names get byDefault
}

// GetCertificate implements tls.Config.GetCertificate. It returns nil and no
// error for a name that is not served, which crypto/tls answers with the alert
// unrecognized_name when its config has no other certificate. Where several
// certificates cover the name, the client gets the best one that it supports.
func (m *Manager) GetCertificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	candidates := m.ready.Load().find(h.ServerName)
	if len(candidates) == 0 {
		return nil, nil
	}
	for _, c := range candidates[:len(candidates)-1] {
		if h.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	return candidates[len(candidates)-1], nil
}

// Serves reports whether a handshake with this SNI ("" for none) gets a
// certificate.
func (m *Manager) Serves(serverName string) bool {
	return len(m.ready.Load().find(serverName)) > 0
}

// find returns the certificates for an SNI, best first; none: it is not served.
func (r *ready) find(serverName string) []*tls.Certificate {
	if serverName == "" {
		return r.byDefault
	}
	if c, ok := r.byName[serverName]; ok {
		return c
	}
	if len(serverName) <= maxName+1 {
		if c, ok := r.byName[strings.ToLower(strings.TrimSuffix(serverName, "."))]; ok {
			return c
		}
	}
	if r.unknownToo {
		return r.byDefault
	}
	return nil
}

// Default returns the certificate for clients that send no SNI, and the
// fingerprint of its public key.
func (m *Manager) Default() (*x509.Certificate, authkeys.Fingerprint) {
	leaf := m.ready.Load().byDefault[0].Leaf
	return leaf, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
}

// covering returns the pairs that are for a name, best first: a valid one before
// an expired one, then ECDSA, the fastest and shortest, before Ed25519 before
// RSA, which every client supports; then the one that lasts longest.
func covering(pairs []*tls.Certificate, name string, now time.Time) []*tls.Certificate {
	var found []*tls.Certificate
	for _, p := range pairs {
		if p.Leaf.VerifyHostname(name) == nil {
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b *tls.Certificate) int {
		return cmp.Or(
			cmp.Compare(expired(a.Leaf, now), expired(b.Leaf, now)),
			cmp.Compare(rank(a.Leaf), rank(b.Leaf)),
			b.Leaf.NotAfter.Compare(a.Leaf.NotAfter),
		)
	})
	return found
}

func expired(c *x509.Certificate, now time.Time) int {
	if now.After(c.NotAfter) {
		return 1
	}
	return 0
}

func rank(c *x509.Certificate) int {
	switch c.PublicKeyAlgorithm {
	case x509.ECDSA:
		return 0
	case x509.Ed25519:
		return 1
	default:
		return 2
	}
}
