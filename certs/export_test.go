package certs

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"time"

	"posthorn/store"
)

// SetBackoff has a failed attempt repeated after d.
func (m *Manager) SetBackoff(d time.Duration) {
	m.issuer.backoff = func(int, bool) time.Duration { return d }
}

// Rotate does what Run does every so often.
func (m *Manager) Rotate(ctx context.Context) error { return m.rotate(ctx) }

// Put puts a certificate for name and key, signed by issuer, where those of the
// CA stand.
func (m *Manager) Put(tx store.Tx, name string, key crypto.Signer, issuer tls.Certificate) error {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now(), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Leaf, key.Public(), issuer.PrivateKey)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := m.vault.keep(tx, m.issuer.record(name, ECDSA, "key"), secret); err != nil {
		return err
	}
	return tx.Put(m.issuer.record(name, ECDSA, "chain"), formatChain(template, [][]byte{der, issuer.Certificate[0]}))
}
