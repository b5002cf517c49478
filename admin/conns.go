package admin

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"posthorn/mux"
)

// ListConns returns the live connections, oldest first, of an account (ID or
// address); account "" means all.
func (s *Service) ListConns(ctx context.Context, who Actor, account string) ([]mux.Info, error) {
	const action = "conn list"
	id, err := s.connAccount(ctx, who, action, account)
	if err != nil {
		return nil, err
	}
	conns := []mux.Info{}
	for _, c := range s.Mux.Conns() {
		if id == "" || c.Identity.Account == id {
			conns = append(conns, c)
		}
	}
	return conns, nil
}

// connAccount returns the ID that an account reference stands for; for none,
// only operators get the empty ID.
func (s *Service) connAccount(ctx context.Context, who Actor, action, ref string) (string, error) {
	if ref == "" {
		return "", s.operator(who, action)
	}
	a, err := s.find(ctx, who, action, ref)
	if err != nil {
		return "", err
	}
	return a.ID, nil
}

// CloseConn ends a live connection. Its client can connect again.
func (s *Service) CloseConn(ctx context.Context, who Actor, id uint64) error {
	const action = "conn close"
	info, err := s.findConn(who, action, id)
	if err != nil {
		return err
	}
	ev := Event{Action: action, Account: info.Identity.Account, Detail: fmt.Sprintf("connection %d", id)}
	if s.Privacy {
		info.Remote = netip.AddrPort{}
	}
	ev.before(info)
	return s.do(ctx, who, &ev, func() error {
		if s.Mux.Close(func(c mux.Info) bool { return c.ID == id }, mux.ErrEvicted) == 0 {
			return ErrNoConn
		}
		s.settle(ctx, map[uint64]bool{id: true})
		return nil
	})
}

// settle waits a moment for connections that are ending, by their IDs: they say
// goodbye first, and a list that is asked for next should not have them any more.
func (s *Service) settle(ctx context.Context, ending map[uint64]bool) {
	there := func(c mux.Info) bool { return ending[c.ID] }
	for wait := 2 * time.Millisecond; wait < time.Second && slices.ContainsFunc(s.Mux.Conns(), there); wait *= 2 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (s *Service) findConn(who Actor, action string, id uint64) (mux.Info, error) {
	for _, c := range s.Mux.Conns() {
		if c.ID == id && s.self(who, action, c.Identity.Account) == nil {
			return c, nil
		}
	}
	if !who.may(action) && who.Account == "" {
		return mux.Info{}, s.forbid(who, action)
	}
	return mux.Info{}, fmt.Errorf("%s: %w", action, ErrNoConn)
}

// CloseConns ends all live connections of an account and returns how many
// there were.
func (s *Service) CloseConns(ctx context.Context, who Actor, account string) (n int, err error) {
	const action = "conn close"
	a, err := s.find(ctx, who, action, account)
	if err != nil {
		return 0, err
	}
	ev := Event{Action: action, Account: a.ID, Address: a.Primary()}
	err = s.do(ctx, who, &ev, func() error {
		ending := make(map[uint64]bool)
		n = s.Mux.CloseAccount(a.ID, func(c mux.Info) bool { ending[c.ID] = true; return true }, mux.ErrEvicted)
		ev.Detail = fmt.Sprintf("connections: %d", n)
		s.settle(ctx, ending)
		return nil
	})
	return n, err
}
