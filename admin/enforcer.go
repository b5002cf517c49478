package admin

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/mux"
	"posthorn/store"
)

// Enforcer ends live sessions whose right has ended: the key that opened them
// was removed, moved, descoped or has expired, or their account was disabled,
// removed or moved to another backend. It follows the store, so it does not matter which operation,
// process or node made the change.
type Enforcer struct {
	Store    store.KV
	Accounts *accounts.Store
	Keys     *authkeys.Store
	Mux      *mux.Server
	Log      zerolog.Logger
}

const (
	// gather is how long changes are collected before the connections are
	// looked through, so that a thousand changes are not a thousand walks.
	gather = 50 * time.Millisecond
	// rewatch is how long to wait before following the store anew.
	rewatch = time.Second
)

// Run enforces until ctx ends.
func (e *Enforcer) Run(ctx context.Context) error {
	w := &watch{
		Enforcer: e,
		wake:     make(chan struct{}, 1),
		dirty:    make(map[string]bool),
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	for _, prefix := range []string{authkeys.Prefix, accounts.Prefix} {
		loops.Go(func() { w.follow(ctx, prefix) })
	}
	w.enforce(ctx)
	return nil
}

// watch is the state of one Run. Names in it are fingerprints and account IDs.
type watch struct {
	*Enforcer
	wake chan struct{} // holds one element when there is something to do

	mu    sync.Mutex      // guards dirty and all
	dirty map[string]bool // what changed
	all   bool            // changes may have been missed: look at everything
}

// follow notes every change under prefix until ctx ends.
func (w *watch) follow(ctx context.Context, prefix string) {
	for ctx.Err() == nil {
		changes, err := w.Store.Watch(ctx, prefix)
		if err == nil {
			w.note("") // what happened before the watch began
			err = w.noteAll(prefix, changes)
		}
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return
		}
		w.Log.Error().Err(err).Str("prefix", prefix).Msg("changes cannot be followed; trying again")
		select {
		case <-ctx.Done():
		case <-time.After(rewatch):
		}
	}
}

func (w *watch) noteAll(prefix string, changes iter.Seq2[store.Item, error]) error {
	for item, err := range changes {
		if err != nil {
			return err
		}
		w.note(strings.TrimPrefix(item.Key, prefix))
	}
	return nil
}

// note marks a fingerprint or account ID as changed; "" marks everything.
func (w *watch) note(name string) {
	w.mu.Lock()
	if name == "" {
		w.all = true
	} else {
		w.dirty[name] = true
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take returns what note has marked, and forgets it.
func (w *watch) take() (dirty map[string]bool, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	dirty, all = w.dirty, w.all
	w.dirty, w.all = make(map[string]bool), false
	return dirty, all
}

// enforce looks through the connections whenever something has changed. A login
// that is under way meanwhile looks again by itself after mux.Conn.SetIdentity.
func (w *watch) enforce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		select { // let a burst of changes come together
		case <-ctx.Done():
			return
		case <-time.After(gather):
		}
		dirty, all := w.take()
		w.look(ctx, dirty, all)
	}
}

// look checks every session that a change concerns.
func (w *watch) look(ctx context.Context, dirty map[string]bool, all bool) {
	for _, c := range w.Mux.Conns() {
		id := c.Identity
		if id.Account != "" && (all || dirty[id.Account] || dirty[id.Key.String()]) {
			w.check(ctx, c)
		}
	}
}

// check ends a session that is no longer allowed, and has one that is end when
// its key expires.
func (w *watch) check(ctx context.Context, c mux.Info) {
	expires, err := w.right(ctx, c)
	var ended *endedError
	switch {
	case err == nil:
		if !expires.Equal(c.Identity.Expires) {
			w.Mux.SetExpires(c.ID, c.Identity.Key, expires)
		}
	case errors.As(err, &ended):
		w.Log.Info().Uint64("id", c.ID).Str("account", c.Identity.Account).
			Str("key", c.Identity.Key.String()).Str("reason", ended.reason).Msg("access revoked")
		w.Mux.CloseAccount(c.Identity.Account, func(i mux.Info) bool { return i.ID == c.ID }, ended.cause)
	case ctx.Err() == nil:
		w.Log.Error().Err(err).Uint64("id", c.ID).Msg("session cannot be checked")
	}
}

// endedError says why a session's right has ended.
type endedError struct {
	reason string
	cause  error // what the connection ends with
}

func revoked(reason string) error { return &endedError{reason, mux.ErrRevoked} }

func (e *endedError) Error() string { return e.reason }

// right reports until when a session may go on; the zero time means for good.
// Its error is an *endedError, or the store's. Unlike accounts.Store.Check it
// does not count as a use of the key.
func (w *watch) right(ctx context.Context, c mux.Info) (until time.Time, err error) {
	id := c.Identity
	a, err := w.Accounts.Get(ctx, id.Account)
	switch {
	case errors.Is(err, accounts.ErrNoAccount):
		return until, revoked("account removed")
	case err != nil:
		return until, err
	case a.Disabled:
		return until, revoked("account disabled")
	case a.Backend != id.Backend:
		return until, &endedError{"account moved to another backend", mux.ErrEvicted} // its client may come again
	case id.Key.IsZero():
		return until, nil
	}
	k, err := w.Keys.Lookup(ctx, id.Key)
	switch {
	case errors.Is(err, authkeys.ErrUnknown):
		return until, revoked("key removed")
	case err != nil:
		return until, err
	case k.Account != id.Account:
		return until, revoked("key moved to another account")
	}
	if err := k.Usable(scopeOf(c.Protocol), time.Now()); err != nil {
		return until, revoked(err.Error())
	}
	return k.Expires, nil
}

func scopeOf(p alpn.Protocol) authkeys.Scope {
	switch p {
	case alpn.IMAP:
		return authkeys.ScopeIMAP
	case alpn.SMTP:
		return authkeys.ScopeSMTP
	}
	return authkeys.ScopeHTTPS
}
