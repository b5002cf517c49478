package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"posthorn/authkeys"
)

// Identity is a private key that logs in, with a certificate to show it by. The
// gateway looks at nothing in the certificate but its public key. An Identity is
// not changed once it is made, and never prints its key: not with any verb of
// package fmt, not as JSON, not in a log.
type Identity struct {
	key    func() crypto.Signer // a func, as package fmt looks into all else when a verb is wrong
	leaf   *x509.Certificate
	public authkeys.PublicKey
}

// KeyType is a type of key that NewIdentity makes.
type KeyType string

const (
	ECDSA   KeyType = "ecdsa"   // on P-256: every mail program can use it
	Ed25519 KeyType = "ed25519" // which has a seed, and is what OpenSSH prefers
)

// ErrKeyType says that NewIdentity does not make keys of a type.
var ErrKeyType = errors.New("not a type of key to make")

// NewIdentity makes a key and a certificate for it. name, which may be empty,
// goes into the certificate for people to read: an address, or a device.
func NewIdentity(typ KeyType, name string) (*Identity, error) {
	var key crypto.Signer
	var err error
	switch typ {
	case ECDSA:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("%w: %q", ErrKeyType, typ)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return newIdentity(key, nil, name)
}

// newIdentity joins a key with its certificate, or with one that it makes.
func newIdentity(key crypto.Signer, leaf *x509.Certificate, name string) (*Identity, error) {
	if leaf == nil {
		var err error
		if leaf, err = selfSigned(key, name, time.Now()); err != nil {
			return nil, fmt.Errorf("make a certificate: %w", err)
		}
	}
	public, err := authkeys.FromCertificate(leaf)
	if err != nil {
		return nil, err
	}
	return &Identity{key: func() crypto.Signer { return key }, leaf: leaf, public: public}, nil
}

// selfSigned makes the least of a certificate that programs and TLS libraries
// take. Its dates say that it never expires (RFC 5280 section 4.1.2.5): the
// gateway does not look, but some programs do.
func selfSigned(key crypto.Signer, name string, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Fingerprint is what names the key at the gateway.
func (i Identity) Fingerprint() authkeys.Fingerprint { return i.public.Fingerprint }

// Type is the type of the key for people, such as "ECDSA P-256".
func (i Identity) Type() string { return i.public.Type }

// Certificate is what is shown to servers. It is not to be changed.
func (i Identity) Certificate() *x509.Certificate { return i.leaf }

// TLS returns the identity in the form that crypto/tls uses.
func (i Identity) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.leaf.Raw}, PrivateKey: i.key(), Leaf: i.leaf}
}

// PublicLine is the line to register at the gateway: the public key as in an
// OpenSSH .pub file, with the certificate's name for a comment. "posthorn key
// add" and the gateway's web pages take it.
func (i Identity) PublicLine() string {
	public, err := ssh.NewPublicKey(i.key().Public())
	if err != nil { // none of the accepted types
		return i.public.Fingerprint.String()
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
	if name := commentOf(i.leaf); name != "" {
		line += " " + name
	}
	return line
}

// commentOf is a certificate's name, fit for one line.
func commentOf(c *x509.Certificate) string {
	return strings.Join(strings.FieldsFunc(c.Subject.CommonName, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r >= 0x80 && r < 0xa0
	}), " ")
}

// String says which key this is.
func (i Identity) String() string {
	return "identity " + i.public.Fingerprint.String() + " (" + i.public.Type + ")"
}

// Format implements fmt.Formatter, so that no verb shows the key.
func (i Identity) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, i.String()) }

// MarshalJSON tells fingerprint and type, and nothing of the private key.
func (i Identity) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Fingerprint authkeys.Fingerprint `json:"fingerprint"`
		Type        string               `json:"type"`
	}{i.public.Fingerprint, i.public.Type})
}
