// Package authkeys knows clients' public keys: their fingerprints, which types
// are accepted, and the map from public key to account.
package authkeys

import (
	"encoding/base64"
	"errors"
	"strings"
)

// Fingerprint is the SHA-256 of a public key's SubjectPublicKeyInfo in DER
// (RFC 5280 section 4.1.2.7). The zero value stands for no key.
type Fingerprint [32]byte

const fingerprintPrefix = "SHA256:"

// ErrBadFingerprint says that a text is no fingerprint.
var ErrBadFingerprint = errors.New("not a fingerprint: want SHA256: and 43 characters of base64url")

// IsZero reports whether f stands for no key.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// String returns "SHA256:" and base64url without padding: 50 characters that
// never begin with a dash. The zero value is the empty string.
func (f Fingerprint) String() string {
	if f.IsZero() {
		return ""
	}
	return fingerprintPrefix + base64.RawURLEncoding.EncodeToString(f[:])
}

// ParseFingerprint is the inverse of String. It also takes the standard base64
// alphabet, which is what openssl and ssh-keygen print.
func ParseFingerprint(s string) (Fingerprint, error) {
	b64, ok := strings.CutPrefix(s, fingerprintPrefix)
	if !ok {
		return Fingerprint{}, ErrBadFingerprint
	}
	b64 = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(b64, "="))
	b, err := base64.RawURLEncoding.Strict().DecodeString(b64)
	var f Fingerprint
	if err != nil || len(b) != len(f) {
		return Fingerprint{}, ErrBadFingerprint
	}
	copy(f[:], b)
	return f, nil
}

// MarshalText implements encoding.TextMarshaler.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Fingerprint) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*f = Fingerprint{}
		return nil
	}
	*f, err = ParseFingerprint(string(b))
	return err
}
