package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"posthorn/accounts"
	"posthorn/authkeys"
)

// ErrChanged says that a thing is not any more what a Condition wants.
var ErrChanged = errors.New("it has been changed meanwhile")

// Condition is what must hold for a change to be made, as If-Match says it (RFC
// 9110 section 13.1.1): that the thing is as it was seen, by its tag. The zero
// value always holds.
type Condition struct {
	tags []string // any of them; "*": whatever it is
}

// ParseCondition reads the value of an If-Match field. Weak tags never match.
func ParseCondition(field string) (c Condition) {
	for tag := range strings.SplitSeq(field, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			c.tags = append(c.tags, tag)
		}
	}
	return c
}

func (c Condition) check(tag string) error {
	if len(c.tags) == 0 {
		return nil
	}
	for _, t := range c.tags {
		if t == tag || t == "*" {
			return nil
		}
	}
	return ErrChanged
}

// all checks several.
func all(only []Condition, tag string) error {
	for _, c := range only {
		if err := c.check(tag); err != nil {
			return err
		}
	}
	return nil
}

// AccountTag is the version of an account's own record, as an ETag. What belongs to
// it has its own.
func AccountTag(a *accounts.Account) string { return tagOf(a) }

// KeyTag is the version of a key's settings, as an ETag. Its uses do not change it.
func KeyTag(k Key) string {
	k.LastUsed, k.LastUse, k.Address = time.Time{}, "", ""
	return tagOf(k)
}

func tagOf(v any) string {
	sum := sha256.Sum256(plain(v))
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// exclusively has nobody else change an account, or what belongs to it, while do
// checks and acts. All changes by operations go this way; what changes by itself,
// such as when a key was used, does not matter to tags.
func (s *Service) exclusively(ctx context.Context, account string, do func() error) error {
	unlock, err := s.Store.Lock(ctx, "admin/"+account)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

// checkAccount checks conditions on an account as it is now.
func (s *Service) checkAccount(ctx context.Context, id string, only []Condition) error {
	if len(only) == 0 {
		return nil
	}
	a, err := s.Accounts.Get(ctx, id)
	if err != nil {
		return err
	}
	return all(only, AccountTag(a))
}

// checkKey checks conditions on a key as it is now.
func (s *Service) checkKey(ctx context.Context, f authkeys.Fingerprint, a *accounts.Account, only []Condition) error {
	if len(only) == 0 {
		return nil
	}
	k, err := s.Keys.Lookup(ctx, f)
	if err != nil {
		return err
	}
	return all(only, KeyTag(keyView(k, a)))
}
