package admin

import (
	"context"
	"fmt"

	"posthorn/accounts"
	"posthorn/passkeys"
	"posthorn/sessions"
)

// ListPasskeys returns the passkeys of an account (ID or address), oldest first.
func (s *Service) ListPasskeys(ctx context.Context, who Actor, account string) ([]passkeys.Passkey, error) {
	const action = "passkey list"
	a, err := s.find(ctx, who, action, account)
	if err != nil {
		return nil, err
	}
	all, err := s.Passkeys.List(ctx, a.ID)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return all, nil
}

// NewPasskey is a passkey that a browser has made in a ceremony.
type NewPasskey struct {
	Visit    passkeys.Visit
	Ceremony string
	Name     string
	Response []byte // JSON
}

// AddPasskey registers a passkey for an account (ID or address).
func (s *Service) AddPasskey(ctx context.Context, who Actor, account string, n NewPasskey) (p *passkeys.Passkey, err error) {
	const action = "passkey add"
	a, err := s.find(ctx, who, action, account)
	if err != nil {
		return nil, err
	}
	ev := Event{Action: action, Account: a.ID, Address: a.Primary()}
	err = s.do(ctx, who, &ev, func() error {
		p, err = s.Passkeys.FinishRegistration(ctx, n.Visit, a.ID, n.Ceremony, n.Name, n.Response)
		if err == nil {
			ev.Detail = p.Name
			ev.after(p)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// RenamePasskey gives a passkey of an account (ID or address) another name.
func (s *Service) RenamePasskey(ctx context.Context, who Actor, account, id, name string) error {
	const action = "passkey set"
	a, p, err := s.findPasskey(ctx, who, action, account, id)
	if err != nil {
		return err
	}
	if err := passkeys.CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	ev := Event{Action: action, Account: a.ID, Address: a.Primary(), Detail: p.Name}
	renamed := *p
	renamed.Name = name
	ev.change(p, renamed)
	return s.do(ctx, who, &ev, func() error { return s.Passkeys.Rename(ctx, a.ID, id, name) })
}

// RemovePasskey deletes a passkey of an account (ID or address), and signs out the
// web sessions that it has opened, but for the one with the ID except. It returns how
// many there were.
func (s *Service) RemovePasskey(ctx context.Context, who Actor, account, id, except string) (ended int, err error) {
	const action = "passkey remove"
	a, p, err := s.findPasskey(ctx, who, action, account, id)
	if err != nil {
		return 0, err
	}
	ev := Event{Action: action, Account: a.ID, Address: a.Primary(), Detail: p.Name}
	ev.before(p)
	err = s.do(ctx, who, &ev, func() error {
		if err := s.Passkeys.Remove(ctx, a.ID, id); err != nil {
			return err
		}
		ended, err = s.Sessions.RevokeIf(ctx, a.ID, func(v *sessions.Session) bool { return v.Passkey == id && v.ID != except })
		return err
	})
	return ended, err
}

func (s *Service) findPasskey(ctx context.Context, who Actor, action, account, id string) (owner *accounts.Account, p *passkeys.Passkey, err error) {
	if owner, err = s.find(ctx, who, action, account); err != nil {
		return nil, nil, err
	}
	if p, err = s.Passkeys.Get(ctx, owner.ID, id); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", action, err)
	}
	return owner, p, nil
}
