package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"posthorn/accounts"
	"posthorn/mux"
	"posthorn/store"
)

// removalPrefix is where the IDs of accounts stand whose mail is still to be
// removed.
const removalPrefix = "removal/"

// RemoveAccount deletes an account with its addresses, password, keys and
// mail. The records go first, at once, and with them every way in; the mail
// follows, and Sweep finishes what a crash interrupts. IDs are never used
// again, so nobody can reach mail that is left over.
func (s *Service) RemoveAccount(ctx context.Context, who Actor, ref string, only ...Condition) error {
	const action = "account remove"
	if err := s.operator(who, action); err != nil {
		return err
	}
	a, err := s.find(ctx, who, action, ref)
	if err != nil {
		return err
	}
	ev := Event{Action: action, Account: a.ID, Address: strings.Join(a.Addresses, " ")}
	return s.exclusively(ctx, a.ID, func() error {
		if err := s.checkAccount(ctx, a.ID, only); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		return s.do(ctx, who, &ev, func() error { return s.removeAccount(ctx, a.ID, &ev) })
	})
}

// removeAccount removes an account, and tells ev what it was.
func (s *Service) removeAccount(ctx context.Context, id string, ev *Event) error {
	if err := s.putRemoval(ctx, id); err != nil {
		return err
	}
	was, err := s.Accounts.Remove(ctx, id)
	if err != nil {
		return err
	}
	ev.before(was)
	s.Mux.CloseAccount(id, everyConn, mux.ErrRevoked)
	return s.removeMail(ctx, id)
}

// Sweep finishes removals that a crash interrupted. It runs before the gateway
// serves.
func (s *Service) Sweep(ctx context.Context) error {
	var ids []string
	for item, err := range s.Store.Scan(ctx, removalPrefix) {
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		ids = append(ids, strings.TrimPrefix(item.Key, removalPrefix))
	}
	for _, id := range ids {
		if err := s.sweepOne(ctx, id); err != nil {
			return fmt.Errorf("sweep: account %s: %w", id, err)
		}
	}
	return nil
}

func (s *Service) sweepOne(ctx context.Context, id string) error {
	_, err := s.Accounts.Get(ctx, id)
	if err == nil {
		// The crash came before the records went: nothing was removed, and
		// nobody was told otherwise.
		return s.deleteAll(ctx, []string{removalPrefix + id})
	}
	if !errors.Is(err, accounts.ErrNoAccount) {
		return err
	}
	s.Log.Info().Str("account", id).Msg("removing the mail of an account that is gone")
	return s.removeMail(ctx, id)
}

func (s *Service) putRemoval(ctx context.Context, id string) error {
	return s.Store.Update(ctx, func(tx store.Tx) error { return tx.Put(removalPrefix+id, []byte{}) })
}

func (s *Service) removeMail(ctx context.Context, id string) error {
	if s.Mail != nil {
		if err := s.Mail.RemoveUser(ctx, id); err != nil {
			return fmt.Errorf("remove mail: %w", err)
		}
	}
	return s.deleteAll(ctx, []string{removalPrefix + id})
}
