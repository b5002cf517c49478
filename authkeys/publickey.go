package authkeys

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// UnacceptableError says why a public key's type is refused, at registration
// and at login alike (accepted: Ed25519, ECDSA P-256/384/521, RSA of 2048 to
// 8192 bits; crypto/tls ends the handshake of a larger one).
type UnacceptableError struct{ Type string } // such as "RSA 1024", "DSA", "ECDSA P-224"

func (e *UnacceptableError) Error() string { return "key type " + e.Type + " is not accepted" }

// Bounds of an RSA modulus, in bits.
const (
	minRSA = 2048
	maxRSA = 8192
)

// PublicKey is an accepted public key.
type PublicKey struct {
	Fingerprint Fingerprint
	Type        string // "Ed25519", "ECDSA P-256", "RSA 3072"
	Comment     string // from an OpenSSH line, or a certificate's common name made printable; may be empty
}

// FromCertificate returns the public key of a certificate, ignoring all else
// in it. The error is an *UnacceptableError when the key's type is refused.
// The Comment is left empty.
func FromCertificate(c *x509.Certificate) (PublicKey, error) {
	if c.PublicKey == nil { // a type that crypto/x509 does not know
		return fromSPKI(c.RawSubjectPublicKeyInfo)
	}
	return accept(c.PublicKey, c.RawSubjectPublicKeyInfo)
}

// fromSPKI returns the key in a SubjectPublicKeyInfo (RFC 5280 section 4.1).
func fromSPKI(spki []byte) (PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return PublicKey{}, unparsed(spki)
	}
	return accept(key, spki)
}

// accept applies the key policy to a parsed key and its SubjectPublicKeyInfo.
func accept(key any, spki []byte) (PublicKey, error) {
	var name string
	ok := true
	switch key := key.(type) {
	case ed25519.PublicKey:
		name = "Ed25519"
	case *ecdsa.PublicKey:
		name = "ECDSA " + key.Params().Name
		ok = key.Params().BitSize >= 256
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		name = fmt.Sprintf("RSA %d", bits)
		ok = minRSA <= bits && bits <= maxRSA
	case *ecdh.PublicKey:
		name, ok = "X25519", false
	default:
		return PublicKey{}, unparsed(spki)
	}
	if !ok {
		return PublicKey{}, &UnacceptableError{name}
	}
	return PublicKey{Fingerprint: sha256.Sum256(spki), Type: name}, nil
}

// unparsed explains a SubjectPublicKeyInfo that crypto/x509 does not take: it
// is malformed, or of a type that nobody here accepts.
func unparsed(spki []byte) error {
	in := cryptobyte.String(spki)
	var algorithm cryptobyte.String
	var id asn1.ObjectIdentifier
	if !in.ReadASN1(&in, cryptobyte_asn1.SEQUENCE) ||
		!in.ReadASN1(&algorithm, cryptobyte_asn1.SEQUENCE) ||
		!algorithm.ReadASN1ObjectIdentifier(&id) {
		return fmt.Errorf("%w: the key is malformed", ErrNoPublicKey)
	}
	switch id.String() {
	case "1.2.840.10045.2.1":
		var curve asn1.ObjectIdentifier
		if !algorithm.ReadASN1ObjectIdentifier(&curve) {
			return &UnacceptableError{"ECDSA without a named curve"}
		}
		switch curve.String() {
		case "1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35": // accepted curves
			return fmt.Errorf("%w: the key is malformed", ErrNoPublicKey)
		}
		return &UnacceptableError{"ECDSA " + curve.String()}
	case "1.2.840.113549.1.1.1", "1.3.101.112": // accepted types
		return fmt.Errorf("%w: the key is malformed", ErrNoPublicKey)
	case "1.2.840.113549.1.1.10":
		return &UnacceptableError{"RSA-PSS"}
	case "1.2.840.10040.4.1":
		return &UnacceptableError{"DSA"}
	case "1.3.101.113":
		return &UnacceptableError{"Ed448"}
	}
	return &UnacceptableError{id.String()}
}
