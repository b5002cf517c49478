package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/passkeys"
	"posthorn/store"
)

// Key is a registered key as people see it.
type Key struct {
	Fingerprint authkeys.Fingerprint `json:"fingerprint"`
	Account     string               `json:"account"` // ID
	Address     string               `json:"address"` // the account's primary one
	Name        string               `json:"name"`
	Type        string               `json:"type"`
	Created     time.Time            `json:"created"`
	LastUsed    time.Time            `json:"last_used,omitzero"`
	LastUse     string               `json:"last_use,omitempty"`
	NoPreauth   bool                 `json:"no_preauth"`
	Expires     time.Time            `json:"expires,omitzero"` // zero: never
	Scope       authkeys.Scope       `json:"scope"`            // as text, such as "imap,smtp" or "all"
}

func keyView(k authkeys.Key, a *accounts.Account) Key {
	return Key{
		Fingerprint: k.Fingerprint, Account: a.ID, Address: a.Primary(),
		Name: k.Name, Type: k.Type, Created: k.Created, LastUsed: k.LastUsed, LastUse: k.LastUse,
		NoPreauth: k.NoPreauth, Expires: k.Expires, Scope: k.Scope,
	}
}

// settingsOf is a key without what changes by itself, its uses.
func settingsOf(k authkeys.Key) authkeys.Key {
	k.LastUsed, k.LastUse = time.Time{}, ""
	return k
}

// NewKey is a request to register a key.
type NewKey struct {
	Account   string         `json:"account"`    // ID or address
	PublicKey string         `json:"public_key"` // as authkeys.ParsePublicKey reads it
	Name      string         `json:"name,omitempty"`
	NoPreauth bool           `json:"no_preauth,omitempty"`
	Expires   time.Time      `json:"expires,omitzero"`
	Scope     authkeys.Scope `json:"scope,omitzero"`
}

// maxName is how long a key's name may be, in characters.
const maxName = 100

// AddKey registers a key for an account. A key that is not named gets its
// comment or its type for a name.
func (s *Service) AddKey(ctx context.Context, who Actor, req NewKey) (*Key, error) {
	const action = "key add"
	a, err := s.find(ctx, who, action, req.Account)
	if err != nil {
		return nil, err
	}
	k, err := req.parse()
	if err != nil {
		return nil, err
	}
	k.Account, k.Created = a.ID, now()
	ev := Event{Action: action, Account: a.ID, Address: a.Primary(), Key: k.Fingerprint.String(), Detail: k.Name}
	if err := s.do(ctx, who, &ev, func() error { ev.after(settingsOf(*k)); return s.addKey(ctx, k) }); err != nil {
		return nil, err
	}
	view := keyView(*k, a)
	return &view, nil
}

func (s *Service) addKey(ctx context.Context, k *authkeys.Key) error {
	return s.Store.Update(ctx, func(tx store.Tx) error {
		// The account may have been removed since it was found, with its keys:
		// none may stay behind.
		_, err := tx.Get(ctx, accounts.Prefix+k.Account)
		if errors.Is(err, store.ErrNotFound) {
			return accounts.ErrNoAccount
		}
		if err != nil {
			return err
		}
		return authkeys.AddTx(ctx, tx, *k)
	})
}

// parse validates the request and fills in a key, but for whose it is.
func (r *NewKey) parse() (*authkeys.Key, error) {
	pub, err := authkeys.ParsePublicKey([]byte(r.PublicKey))
	if err != nil {
		return nil, badKey(err)
	}
	if err := checkExpires(r.Expires); err != nil {
		return nil, err
	}
	name := r.Name
	if name == "" {
		name = pub.Comment
	}
	if name == "" {
		name = pub.Type
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	return &authkeys.Key{
		Fingerprint: pub.Fingerprint, Type: pub.Type, Name: name,
		NoPreauth: r.NoPreauth, Expires: r.Expires.UTC(), Scope: r.Scope,
	}, nil
}

// badKey keeps the error that says which type is refused, and marks all other
// trouble with a key's text as the request's.
func badKey(err error) error {
	if u := (*authkeys.UnacceptableError)(nil); errors.As(err, &u) {
		return err
	}
	return &InvalidError{"public_key", err.Error()}
}

func checkName(name string) error {
	switch {
	case name == "":
		return &InvalidError{"name", "must not be empty"}
	case utf8.RuneCountInString(name) > maxName:
		return &InvalidError{"name", fmt.Sprintf("must have at most %d characters", maxName)}
	case passkeys.CheckName(name) != nil: // there is one rule for all that people name
		return &InvalidError{"name", "must consist of printable characters"}
	}
	return nil
}

func checkExpires(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		return &InvalidError{"expires", "is in the past"}
	}
	return nil
}

// ListKeys returns the keys of an account, oldest first; account "" means all
// keys.
func (s *Service) ListKeys(ctx context.Context, who Actor, account string) ([]Key, error) {
	const action = "key list"
	if account != "" {
		a, err := s.find(ctx, who, action, account)
		if err != nil {
			return nil, err
		}
		return s.listKeys(ctx, a)
	}
	if err := s.operator(who, action); err != nil {
		return nil, err
	}
	all := []Key{}
	for a, err := range s.Accounts.List(ctx) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", action, err)
		}
		keys, err := s.listKeys(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", action, err)
		}
		all = append(all, keys...)
	}
	return all, nil
}

func (s *Service) listKeys(ctx context.Context, a *accounts.Account) ([]Key, error) {
	keys := []Key{}
	for k, err := range s.Keys.List(ctx, a.ID) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, keyView(k, a))
	}
	return keys, nil
}

// ShowKey describes a key.
func (s *Service) ShowKey(ctx context.Context, who Actor, f authkeys.Fingerprint) (*Key, error) {
	k, a, err := s.findKey(ctx, who, "key show", f)
	if err != nil {
		return nil, err
	}
	view := keyView(k, a)
	return &view, nil
}

// findKey returns a key and its account when the actor may manage it. A key
// that is somebody else's is unknown to an actor who is no operator.
func (s *Service) findKey(ctx context.Context, who Actor, action string, f authkeys.Fingerprint) (authkeys.Key, *accounts.Account, error) {
	if !who.may(action) && who.Account == "" {
		return authkeys.Key{}, nil, s.forbid(who, action)
	}
	k, err := s.Keys.Lookup(ctx, f)
	if err != nil {
		return k, nil, fmt.Errorf("%s: %w", action, err)
	}
	if s.self(who, action, k.Account) != nil {
		return k, nil, fmt.Errorf("%s: %w", action, authkeys.ErrUnknown)
	}
	a, err := s.Accounts.Get(ctx, k.Account)
	if err != nil {
		return k, nil, fmt.Errorf("%s: %w", action, err)
	}
	return k, a, nil
}

// KeyChange says what of a key to change; nil fields stay as they are.
type KeyChange struct {
	Name      *string         `json:"name,omitempty"`
	NoPreauth *bool           `json:"no_preauth,omitempty"`
	Expires   *time.Time      `json:"expires,omitempty"` // the zero time: never
	Scope     *authkeys.Scope `json:"scope,omitempty"`
}

// SetKey changes a key's settings. Sessions that it opened end when they are
// no longer allowed.
func (s *Service) SetKey(ctx context.Context, who Actor, f authkeys.Fingerprint, c KeyChange, only ...Condition) (*Key, error) {
	const action = "key set"
	_, a, err := s.findKey(ctx, who, action, f)
	if err != nil {
		return nil, err
	}
	apply, detail, err := c.plan()
	if err != nil {
		return nil, err
	}
	var k authkeys.Key
	ev := Event{Action: action, Account: a.ID, Address: a.Primary(), Key: f.String(), Detail: detail}
	err = s.exclusively(ctx, a.ID, func() error {
		if err := s.checkKey(ctx, f, a, only); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		return s.do(ctx, who, &ev, func() (err error) {
			var was authkeys.Key
			k, err = s.Keys.Change(ctx, f, func(k *authkeys.Key) error {
				if k.Account != a.ID { // somebody else has it now
					return authkeys.ErrUnknown
				}
				was = *k
				return apply(k)
			})
			if err == nil {
				ev.change(settingsOf(was), settingsOf(k))
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	view := keyView(k, a)
	return &view, nil
}

// plan validates a change, and returns how to apply it and how to tell of it.
func (c KeyChange) plan() (apply func(*authkeys.Key) error, detail string, err error) {
	var told []string
	if c.Name != nil {
		if err := checkName(*c.Name); err != nil {
			return nil, "", err
		}
		told = append(told, "name="+*c.Name)
	}
	if c.NoPreauth != nil {
		told = append(told, fmt.Sprintf("no_preauth=%t", *c.NoPreauth))
	}
	if c.Expires != nil {
		if err := checkExpires(*c.Expires); err != nil {
			return nil, "", err
		}
		told = append(told, "expires="+expiryText(*c.Expires))
	}
	if c.Scope != nil {
		told = append(told, "scope="+c.Scope.String())
	}
	if len(told) == 0 {
		return nil, "", &InvalidError{"change", "says nothing to change"}
	}
	return func(k *authkeys.Key) error { c.apply(k); return nil }, strings.Join(told, " "), nil
}

func (c KeyChange) apply(k *authkeys.Key) {
	if c.Name != nil {
		k.Name = *c.Name
	}
	if c.NoPreauth != nil {
		k.NoPreauth = *c.NoPreauth
	}
	if c.Expires != nil {
		k.Expires = c.Expires.UTC()
	}
	if c.Scope != nil {
		k.Scope = *c.Scope
	}
}

func expiryText(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// RemoveKey deletes a key and ends the sessions that it opened. The record of
// an account that is gone does not stand in the way.
func (s *Service) RemoveKey(ctx context.Context, who Actor, f authkeys.Fingerprint, only ...Condition) error {
	const action = "key remove"
	k, a, err := s.findKey(ctx, who, action, f)
	if errors.Is(err, accounts.ErrNoAccount) && who.may(action) {
		a, err = &accounts.Account{ID: k.Account, Addresses: []string{""}}, nil
	}
	if err != nil {
		return err
	}
	ev := Event{Action: action, Account: a.ID, Address: a.Primary(), Key: f.String(), Detail: k.Name}
	return s.exclusively(ctx, a.ID, func() error {
		if err := s.checkKey(ctx, f, a, only); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		return s.do(ctx, who, &ev, func() error {
			was, err := s.Keys.Remove(ctx, f)
			if err == nil {
				ev.before(settingsOf(was))
			}
			return err
		})
	})
}
