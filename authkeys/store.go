package authkeys

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"posthorn/store"
)

var (
	// ErrUnknown says that a key is not registered.
	ErrUnknown = errors.New("key is not registered")
	// ErrTaken says that a key is registered already, for this or another account.
	ErrTaken = errors.New("key is registered already")
	// ErrTooMany says that an account has MaxPerAccount keys.
	ErrTooMany = fmt.Errorf("account has %d keys, which is all that it may have", MaxPerAccount)
	// ErrIncomplete says that a key to be registered lacks its fingerprint, its
	// account or its type, or has an account that is no ID.
	ErrIncomplete = errors.New("key lacks a fingerprint, an account or a type")
)

// MaxPerAccount is how many keys an account may have: more than anybody has devices,
// and so few that what is done with all of an account's keys at once stays quick.
const MaxPerAccount = 1000

// Prefix is where keys stand in the store: Prefix + the fingerprint's text, so
// that whoever watches it can tell with ParseFingerprint which key changed. An
// index by account stands beside it.
const Prefix = "key/"

// indexPrefix is where the index stands: indexPrefix + account + "/" + the
// fingerprint's text, with empty values.
const indexPrefix = "account-key/"

// Store is the public-key-to-account map over a KV. Its methods may be called
// concurrently.
type Store struct {
	kv store.KV

	mu   sync.Mutex
	uses map[Fingerprint]use // not yet written; guarded by mu
}

// New returns the map kept in kv.
func New(kv store.KV) *Store { return &Store{kv: kv, uses: make(map[Fingerprint]use)} }

// Lookup returns the registered key as it is now, or ErrUnknown.
func (s *Store) Lookup(ctx context.Context, f Fingerprint) (Key, error) {
	return lookup(ctx, s.kv, f)
}

func lookup(ctx context.Context, r store.Reader, f Fingerprint) (Key, error) {
	v, err := r.Get(ctx, recordName(f))
	if errors.Is(err, store.ErrNotFound) {
		return Key{}, ErrUnknown
	}
	if err != nil {
		return Key{}, fmt.Errorf("look up a key: %w", err)
	}
	return parseRecord(f, v)
}

// recordName returns Prefix + f.String() in one allocation.
func recordName(f Fingerprint) string {
	var b [len(Prefix) + len(fingerprintPrefix) + 43]byte
	base64.RawURLEncoding.Encode(b[copy(b[:], Prefix+fingerprintPrefix):], f[:])
	return string(b[:])
}

func indexName(account string, f Fingerprint) string {
	return indexPrefix + account + "/" + f.String()
}

// Add registers k; Fingerprint, Account and Type are required, Created is set
// when zero. It returns ErrTaken when the fingerprint is registered, and ErrTooMany
// when the account has too many keys.
func (s *Store) Add(ctx context.Context, k Key) error {
	return s.kv.Update(ctx, func(tx store.Tx) error { return AddTx(ctx, tx, k) })
}

// AddTx is Add inside the caller's transaction.
func AddTx(ctx context.Context, tx store.Tx, k Key) error {
	if k.Fingerprint.IsZero() || k.Account == "" || strings.Contains(k.Account, "/") || k.Type == "" {
		return ErrIncomplete
	}
	switch _, err := tx.Get(ctx, recordName(k.Fingerprint)); {
	case err == nil:
		return ErrTaken
	case !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("add a key: %w", err)
	}
	if err := checkRoom(ctx, tx, k.Account); err != nil {
		return err
	}
	if k.Created.IsZero() {
		k.Created = time.Now()
	}
	if err := tx.Put(recordName(k.Fingerprint), k.record()); err != nil {
		return err
	}
	return tx.Put(indexName(k.Account, k.Fingerprint), nil)
}

// checkRoom returns ErrTooMany when an account may have no more keys.
func checkRoom(ctx context.Context, tx store.Tx, account string) error {
	n := 0
	for _, err := range indexed(ctx, tx, account) {
		if err != nil {
			return fmt.Errorf("add a key: %w", err)
		}
		if n++; n >= MaxPerAccount {
			return ErrTooMany
		}
	}
	return nil
}

// Change applies fn to a registered key; fn may change Name, NoPreauth,
// Expires and Scope, and may be called more than once. Change returns the key as
// it is afterwards, or ErrUnknown, or fn's error.
func (s *Store) Change(ctx context.Context, f Fingerprint, fn func(*Key) error) (Key, error) {
	var after Key
	err := s.kv.Update(ctx, func(tx store.Tx) error {
		k, err := lookup(ctx, tx, f)
		if err != nil {
			return err
		}
		changed := k
		if err := fn(&changed); err != nil {
			return err
		}
		k.Name, k.NoPreauth, k.Expires, k.Scope = changed.Name, changed.NoPreauth, changed.Expires, changed.Scope
		after = k
		return tx.Put(recordName(f), k.record())
	})
	if err != nil {
		return Key{}, err
	}
	return after, nil
}

// Remove deletes a key and returns what it was, or ErrUnknown.
func (s *Store) Remove(ctx context.Context, f Fingerprint) (Key, error) {
	var k Key
	err := s.kv.Update(ctx, func(tx store.Tx) (err error) {
		if k, err = lookup(ctx, tx, f); err != nil {
			return err
		}
		return remove(tx, k.Account, f)
	})
	if err != nil {
		return Key{}, err
	}
	return k, nil
}

func remove(tx store.Tx, account string, f Fingerprint) error {
	if err := tx.Delete(recordName(f)); err != nil {
		return err
	}
	return tx.Delete(indexName(account, f))
}

// List yields an account's keys, oldest first; account "" means all keys, in
// no order.
func (s *Store) List(ctx context.Context, account string) iter.Seq2[Key, error] {
	if account == "" {
		return s.all(ctx)
	}
	return func(yield func(Key, error) bool) {
		keys, err := s.ofAccount(ctx, account)
		for _, k := range keys {
			if !yield(k, nil) {
				return
			}
		}
		if err != nil {
			yield(Key{}, err)
		}
	}
}

func (s *Store) all(ctx context.Context) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		for item, err := range s.kv.Scan(ctx, Prefix) {
			var k Key
			if err == nil {
				k, err = parseItem(item)
			}
			if !yield(k, err) || err != nil {
				return
			}
		}
	}
}

func parseItem(item store.Item) (Key, error) {
	f, err := ParseFingerprint(strings.TrimPrefix(item.Key, Prefix))
	if err != nil {
		return Key{}, errRecord
	}
	return parseRecord(f, item.Value)
}

// ofAccount returns an account's keys in order. A key that is removed while
// they are gathered is left out.
func (s *Store) ofAccount(ctx context.Context, account string) ([]Key, error) {
	var keys []Key
	for f, err := range indexed(ctx, s.kv, account) {
		if err != nil {
			return nil, err
		}
		switch k, err := s.Lookup(ctx, f); {
		case err == nil:
			keys = append(keys, k)
		case !errors.Is(err, ErrUnknown):
			return nil, err
		}
	}
	slices.SortStableFunc(keys, func(a, b Key) int { return a.Created.Compare(b.Created) })
	return keys, nil
}

// indexed yields the fingerprints that the index has for an account.
func indexed(ctx context.Context, r store.Reader, account string) iter.Seq2[Fingerprint, error] {
	return func(yield func(Fingerprint, error) bool) {
		prefix := indexPrefix + account + "/"
		for item, err := range r.Scan(ctx, prefix) {
			var f Fingerprint
			if err == nil {
				f, err = ParseFingerprint(strings.TrimPrefix(item.Key, prefix))
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// RemoveAccount deletes all keys of an account inside the caller's
// transaction.
func RemoveAccount(ctx context.Context, tx store.Tx, account string) error {
	for f, err := range indexed(ctx, tx, account) {
		if err != nil {
			return fmt.Errorf("remove an account's keys: %w", err)
		}
		if err := remove(tx, account, f); err != nil {
			return err
		}
	}
	return nil
}
