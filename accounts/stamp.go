package accounts

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"posthorn/store"
)

// PasswordStamp returns a text that changes whenever the password that is kept
// here for an account is set or removed, and tells nothing about it. What the
// password has opened compares it.
func (s *Store) PasswordStamp(ctx context.Context, id string) (string, error) {
	b, err := s.kv.Get(ctx, passwordPrefix+id)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return stampOf(b), nil
}

// PasswordStamp is Store.PasswordStamp as it was when l was decided, so that a
// password that is being changed opens nothing that outlasts it; empty: l is not by a
// password that is kept here.
func (l *Login) PasswordStamp() string {
	if l.password == nil {
		return ""
	}
	return stampOf(l.password)
}

func stampOf(record []byte) string {
	hash := sha256.Sum256(record) // the verifier has a salt of its own each time
	return base64.RawURLEncoding.EncodeToString(hash[:9])
}
