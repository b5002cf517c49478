package certs

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"posthorn/store"
)

// Where the self-signed certificate and its key stand in the store, both in
// DER (PKCS #8 for the key).
const (
	ownKey  = "cert/self-signed/key"
	ownCert = "cert/self-signed/certificate"
)

// Apple's clients refuse certificates that are valid for more than 825 days.
const (
	ownValidity = 820 * 24 * time.Hour
	ownRenewal  = 60 * 24 * time.Hour // before its end
	clockSkew   = 24 * time.Hour      // of clients, behind us
)

// ownNames is how many names a self-signed certificate is for at most. More make
// more certificates, all of the same key: one for thousands would be megabytes
// in the handshakes of a day.
const ownNames = 100

// prepareOwn makes ready self-signed certificates for what nothing else covers.
// The caller holds m.mu.
func (m *Manager) prepareOwn(ctx context.Context, uncovered []*served) error {
	for n := 0; len(uncovered) > 0; n++ {
		group := uncovered[:min(len(uncovered), ownNames)]
		uncovered = uncovered[len(group):]
		names := make([]string, len(group))
		for i, s := range group {
			names[i] = s.name
		}
		pair, err := selfSigned(ctx, m.vault, ownRecord(n), names, m.config.Now())
		if err != nil {
			return err
		}
		state := &servedState{[]*identity{newIdentity(pair)}, SelfSigned}
		for _, s := range group {
			s.state.Store(state)
		}
	}
	return nil
}

// ownRecord is where the nth self-signed certificate stands.
func ownRecord(n int) string {
	if n == 0 {
		return ownCert
	}
	return ownCert + "/" + strconv.Itoa(n)
}

// renewOwn replaces all self-signed certificates. Their key stays.
func (m *Manager) renewOwn(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.vault.Update(ctx, func(tx store.Tx) error {
		for item, err := range tx.Scan(ctx, ownCert) {
			if err != nil {
				return err
			}
			if err := tx.Delete(item.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("self-signed certificate: %w", err)
	}
	return m.prepare(ctx)
}

// selfSigned returns the certificate for names. It is the one under record if
// that is for just these names and far from its end, else a new one. The key is
// made once and never replaced, as clients may have pinned it.
func selfSigned(ctx context.Context, v *vault, record string, names []string, now time.Time) (*tls.Certificate, error) {
	var pair *tls.Certificate
	err := v.Update(ctx, func(tx store.Tx) error {
		key, err := v.keptKey(ctx, tx, ownKey, ECDSA.generate)
		if err != nil {
			return err
		}
		template := template(names, now)
		if pair = loadOwn(ctx, tx, record, key, template, now); pair != nil {
			return nil
		}
		if pair, err = issue(template, key); err != nil {
			return err
		}
		return tx.Put(record, pair.Certificate[0])
	})
	if err != nil {
		return nil, fmt.Errorf("self-signed certificate: %w", err)
	}
	return pair, nil
}

// template returns what a certificate for names says from now on.
func template(names []string, now time.Time) *x509.Certificate {
	t := &x509.Certificate{
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(ownValidity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if len(names[0]) <= 64 { // ub-common-name, RFC 5280 appendix A.1
		t.Subject = pkix.Name{CommonName: names[0]}
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if a, err := netip.ParseAddr(name); err == nil {
			t.IPAddresses = append(t.IPAddresses, a.AsSlice())
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	if slices.Contains(names, "localhost") {
		for _, ip := range []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback} {
			if !slices.ContainsFunc(t.IPAddresses, ip.Equal) {
				t.IPAddresses = append(t.IPAddresses, ip)
			}
		}
	}
	return t
}

// loadOwn returns the certificate in the store, or nil when it cannot stand for
// the template: it is of another key, for other names, near its end, or from a
// future that a wrong clock showed.
func loadOwn(ctx context.Context, tx store.Tx, record string, key crypto.Signer, template *x509.Certificate, now time.Time) *tls.Certificate {
	der, err := tx.Get(ctx, record)
	if err != nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	sameIP := func(a, b net.IP) bool { return a.Equal(b) }
	if !matches(leaf, key) ||
		leaf.Subject.CommonName != template.Subject.CommonName ||
		!slices.Equal(leaf.DNSNames, template.DNSNames) ||
		!slices.EqualFunc(leaf.IPAddresses, template.IPAddresses, sameIP) ||
		now.Before(leaf.NotBefore) || now.After(leaf.NotAfter.Add(-ownRenewal)) {
		return nil
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func issue(template *x509.Certificate, key crypto.Signer) (*tls.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
