// Package accounts is the one door for "who is this?": accounts, their
// addresses and passwords, and every way to log in to one. Handlers bring what
// a peer showed; accounts answers with a Login or refuses.
package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"posthorn/authkeys"
	"posthorn/store"
)

var (
	ErrNoAccount = errors.New("no such account")
	ErrTaken     = errors.New("address is taken")
	ErrLast      = errors.New("an account keeps at least one address")
	// ErrDomain says that an address lies outside Options.Domains; the error
	// that wraps it names them.
	ErrDomain = errors.New("domain is not served here")
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
	Backend   string    `json:"backend,omitempty"` // name; empty: its domain's, or the default
	Password  bool      `json:"has_password"`      // here; that a backend may keep one does not count
}

// Has reports whether address, in any spelling, is one of the account's.
func (a *Account) Has(address string) bool {
	n, err := ParseAddress(address)
	return err == nil && slices.Contains(a.Addresses, n)
}

// Primary is the account's first address.
func (a *Account) Primary() string { return a.Addresses[0] }

// Prefix is where account records stand in the store: Prefix + ID.
const Prefix = "account/"

// An account's other records. Verifiers stand apart from it, so that whoever
// shows or watches accounts cannot leak them.
const (
	addressPrefix  = "address/"  // + normalized address: the account's ID
	passwordPrefix = "password/" // + ID: the verifier
)

// Options are the settings of a Store. The zero value works.
type Options struct {
	// Domains are the domains whose addresses can be given out; nil: any.
	Domains []string
	// Throttle limits password guessing; see its fields for the defaults.
	Throttle Throttle
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Privacy leaves peers' addresses out of what is kept about logins.
	Privacy bool
	// Log hears of accounts that their first login creates.
	Log zerolog.Logger
}

// Store keeps the accounts. Its methods may be called concurrently.
type Store struct {
	kv      store.KV
	keys    *authkeys.Store
	domains []string
	now     func() time.Time
	log     zerolog.Logger
	decoys  decoys
	limiter *limiter
	history *history
	metrics metrics
}

// New returns the accounts kept in kv; keys is the map over the same KV.
func New(ctx context.Context, kv store.KV, keys *authkeys.Store, o Options) (*Store, error) {
	s := &Store{kv: kv, keys: keys, now: o.Now, log: o.Log, history: newHistory(o.Privacy)}
	if s.now == nil {
		s.now = time.Now
	}
	for _, d := range o.Domains {
		n, err := parseDomain(d)
		if err != nil {
			return nil, fmt.Errorf("accounts: domain %q: %w", d, err)
		}
		s.domains = append(s.domains, n)
	}
	var err error
	if s.decoys, err = loadDecoys(ctx, kv); err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	s.limiter = newLimiter(o.Throttle, s.now)
	s.metrics = newMetrics(s.limiter)
	return s, nil
}

// Get returns the account with an ID, or ErrNoAccount.
func (s *Store) Get(ctx context.Context, id string) (*Account, error) {
	return getAccount(ctx, s.kv, id)
}

// ByAddress returns the account that has address, or ErrNoAccount.
func (s *Store) ByAddress(ctx context.Context, address string) (*Account, error) {
	n, err := ParseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAccount, err)
	}
	id, err := s.kv.Get(ctx, addressPrefix+n)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNoAccount
	}
	if err != nil {
		return nil, fmt.Errorf("look up address: %w", err)
	}
	a, err := getAccount(ctx, s.kv, string(id))
	if err == nil && !slices.Contains(a.Addresses, n) {
		return nil, ErrNoAccount // the address moved on between the two reads
	}
	return a, err
}

// List yields all accounts, in order of their IDs.
func (s *Store) List(ctx context.Context) iter.Seq2[*Account, error] {
	return func(yield func(*Account, error) bool) {
		for item, err := range s.kv.Scan(ctx, Prefix) {
			if err != nil {
				yield(nil, fmt.Errorf("list accounts: %w", err))
				return
			}
			a, err := decodeAccount(item.Value)
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// ListAfter yields the accounts in the order of their primary addresses, but for those
// up to an address. What changes meanwhile may be there or not.
func (s *Store) ListAfter(ctx context.Context, address string) iter.Seq2[*Account, error] {
	return func(yield func(*Account, error) bool) {
		for item, err := range s.kv.ScanAfter(ctx, addressPrefix, addressPrefix+address) {
			var a *Account
			if err == nil {
				a, err = getAccount(ctx, s.kv, string(item.Value))
			}
			switch {
			case errors.Is(err, ErrNoAccount): // removed meanwhile
				continue
			case err == nil && addressPrefix+a.Primary() != item.Key: // another one of its addresses
				continue
			case err != nil:
				a, err = nil, fmt.Errorf("list accounts: %w", err)
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// Count returns how many accounts there are.
func (s *Store) Count(ctx context.Context) (int, error) { return s.kv.Count(ctx, Prefix) }

func getAccount(ctx context.Context, r store.Reader, id string) (*Account, error) {
	if id == "" || strings.Contains(id, "/") {
		return nil, ErrNoAccount
	}
	b, err := r.Get(ctx, Prefix+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNoAccount
	}
	if err != nil {
		return nil, fmt.Errorf("read account: %w", err)
	}
	return decodeAccount(b)
}

func decodeAccount(b []byte) (*Account, error) {
	a := new(Account)
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("decode account: %w", err)
	}
	if len(a.Addresses) == 0 {
		return nil, fmt.Errorf("decode account: %s has no address", a.ID)
	}
	return a, nil
}
