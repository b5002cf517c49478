package certs

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
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

// selfSigned returns the certificate for names. It is the one in the store if
// that is for just these names and far from its end, else a new one. The key is
// made once and never replaced, as clients may have pinned it.
func selfSigned(ctx context.Context, kv store.KV, names []string, now time.Time) (*tls.Certificate, error) {
	var pair *tls.Certificate
	err := kv.Update(ctx, func(tx store.Tx) error {
		key, err := loadKey(ctx, tx)
		if err != nil {
			return err
		}
		template := template(names, now)
		if pair = loadOwn(ctx, tx, key, template, now); pair != nil {
			return nil
		}
		if pair, err = issue(template, key); err != nil {
			return err
		}
		return tx.Put(ownCert, pair.Certificate[0])
	})
	if err != nil {
		return nil, fmt.Errorf("self-signed certificate: %w", err)
	}
	return pair, nil
}

// loadKey returns the key in the store, where it puts one if there is none. A
// damaged key is an error: replacing it would look like an attack to clients.
func loadKey(ctx context.Context, tx store.Tx) (crypto.Signer, error) {
	der, err := tx.Get(ctx, ownKey)
	switch {
	case err == nil:
		key, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return nil, errors.New("the key in the store is damaged")
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, errors.New("the key in the store cannot sign")
		}
		return signer, nil
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, err
	}
	return key, tx.Put(ownKey, der)
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
func loadOwn(ctx context.Context, tx store.Tx, key crypto.Signer, template *x509.Certificate, now time.Time) *tls.Certificate {
	der, err := tx.Get(ctx, ownCert)
	if err != nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	sameIP := func(a, b net.IP) bool { return a.Equal(b) }
	if !ok || !public.Equal(key.Public()) ||
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
