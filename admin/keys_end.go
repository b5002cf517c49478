package admin

import (
	"context"

	"posthorn/authkeys"
	"posthorn/mux"
)

// EndKey is RemoveKey for somebody who waits for the result: it ends the
// sessions that the key opened before it returns, and says how many there were.
func (s *Service) EndKey(ctx context.Context, who Actor, f authkeys.Fingerprint) (ended int, err error) {
	k, _, err := s.findKey(ctx, who, "key remove", f)
	if err != nil {
		return 0, err
	}
	// The Enforcer ends them too, maybe sooner, so those before count as well.
	ids := make(map[uint64]bool)
	opened := func(c mux.Info) bool {
		if c.Identity.Key == f {
			ids[c.ID] = true
		}
		return c.Identity.Key == f
	}
	for _, c := range s.Mux.Conns() {
		if c.Identity.Account == k.Account {
			opened(c)
		}
	}
	if err := s.RemoveKey(ctx, who, f); err != nil {
		return 0, err
	}
	s.Mux.CloseAccount(k.Account, opened, mux.ErrRevoked)
	return len(ids), nil
}
