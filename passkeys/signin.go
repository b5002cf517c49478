package passkeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"posthorn/accounts"
	"posthorn/store"
)

// BeginSignIn begins to sign somebody in, whoever that will be. It returns what
// navigator.credentials.get takes, to be shown as JSON, and the ceremony's ID, which
// is for this browser alone.
func (s *Store) BeginSignIn(v Visit) (options *protocol.CredentialAssertion, id string, err error) {
	party, err := s.party(v)
	if err != nil {
		return nil, "", err
	}
	options, data, err := party.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationPreferred))
	if err != nil {
		return nil, "", fmt.Errorf("begin to sign in with a passkey: %w", err)
	}
	id, err = s.ceremonies.begin(&ceremony{data: *data}, v.Source)
	return options, id, err
}

// FinishSignIn returns who a browser has proved to be: response is the JSON of its
// PublicKeyCredential. Whatever comes of it, the ceremony is over. The account is
// there and enabled. Refusals are ErrRefused; with that of a disabled account its
// record comes along, as the passkey was right.
func (s *Store) FinishSignIn(ctx context.Context, v Visit, id string, response []byte) (*Passkey, *accounts.Account, error) {
	c := s.ceremonies.take(id)
	if c == nil || c.account != "" {
		return nil, nil, refused("no such ceremony")
	}
	party, err := s.party(v)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return nil, nil, refusedBy(err)
	}
	var failed error // of the store
	found, credential, err := party.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		u, err := s.user(ctx, string(handle), "", v.Host)
		failed = err
		return u, err
	}, c.data, parsed)
	switch {
	case failed != nil:
		return nil, nil, failed
	case err != nil:
		return nil, nil, refusedBy(err)
	case credential.Authenticator.CloneWarning:
		return nil, nil, refused("its counter went back: there may be a copy")
	}
	return s.admit(ctx, string(found.WebAuthnID()), credential)
}

// admit looks the account up whose passkey has proved itself, and notes the use.
func (s *Store) admit(ctx context.Context, account string, credential *webauthn.Credential) (*Passkey, *accounts.Account, error) {
	a, err := s.Accounts.Get(ctx, account)
	switch {
	case errors.Is(err, accounts.ErrNoAccount):
		return nil, nil, refused("account is gone")
	case err != nil:
		return nil, nil, err
	case a.Disabled:
		return nil, a, refused("account is disabled")
	}
	p, err := s.used(ctx, account, credential)
	if err != nil {
		return nil, nil, err
	}
	return p, a, nil
}

// used writes down what a use has changed. A counter that another use has brought
// as far meanwhile refuses this one.
func (s *Store) used(ctx context.Context, account string, credential *webauthn.Credential) (*Passkey, error) {
	var rec *record
	err := s.Store.Update(ctx, func(tx store.Tx) (err error) {
		rec, err = get(ctx, tx, account, store.NameOf(credential.ID))
		if errors.Is(err, ErrNoPasskey) {
			return refused("removed meanwhile")
		}
		if err != nil {
			return err
		}
		before, now := rec.Credential.Authenticator.SignCount, credential.Authenticator.SignCount
		if (before != 0 || now != 0) && now <= before {
			return refused("its counter did not advance")
		}
		rec.Credential = *credential
		rec.LastUsed = time.Now().UTC().Truncate(time.Second)
		return put(tx, rec)
	})
	if err != nil {
		return nil, err
	}
	return &rec.Passkey, nil
}
