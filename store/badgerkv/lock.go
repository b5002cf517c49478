package badgerkv

import (
	"context"
	"sync"

	"posthorn/store"
)

// locks are the named locks of one process, which is all that shares a Badger
// directory.
type locks struct {
	mu   sync.Mutex
	held map[string]*namedLock // guarded by mu
}

// namedLock is there as long as somebody holds it or waits for it.
type namedLock struct {
	users int           // guarded by locks.mu
	token chan struct{} // holds one element while it is taken
}

// Lock implements store.KV.
func (db *DB) Lock(ctx context.Context, name string) (func(), error) {
	if err := db.alive(ctx); err != nil {
		return nil, err
	}
	l := db.locks.use(name)
	select {
	case l.token <- struct{}{}:
		return sync.OnceFunc(func() {
			<-l.token
			db.locks.drop(name)
		}), nil
	case <-ctx.Done():
		db.locks.drop(name)
		return nil, ctx.Err()
	case <-db.closing:
		db.locks.drop(name)
		return nil, store.ErrClosed
	}
}

// alive returns why a new operation must not begin.
func (db *DB) alive(ctx context.Context) error {
	select {
	case <-db.closing:
		return store.ErrClosed
	default:
		return ctx.Err()
	}
}

func (ls *locks) use(name string) *namedLock {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.held[name]
	if l == nil {
		if ls.held == nil {
			ls.held = make(map[string]*namedLock)
		}
		l = &namedLock{token: make(chan struct{}, 1)}
		ls.held[name] = l
	}
	l.users++
	return l
}

func (ls *locks) drop(name string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.held[name]
	if l.users--; l.users == 0 {
		delete(ls.held, name)
	}
}
