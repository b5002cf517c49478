package admin

import (
	"context"
	"fmt"

	"posthorn/sessions"
)

// ListSessions returns the web sessions of an account (ID or address), the one that
// was used last first; account "" means all.
func (s *Service) ListSessions(ctx context.Context, who Actor, account string) ([]sessions.Session, error) {
	const action = "session list"
	id, err := s.connAccount(ctx, who, action, account)
	if err != nil {
		return nil, err
	}
	all, err := s.Sessions.List(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return all, nil
}

// EndSession signs one web session out. Others' are sessions.ErrNoSession to an
// actor who is no operator.
func (s *Service) EndSession(ctx context.Context, who Actor, id string) error {
	const action = "session end"
	if !who.may(action) && who.Account == "" {
		return s.forbid(who, action)
	}
	found, err := s.Sessions.Get(ctx, id)
	if err == nil && s.self(who, action, found.Account) != nil {
		err = sessions.ErrNoSession
	}
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	ev := Event{Action: action, Account: found.Account, Address: found.Address, Detail: "web session"}
	ev.before(found)
	return s.do(ctx, who, &ev, func() error { return s.Sessions.Revoke(ctx, found.Account, id) })
}

// EndSessions signs all web sessions of an account (ID or address) out, but for the
// one with the ID except, and returns how many there were.
func (s *Service) EndSessions(ctx context.Context, who Actor, account, except string) (n int, err error) {
	const action = "session end"
	a, err := s.find(ctx, who, action, account)
	if err != nil {
		return 0, err
	}
	ev := Event{Action: action, Account: a.ID, Address: a.Primary()}
	err = s.do(ctx, who, &ev, func() error {
		n, err = s.Sessions.RevokeAll(ctx, a.ID, except)
		ev.Detail = fmt.Sprintf("web sessions: %d", n)
		return err
	})
	return n, err
}
