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
	hash := sha256.Sum256(b) // the verifier has a salt of its own each time
	return base64.RawURLEncoding.EncodeToString(hash[:9]), nil
}
