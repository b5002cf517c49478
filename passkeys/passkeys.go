// Package passkeys lets people sign in to the web pages with a passkey (WebAuthn):
// a key that a device, a security stick or a password manager keeps for one web site.
//
// A passkey belongs to the host name on which it was made, which is its relying
// party ID, and signs in there alone. A wider one, such as the domain, would let
// every host below it ask for the gateway's passkeys, the site behind among them. Who
// uses the pages under several names makes a passkey for each.
package passkeys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/store"
)

var (
	// ErrRefused says that a ceremony came to nothing: it is unknown, too old or done
	// with already, or what the browser sent does not fit it. The error that wraps it
	// says why, for the log.
	ErrRefused = errors.New("passkey refused")
	// ErrNoPasskey says that an account has no passkey with the ID.
	ErrNoPasskey = errors.New("no such passkey")
	// ErrTooMany says that an account has as many passkeys as it may, or a source as
	// many ceremonies.
	ErrTooMany = errors.New("too many passkeys")
	// ErrName says that a passkey cannot be called so.
	ErrName = errors.New("a passkey's name has 1 to 100 printable characters")
	// ErrHost says that there can be no passkeys for a host: it is an IP address.
	ErrHost = errors.New("passkeys want a host name")
)

// Passkey is one that is registered.
type Passkey struct {
	ID       string    `json:"id"`      // store.NameOf the credential ID
	Account  string    `json:"account"` // ID
	Name     string    `json:"name"`
	Host     string    `json:"host"` // the only one that it signs in on
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"last_used,omitzero"`
	// Synced says that copies of it may be on several devices.
	Synced bool `json:"synced"`
}

const (
	maxPerAccount = 20
	maxName       = 100 // characters
)

// Config says where passkeys are.
type Config struct {
	Store    store.KV
	Accounts *accounts.Store
	// Name is what browsers call the gateway; empty: "Posthorn".
	Name string
	Log  zerolog.Logger
}

// Store keeps passkeys. Its methods may be called concurrently.
type Store struct {
	Config
	ceremonies ceremonies
}

// New returns the passkeys in c.Store.
func New(c Config) *Store {
	if c.Name == "" {
		c.Name = "Posthorn"
	}
	return &Store{Config: c, ceremonies: newCeremonies()}
}

// Where passkeys stand in the store: the record by account, and whose each is.
const (
	ofPrefix = "passkey/of/" // + account ID + "/" + ID
	idPrefix = "passkey/id/" // + ID: the account's ID
)

// record is a passkey in the store.
type record struct {
	Passkey
	Credential webauthn.Credential `json:"credential"`
}

func (r *record) key() string { return ofPrefix + r.Account + "/" + r.ID }

// List returns the passkeys of an account, oldest first.
func (s *Store) List(ctx context.Context, account string) ([]Passkey, error) {
	all, err := records(ctx, s.Store, account)
	if err != nil {
		return nil, fmt.Errorf("list passkeys: %w", err)
	}
	passkeys := []Passkey{}
	for _, rec := range all {
		passkeys = append(passkeys, rec.Passkey)
	}
	return passkeys, nil
}

func records(ctx context.Context, r store.Reader, account string) (all []*record, err error) {
	if account == "" || strings.Contains(account, "/") {
		return nil, nil
	}
	for item, err := range r.Scan(ctx, ofPrefix+account+"/") {
		if err != nil {
			return nil, err
		}
		rec, err := decode(item.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, rec)
	}
	slices.SortStableFunc(all, func(a, b *record) int { return a.Created.Compare(b.Created) })
	return all, nil
}

func decode(b []byte) (*record, error) {
	rec := new(record)
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, fmt.Errorf("decode passkey: %w", err)
	}
	return rec, nil
}

func put(tx store.Tx, rec *record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return tx.Put(rec.key(), b)
}

// maxID is longer than any ID.
const maxID = 64

func get(ctx context.Context, r store.Reader, account, id string) (*record, error) {
	if account == "" || id == "" || len(id) > maxID || strings.Contains(account+id, "/") {
		return nil, ErrNoPasskey
	}
	b, err := r.Get(ctx, ofPrefix+account+"/"+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNoPasskey
	}
	if err != nil {
		return nil, err
	}
	return decode(b)
}

// Get returns a passkey of an account, or ErrNoPasskey.
func (s *Store) Get(ctx context.Context, account, id string) (*Passkey, error) {
	rec, err := get(ctx, s.Store, account, id)
	if err != nil {
		return nil, err
	}
	return &rec.Passkey, nil
}

// Rename gives a passkey of an account another name (ErrNoPasskey, ErrName).
func (s *Store) Rename(ctx context.Context, account, id, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return s.Store.Update(ctx, func(tx store.Tx) error {
		rec, err := get(ctx, tx, account, id)
		if err != nil {
			return err
		}
		rec.Name = name
		return put(tx, rec)
	})
}

// CheckName returns ErrName when a passkey cannot be called so.
func CheckName(name string) error {
	if utf8.RuneCountInString(name) > maxName || strings.TrimSpace(name) != name ||
		strings.ContainsFunc(name, unprintable) || !strings.ContainsFunc(name, visible) {
		return ErrName
	}
	return nil
}

// unprintable reports whether a character has no place in a name. There are letters
// that fonts show as nothing, such as the Hangul filler, and a symbol: the Braille
// pattern without a dot.
func unprintable(r rune) bool {
	return r == utf8.RuneError || r == '\u2800' || !unicode.IsPrint(r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// visible reports whether a character shows by itself. Marks, such as those that
// choose how an emoji looks, show on others.
func visible(r rune) bool { return !unicode.IsSpace(r) && !unicode.IsMark(r) }

// Remove deletes a passkey of an account (ErrNoPasskey).
func (s *Store) Remove(ctx context.Context, account, id string) error {
	return s.Store.Update(ctx, func(tx store.Tx) error {
		rec, err := get(ctx, tx, account, id)
		if err != nil {
			return err
		}
		return remove(tx, rec)
	})
}

func remove(tx store.Tx, rec *record) error {
	if err := tx.Delete(idPrefix + rec.ID); err != nil {
		return err
	}
	return tx.Delete(rec.key())
}

// rewatch is how long to wait before following the accounts anew.
const rewatch = time.Second

// Run removes the passkeys of accounts that are removed, until ctx ends. They sign
// in nowhere before that either: account IDs are not used again.
func (s *Store) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := s.follow(ctx)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return nil
		}
		s.Log.Error().Err(err).Msg("accounts cannot be followed for passkeys; trying again")
		select {
		case <-ctx.Done():
		case <-time.After(rewatch):
		}
	}
	return nil
}

func (s *Store) follow(ctx context.Context) error {
	changes, err := s.Store.Watch(ctx, accounts.Prefix)
	if err != nil {
		return err
	}
	if err := s.sweep(ctx); err != nil {
		return err
	}
	for item, err := range changes {
		if err == nil && item.Deleted {
			err = s.removeAll(ctx, strings.TrimPrefix(item.Key, accounts.Prefix))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep removes the passkeys of accounts that were removed before anybody looked.
func (s *Store) sweep(ctx context.Context) error {
	orphans := make(map[string]bool)
	for item, err := range s.Store.Scan(ctx, idPrefix) {
		if err != nil {
			return err
		}
		orphans[string(item.Value)] = true
	}
	for account := range orphans {
		_, err := s.Accounts.Get(ctx, account)
		if errors.Is(err, accounts.ErrNoAccount) {
			err = s.removeAll(ctx, account)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) removeAll(ctx context.Context, account string) error {
	return s.Store.Update(ctx, func(tx store.Tx) error {
		all, err := records(ctx, tx, account)
		if err != nil {
			return err
		}
		for _, rec := range all {
			if err := remove(tx, rec); err != nil {
				return err
			}
		}
		return nil
	})
}
