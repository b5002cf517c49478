package sessions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/store"
)

// errEnded says that a session has ended; the error that wraps it says why.
var errEnded = errors.New("session has ended")

func ended(why string) error { return fmt.Errorf("%w: %s", errEnded, why) }

// check decides whether a session goes on, and returns its account.
func (m *Manager) check(ctx context.Context, rec *record) (*accounts.Account, error) {
	switch at := now(); {
	case !at.Before(rec.Expires):
		return nil, ended("too old")
	case at.Sub(rec.LastSeen) >= m.Idle:
		return nil, ended("idle")
	}
	a, err := m.Accounts.Get(ctx, rec.Account)
	switch {
	case errors.Is(err, accounts.ErrNoAccount):
		return nil, ended("account removed")
	case err != nil:
		return nil, err
	case a.Disabled:
		return nil, ended("account disabled")
	}
	stamp, err := m.Accounts.PasswordStamp(ctx, rec.Account)
	switch {
	case err != nil:
		return nil, err
	case stamp != rec.Stamp:
		return nil, ended("password changed")
	case rec.How == Key:
		return a, m.checkKey(ctx, rec)
	}
	return a, nil
}

func (m *Manager) checkKey(ctx context.Context, rec *record) error {
	k, err := m.Keys.Lookup(ctx, rec.Key)
	switch {
	case errors.Is(err, authkeys.ErrUnknown):
		return ended("key removed")
	case err != nil:
		return err
	case k.Account != rec.Account:
		return ended("key moved to another account")
	}
	if err := k.Usable(authkeys.ScopeHTTPS, time.Now()); err != nil {
		return ended(err.Error())
	}
	return nil
}

const (
	// sweepEvery is how often sessions that have ended are removed.
	sweepEvery = 10 * time.Minute
	// rewatch is how long to wait before following the accounts anew.
	rewatch = time.Second
)

// Run removes sessions that have ended, until ctx ends: those of an account when the
// account changes, so that they are gone when it is enabled again, and all others
// now and then.
func (m *Manager) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { m.follow(ctx) })
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		m.sweep(ctx, "")
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (m *Manager) follow(ctx context.Context) {
	for ctx.Err() == nil {
		changes, err := m.Store.Watch(ctx, accounts.Prefix)
		if err == nil {
			for item, broken := range changes {
				if err = broken; err != nil {
					break
				}
				m.sweep(ctx, strings.TrimPrefix(item.Key, accounts.Prefix))
			}
		}
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return
		}
		m.Log.Error().Err(err).Msg("accounts cannot be followed for web sessions; trying again")
		select {
		case <-ctx.Done():
		case <-time.After(rewatch):
		}
	}
}

// sweep removes those of an account's sessions that have ended; account "" means
// all.
func (m *Manager) sweep(ctx context.Context, account string) {
	all, err := m.records(ctx, account)
	var ids []string
	for _, rec := range all {
		_, why := m.check(ctx, rec)
		if errors.Is(why, errEnded) {
			ids = append(ids, rec.ID)
		}
	}
	if err == nil && len(ids) > 0 {
		_, err = m.delete(ctx, ids)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
		m.Log.Error().Err(err).Msg("web sessions cannot be swept")
	}
}
