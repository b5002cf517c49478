package certs

import (
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"posthorn/store"
)

// KeyType is the type of a certificate's public key.
type KeyType string

const (
	ECDSA   KeyType = "ecdsa"
	Ed25519 KeyType = "ed25519"
	RSA     KeyType = "rsa"
)

// rank orders key types by preference: ECDSA is the fastest and shortest, RSA is
// what every client supports.
func (t KeyType) rank() int { return slices.Index([]KeyType{ECDSA, Ed25519, RSA}, t) }

func keyTypeOf(c *x509.Certificate) KeyType {
	switch c.PublicKeyAlgorithm {
	case x509.ECDSA:
		return ECDSA
	case x509.Ed25519:
		return Ed25519
	default:
		return RSA
	}
}

// identity is a certificate chain with its private key. Those out of the store
// are parsed when somebody asks for them first, as there may be thousands.
type identity struct {
	keyType             KeyType
	notBefore, notAfter time.Time
	file                string // that it was read from
	// pair returns the certificate with its Leaf; nil when the store had it
	// damaged.
	pair func() *tls.Certificate
}

func newIdentity(pair *tls.Certificate) *identity {
	return &identity{
		keyType:   keyTypeOf(pair.Leaf),
		notBefore: pair.Leaf.NotBefore,
		notAfter:  pair.Leaf.NotAfter,
		pair:      func() *tls.Certificate { return pair },
	}
}

func (i *identity) expired(now time.Time) bool { return now.After(i.notAfter) }

// lifetime is how long the certificate is valid in all.
func (i *identity) lifetime() time.Duration { return i.notAfter.Sub(i.notBefore) }

// best sorts identities that are for the same name: a valid one before an
// expired one, then by key type, then the one that lasts longest.
func best(ids []*identity, now time.Time) {
	late := func(i *identity) int {
		if i.expired(now) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(ids, func(a, b *identity) int {
		return cmp.Or(
			cmp.Compare(late(a), late(b)),
			cmp.Compare(a.keyType.rank(), b.keyType.rank()),
			b.notAfter.Compare(a.notAfter),
		)
	})
}

// What the CA has issued stands in the store in two records, the chain and the
// private key (PKCS #8). The chain has its validity in front (NotBefore and
// NotAfter, seconds since 1970, big endian), so that nothing has to be parsed
// to know when it is due.
const chainHeader = 16

func formatChain(leaf *x509.Certificate, chain [][]byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(leaf.NotBefore.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(leaf.NotAfter.Unix()))
	return append(b, slices.Concat(chain...)...)
}

// storedIdentity returns what the records hold. key is called at the first use.
func storedIdentity(t KeyType, chain []byte, key func() (crypto.Signer, error), damaged func(error)) (*identity, error) {
	if len(chain) <= chainHeader {
		return nil, errDamaged
	}
	return &identity{
		keyType:   t,
		notBefore: time.Unix(int64(binary.BigEndian.Uint64(chain)), 0),
		notAfter:  time.Unix(int64(binary.BigEndian.Uint64(chain[8:])), 0),
		pair: sync.OnceValue(func() *tls.Certificate {
			pair, err := parseStored(chain[chainHeader:], key)
			if err != nil {
				damaged(err)
			}
			return pair
		}),
	}, nil
}

var errDamaged = errors.New("the record in the store is damaged")

func parseStored(chain []byte, key func() (crypto.Signer, error)) (*tls.Certificate, error) {
	certificates, err := x509.ParseCertificates(chain)
	if err != nil || len(certificates) == 0 {
		return nil, errDamaged
	}
	signer, err := key()
	if err != nil {
		return nil, err
	}
	pair := &tls.Certificate{PrivateKey: signer, Leaf: certificates[0]}
	for _, c := range certificates {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	if !matches(pair.Leaf, signer) {
		return nil, errDamaged
	}
	return pair, nil
}

// matches reports whether a certificate is for a private key.
func matches(c *x509.Certificate, key crypto.Signer) bool {
	public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}

// parseKey reads a private key as it stands in the store.
func parseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errDamaged // err could hold parts of it
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errDamaged
	}
	return signer, nil
}

// keptKey returns the private key under a record, where it puts what generate
// makes when there is none. A damaged key is an error: to replace it would look
// like an attack to clients that have pinned it.
func (v *vault) keptKey(ctx context.Context, tx store.Tx, record string, generate func() (crypto.Signer, error)) (crypto.Signer, error) {
	der, err := v.secret(ctx, tx, record)
	switch {
	case err == nil:
		return parseKey(der)
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	key, err := generate()
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, err
	}
	return key, v.keep(tx, record, der)
}
