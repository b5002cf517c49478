package passkeys

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"posthorn/accounts"
	"posthorn/store"
)

// Visit is where a ceremony takes place.
type Visit struct {
	Host   string // name, without port
	Origin string // such as "https://mail.example.org"
	Source netip.Addr
}

// party returns the relying party that a visit is to.
func (s *Store) party(v Visit) (*webauthn.WebAuthn, error) {
	if _, err := netip.ParseAddr(v.Host); err == nil || v.Host == "" {
		return nil, ErrHost
	}
	limit := webauthn.TimeoutConfig{Enforce: true, Timeout: patience, TimeoutUVD: patience}
	return webauthn.New(&webauthn.Config{
		RPID: v.Host, RPDisplayName: s.Name, RPOrigins: []string{v.Origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: protocol.ResidentKeyRequired(), ResidentKey: protocol.ResidentKeyRequirementRequired,
			UserVerification: protocol.VerificationPreferred,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: limit, Registration: limit},
	})
}

// user is an account as the library wants to see it. Its handle, which passkeys
// store, is the account's ID: random, and nobody's name.
type user struct {
	id, name string
	records  []*record // of one host
}

// WebAuthnID implements webauthn.User.
func (u *user) WebAuthnID() []byte { return []byte(u.id) }

// WebAuthnName implements webauthn.User.
func (u *user) WebAuthnName() string { return u.name }

// WebAuthnDisplayName implements webauthn.User.
func (u *user) WebAuthnDisplayName() string { return u.name }

// WebAuthnCredentials implements webauthn.User.
func (u *user) WebAuthnCredentials() (all []webauthn.Credential) {
	for _, rec := range u.records {
		all = append(all, rec.Credential)
	}
	return all
}

// user returns an account with those of its passkeys that are for a host.
func (s *Store) user(ctx context.Context, id, name, host string) (*user, error) {
	all, err := records(ctx, s.Store, id)
	if err != nil {
		return nil, err
	}
	u := &user{id: id, name: name}
	for _, rec := range all {
		if rec.Host == host {
			u.records = append(u.records, rec)
		}
	}
	return u, nil
}

// BeginRegistration begins to register a passkey for an account, which signed in as
// address. It returns what navigator.credentials.create takes, to be shown as JSON,
// and the ceremony's ID, which is for this browser alone.
func (s *Store) BeginRegistration(ctx context.Context, v Visit, account, address string) (options *protocol.CredentialCreation, id string, err error) {
	party, err := s.party(v)
	if err != nil {
		return nil, "", err
	}
	u, err := s.user(ctx, account, address, v.Host)
	if err != nil {
		return nil, "", err
	}
	exclude := webauthn.WithExclusions(webauthn.Credentials(u.WebAuthnCredentials()).CredentialDescriptors())
	options, data, err := party.BeginRegistration(u, exclude)
	if err != nil {
		return nil, "", fmt.Errorf("begin to register a passkey: %w", err)
	}
	id, err = s.ceremonies.begin(&ceremony{data: *data, account: account}, v.Source)
	return options, id, err
}

// FinishRegistration registers the passkey that a browser has made: response is the
// JSON of its PublicKeyCredential. Whatever comes of it, the ceremony is over.
// Errors: ErrRefused, ErrTooMany, ErrName.
func (s *Store) FinishRegistration(ctx context.Context, v Visit, account, id, name string, response []byte) (*Passkey, error) {
	c := s.ceremonies.take(id)
	if c == nil || c.account != account || account == "" {
		return nil, refused("no such ceremony")
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	party, err := s.party(v)
	if err != nil {
		return nil, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return nil, refusedBy(err)
	}
	credential, err := party.CreateCredential(&user{id: account}, c.data, parsed)
	if err != nil {
		return nil, refusedBy(err)
	}
	credential.Attestation = webauthn.CredentialAttestation{} // asked for none, and nothing is made of it
	rec := &record{Credential: *credential, Passkey: Passkey{
		ID: store.NameOf(credential.ID), Account: account, Name: name, Host: v.Host,
		Created: time.Now().UTC().Truncate(time.Second), Synced: credential.Flags.BackupEligible,
	}}
	if err := s.add(ctx, rec); err != nil {
		return nil, err
	}
	return &rec.Passkey, nil
}

// add stores a new passkey, if there is room for it and nobody has it.
func (s *Store) add(ctx context.Context, rec *record) error {
	return s.Store.Update(ctx, func(tx store.Tx) error {
		switch _, err := tx.Get(ctx, accounts.Prefix+rec.Account); {
		case errors.Is(err, store.ErrNotFound): // removed meanwhile
			return accounts.ErrNoAccount
		case err != nil:
			return err
		}
		switch _, err := tx.Get(ctx, idPrefix+rec.ID); {
		case err == nil: // WebAuthn section 7.1 step 27
			return refused("registered already")
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		all, err := records(ctx, tx, rec.Account)
		if err != nil {
			return err
		}
		if len(all) >= maxPerAccount {
			return ErrTooMany
		}
		if err := tx.Put(idPrefix+rec.ID, []byte(rec.Account)); err != nil {
			return err
		}
		return put(tx, rec)
	})
}

func refused(why string) error { return fmt.Errorf("%w: %s", ErrRefused, why) }

// refusedBy says why the library refuses. Its details may hold what the browser
// sent, which nobody wants to see.
func refusedBy(err error) error {
	var told *protocol.Error
	if errors.As(err, &told) {
		return refused(told.Type)
	}
	return refused("unknown credential")
}
