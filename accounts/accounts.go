// Package accounts is the one door for "who is this?": accounts, their
// addresses and passwords, and every way to log in to one. Handlers bring what
// a peer showed; accounts answers with a Login or refuses.
package accounts

import (
	"context"
	"errors"
	"iter"
	"time"

	"posthorn/authkeys"
	"posthorn/store"
)

var (
	ErrNoAccount = errors.New("no such account")
	ErrTaken     = errors.New("address is taken")
	ErrLast      = errors.New("an account keeps at least one address")
)

// Account is who mail belongs to. It is a snapshot: changing it changes
// nothing.
type Account struct {
	// ID is random, never used again, and stands for the account in logs that
	// must not name people.
	ID        string    `json:"id"`
	Addresses []string  `json:"addresses"` // normalized; the first is the primary one
	Disabled  bool      `json:"disabled"`
	Created   time.Time `json:"created"`
	Backend   string    `json:"backend,omitempty"` // empty: the default
	Password  bool      `json:"has_password"`
}

// Has reports whether address, in any spelling, is one of the account's.
func (a *Account) Has(address string) bool { panic("unbuilt") }

// Primary is the account's first address.
func (a *Account) Primary() string { return a.Addresses[0] }

// ParseAddress checks an e-mail address and returns its normalized form:
// dot-atom or UTF-8 local part (RFC 5321, RFC 6531; no quoted strings) in
// lower case and NFC, "@", and the domain in lower-case A-labels. Its error
// names what is wrong.
func ParseAddress(s string) (string, error) { panic("unbuilt") }

// Prefix is where account records stand in the store: Prefix + ID.
const Prefix = "account/"

// Options are the settings of a Store. The zero value works.
type Options struct {
	// Domains are the domains whose addresses can be given out; nil: any.
	Domains []string
	// Throttle limits password guessing; see its fields for the defaults.
	Throttle Throttle
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Store keeps the accounts. Its methods may be called concurrently.
type Store struct {
	kv   store.KV
	keys *authkeys.Store
}

// New returns the accounts kept in kv; keys is the map over the same KV.
func New(ctx context.Context, kv store.KV, keys *authkeys.Store, o Options) (*Store, error) {
	panic("unbuilt")
}

// Add creates an account. password may be empty: then only keys log in.
func (s *Store) Add(ctx context.Context, address, password string) (*Account, error) {
	panic("unbuilt")
}

// Get returns the account with an ID, or ErrNoAccount.
func (s *Store) Get(ctx context.Context, id string) (*Account, error) { panic("unbuilt") }

// ByAddress returns the account that has address, or ErrNoAccount.
func (s *Store) ByAddress(ctx context.Context, address string) (*Account, error) { panic("unbuilt") }

// List yields all accounts, in order of their IDs.
func (s *Store) List(ctx context.Context) iter.Seq2[*Account, error] { panic("unbuilt") }

// SetPassword sets a password, or removes it when password is empty.
func (s *Store) SetPassword(ctx context.Context, id, password string) error { panic("unbuilt") }

// SetDisabled disables or enables an account. A disabled one keeps receiving.
func (s *Store) SetDisabled(ctx context.Context, id string, disabled bool) error { panic("unbuilt") }

// AddAddress gives an account one more address (ErrTaken).
func (s *Store) AddAddress(ctx context.Context, id, address string) error { panic("unbuilt") }

// RemoveAddress takes one away (ErrLast, ErrNoAccount).
func (s *Store) RemoveAddress(ctx context.Context, id, address string) error { panic("unbuilt") }

// Remove deletes an account with its addresses, password and keys, at once.
// Its mail is the caller's to remove.
func (s *Store) Remove(ctx context.Context, id string) (*Account, error) { panic("unbuilt") }

// GeneratePassword returns a random password that people can type.
func GeneratePassword() string { panic("unbuilt") }
