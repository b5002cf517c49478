package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// List returns the sessions of an account (ID), the one that was used last first;
// account "" means all.
func (m *Manager) List(ctx context.Context, account string) ([]Session, error) {
	all, err := m.records(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("list web sessions: %w", err)
	}
	sessions := []Session{}
	for _, rec := range all {
		switch _, err := m.check(ctx, rec); {
		case err == nil:
			sessions = append(sessions, rec.Session)
		case !errors.Is(err, errEnded):
			return nil, fmt.Errorf("list web sessions: %w", err)
		}
	}
	slices.SortStableFunc(sessions, func(a, b Session) int { return b.LastSeen.Compare(a.LastSeen) })
	return sessions, nil
}

func (m *Manager) records(ctx context.Context, account string) (all []*record, err error) {
	if account != "" {
		if strings.Contains(account, "/") {
			return nil, nil
		}
		return records(ctx, m.Store, account)
	}
	for item, err := range m.Store.Scan(ctx, idPrefix) {
		if err != nil {
			return nil, err
		}
		rec, err := decode(item.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, rec)
	}
	return all, nil
}

// Get returns a session that has not ended, or ErrNoSession.
func (m *Manager) Get(ctx context.Context, id string) (*Session, error) {
	rec, err := get(ctx, m.Store, id)
	if err != nil {
		return nil, err
	}
	switch _, err := m.check(ctx, rec); {
	case errors.Is(err, errEnded):
		return nil, ErrNoSession
	case err != nil:
		return nil, err
	}
	return &rec.Session, nil
}

// Revoke ends a session of an account; account "" means of any. Others' sessions
// are ErrNoSession.
func (m *Manager) Revoke(ctx context.Context, account, id string) error {
	rec, err := get(ctx, m.Store, id)
	if err == nil && account != "" && rec.Account != account {
		err = ErrNoSession
	}
	if err != nil {
		return err
	}
	n, err := m.delete(ctx, []string{id})
	if err == nil && n == 0 {
		err = ErrNoSession
	}
	return err
}

// RevokeAll ends the sessions of an account, but for the one with the ID except, and
// returns how many there were.
func (m *Manager) RevokeAll(ctx context.Context, account, except string) (n int, err error) {
	return m.RevokeIf(ctx, account, func(s *Session) bool { return s.ID != except })
}

// RevokeIf ends those sessions of an account that match, and returns how many there
// were.
func (m *Manager) RevokeIf(ctx context.Context, account string, match func(*Session) bool) (n int, err error) {
	if account == "" {
		return 0, nil
	}
	all, err := m.records(ctx, account)
	if err != nil {
		return 0, err
	}
	var ids []string
	for _, rec := range all {
		if match(&rec.Session) {
			ids = append(ids, rec.ID)
		}
	}
	return m.delete(ctx, ids)
}
