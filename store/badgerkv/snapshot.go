package badgerkv

import (
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"posthorn/store"
)

// snapshot is the state after a commit. All reads up to the next commit share
// it: beginning and ending one of Badger's transactions wakes a goroutine that
// counts them, which takes longer than looking up a key.
type snapshot struct {
	txn  *badger.Txn
	refs atomic.Int64 // of its users, and one as long as it is the latest
}

func newSnapshot(b *badger.DB) *snapshot {
	s := &snapshot{txn: b.NewTransaction(false)}
	s.refs.Store(1)
	return s
}

func (s *snapshot) drop() {
	if s.refs.Add(-1) == 0 {
		s.txn.Discard()
	}
}

// acquire returns the latest snapshot. The database stays open until release.
func (db *DB) acquire() (*snapshot, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.closed {
		return nil, store.ErrClosed
	}
	db.users.Add(1)
	db.latest.refs.Add(1)
	return db.latest, nil
}

func (db *DB) release(s *snapshot) {
	s.drop()
	db.users.Done()
}

// Version implements store.Versioned. One number is left out, that of a closed
// store.
func (db *DB) Version() uint64 { return db.version.Load() + 1 }

// advance makes what was committed visible to those who acquire from now on.
func (db *DB) advance() {
	s := newSnapshot(db.badger)
	db.mu.Lock()
	s, db.latest = db.latest, s
	if !db.closed {
		db.version.Add(1) // before anybody hears of the change
	}
	db.mu.Unlock()
	s.drop()
}
