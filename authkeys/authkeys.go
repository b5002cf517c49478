package authkeys

import (
	"context"
	"crypto/x509"
	"errors"
	"iter"
	"time"

	"posthorn/store"
)

var (
	// ErrUnknown says that a key is not registered.
	ErrUnknown = errors.New("key is not registered")
	// ErrTaken says that a key is registered already, for this or another account.
	ErrTaken = errors.New("key is registered already")
)

// UnacceptableError says why a public key's type is refused, at registration
// and at login alike (accepted: Ed25519, ECDSA P-256/384/521, RSA of 2048 to
// 16384 bits).
type UnacceptableError struct{ Type string } // such as "RSA 1024", "DSA", "ECDSA P-224"

func (e *UnacceptableError) Error() string { return "key type " + e.Type + " is not accepted" }

// PublicKey is an accepted public key.
type PublicKey struct {
	Fingerprint Fingerprint
	Type        string // "Ed25519", "ECDSA P-256", "RSA 3072"
	Comment     string // from an OpenSSH line, or a certificate's common name made printable; may be empty
}

// FromCertificate returns the public key of a certificate, ignoring all else
// in it. The error is an *UnacceptableError when the key's type is refused.
// The Comment is left empty.
func FromCertificate(c *x509.Certificate) (PublicKey, error) { panic("unbuilt") }

// ParsePublicKey reads what a person has at hand: a PEM certificate, a PEM
// public key (PKIX), or one line of OpenSSH public key. Leading and trailing
// text around one PEM block is ignored, as openssl's is. A private key beside
// a certificate in the same file is ignored; a private key alone is refused
// with an error that says so and does not repeat it.
func ParsePublicKey(data []byte) (PublicKey, error) { panic("unbuilt") }

// Scope is the set of protocols that a key may log in to. The zero value means
// all of them.
type Scope uint8

const (
	ScopeIMAP Scope = 1 << iota
	ScopeSMTP
	ScopeHTTPS
)

// Allows reports whether a key of scope s may log in to all of want.
func (s Scope) Allows(want Scope) bool { return s == 0 || s&want == want }

// Key is a registered key.
type Key struct {
	Fingerprint Fingerprint `json:"fingerprint"`
	Account     string      `json:"account"` // the account's ID
	Name        string      `json:"name"`    // the device, for people
	Type        string      `json:"type"`
	Created     time.Time   `json:"created"`
	LastUsed    time.Time   `json:"last_used,omitzero"`
	LastUse     string      `json:"last_use,omitempty"` // protocol and mechanism, such as "imap PREAUTH"
	NoPreauth   bool        `json:"no_preauth,omitempty"`
	Expires     time.Time   `json:"expires,omitzero"` // zero: never
	Scope       Scope       `json:"scope,omitempty"`
}

// Usable reports why k may not log in to scope at a time: nil, ErrExpired or
// ErrScope.
func (k *Key) Usable(scope Scope, at time.Time) error { panic("unbuilt") }

var (
	ErrExpired = errors.New("key has expired")
	ErrScope   = errors.New("key is not for this protocol")
)

// Prefix is where keys stand in the store: Prefix + fingerprint. An index by
// account stands beside it.
const Prefix = "key/"

// Store is the public-key-to-account map over a KV. Its methods may be called
// concurrently.
type Store struct{ kv store.KV }

// New returns the map kept in kv.
func New(kv store.KV) *Store { return &Store{kv} }

// Lookup returns the registered key as it is now, or ErrUnknown.
func (s *Store) Lookup(ctx context.Context, f Fingerprint) (Key, error) { panic("unbuilt") }

// Add registers k; Fingerprint, Account and Type are required, Created is set
// when zero. It returns ErrTaken when the fingerprint is registered.
func (s *Store) Add(ctx context.Context, k Key) error { panic("unbuilt") }

// Change applies fn to a registered key; fn may change Name, NoPreauth,
// Expires and Scope. It returns the key as it is afterwards.
func (s *Store) Change(ctx context.Context, f Fingerprint, fn func(*Key) error) (Key, error) {
	panic("unbuilt")
}

// Remove deletes a key and returns what it was, or ErrUnknown.
func (s *Store) Remove(ctx context.Context, f Fingerprint) (Key, error) { panic("unbuilt") }

// List yields an account's keys, oldest first; account "" means all keys, in
// no order.
func (s *Store) List(ctx context.Context, account string) iter.Seq2[Key, error] { panic("unbuilt") }

// RemoveAccount deletes all keys of an account inside the caller's
// transaction.
func RemoveAccount(ctx context.Context, tx store.Tx, account string) error { panic("unbuilt") }

// Used notes that a key logged in. It is cheap: Run writes the notes to the
// store every minute, and loses at most that on a crash.
func (s *Store) Used(f Fingerprint, at time.Time, use string) {}

// Run writes what Used noted, until ctx ends; then once more.
func (s *Store) Run(ctx context.Context) error { panic("unbuilt") }
