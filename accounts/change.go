package accounts

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"posthorn/authkeys"
	"posthorn/store"
)

// NewAccount is an account to be created.
type NewAccount struct {
	Address  string
	Password string // empty: only keys log in, unless Backend keeps passwords
	Backend  string // see Account.Backend
}

// Add creates an account with the default backend; see Create.
func (s *Store) Add(ctx context.Context, address, password string) (*Account, error) {
	return s.Create(ctx, NewAccount{Address: address, Password: password})
}

// Create creates an account. Besides ErrTaken it returns ErrAddress, ErrDomain
// and ErrPassword.
func (s *Store) Create(ctx context.Context, n NewAccount) (*Account, error) {
	address, err := s.parseOwn(n.Address)
	if err != nil {
		return nil, err
	}
	a := s.newAccount(address)
	a.Password, a.Backend = n.Password != "", n.Backend
	var v verifier
	if a.Password {
		if v, err = newVerifier(n.Password); err != nil {
			return nil, err
		}
	}
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		if err := claimAddress(ctx, tx, address, a.ID); err != nil {
			return err
		}
		if a.Password {
			if err := tx.Put(passwordPrefix+a.ID, v.encode()); err != nil {
				return err
			}
		}
		return putAccount(tx, a)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// SetPassword sets a password, or removes it when password is empty. A
// password that cannot be used is ErrPassword.
func (s *Store) SetPassword(ctx context.Context, id, password string) error {
	var v verifier
	if password != "" {
		var err error
		if v, err = newVerifier(password); err != nil {
			return err
		}
	}
	return s.change(ctx, id, func(tx store.Tx, a *Account) error {
		a.Password = password != ""
		if !a.Password {
			return tx.Delete(passwordPrefix + id)
		}
		return tx.Put(passwordPrefix+id, v.encode())
	})
}

// SetDisabled disables or enables an account. A disabled one keeps receiving.
func (s *Store) SetDisabled(ctx context.Context, id string, disabled bool) error {
	return s.change(ctx, id, func(_ store.Tx, a *Account) error {
		a.Disabled = disabled
		return nil
	})
}

// SetBackend moves an account to another backend; empty: the default. Mail and
// passwords stay where they are.
func (s *Store) SetBackend(ctx context.Context, id, backend string) error {
	return s.change(ctx, id, func(_ store.Tx, a *Account) error {
		a.Backend = backend
		return nil
	})
}

// AddAddress gives an account one more address (ErrTaken, ErrAddress,
// ErrDomain).
func (s *Store) AddAddress(ctx context.Context, id, address string) error {
	address, err := s.parseOwn(address)
	if err != nil {
		return err
	}
	return s.change(ctx, id, func(tx store.Tx, a *Account) error {
		a.Addresses = append(a.Addresses, address)
		return claimAddress(ctx, tx, address, id)
	})
}

// RemoveAddress takes one away (ErrLast, ErrNoAccount).
func (s *Store) RemoveAddress(ctx context.Context, id, address string) error {
	address, err := ParseAddress(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoAccount, err)
	}
	return s.change(ctx, id, func(tx store.Tx, a *Account) error {
		i := slices.Index(a.Addresses, address)
		switch {
		case i < 0:
			return fmt.Errorf("%w: %s is not an address of it", ErrNoAccount, address)
		case len(a.Addresses) == 1:
			return ErrLast
		}
		a.Addresses = slices.Delete(a.Addresses, i, i+1)
		return tx.Delete(addressPrefix + address)
	})
}

// Remove deletes an account with its addresses, password and keys, at once,
// and returns what it was. Its mail is the caller's to remove.
func (s *Store) Remove(ctx context.Context, id string) (*Account, error) {
	var a *Account
	err := s.kv.Update(ctx, func(tx store.Tx) (err error) {
		if a, err = getAccount(ctx, tx, id); err != nil {
			return err
		}
		gone := []string{Prefix + id, passwordPrefix + id, historyPrefix + id}
		for _, address := range a.Addresses {
			gone = append(gone, addressPrefix+address)
		}
		for _, key := range gone {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return authkeys.RemoveAccount(ctx, tx, id)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// change applies fn to an account's record in one transaction.
func (s *Store) change(ctx context.Context, id string, fn func(store.Tx, *Account) error) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		a, err := getAccount(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := fn(tx, a); err != nil {
			return err
		}
		return putAccount(tx, a)
	})
}

// parseOwn is ParseAddress for addresses that are to be given out.
func (s *Store) parseOwn(address string) (string, error) {
	n, err := ParseAddress(address)
	if err != nil {
		return "", err
	}
	if !s.serves(n) {
		return "", fmt.Errorf("%w: %s (configured: %s)", ErrDomain, domainOf(n), strings.Join(s.domains, ", "))
	}
	return n, nil
}

// claimAddress makes address lead to id, or fails with ErrTaken.
func claimAddress(ctx context.Context, tx store.Tx, address, id string) error {
	switch _, err := tx.Get(ctx, addressPrefix+address); {
	case err == nil:
		return fmt.Errorf("%w: %s", ErrTaken, address)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return tx.Put(addressPrefix+address, []byte(id))
}

func putAccount(tx store.Tx, a *Account) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return tx.Put(Prefix+a.ID, b)
}

// newID returns 80 random bits as 16 characters of lower-case base32. Nothing
// remembers removed IDs: that many bits do not come twice.
func newID() string { return strings.ToLower(rand.Text()[:16]) }
