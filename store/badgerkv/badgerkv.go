// Package badgerkv keeps a store.KV in a Badger database, on disk or in memory.
//
// Updates run one after the other, which makes them serializable without
// retries and lets Watch see them in commit order. Reads run beside them, on
// snapshots. Each update is synced before it is acknowledged.
package badgerkv

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"

	"posthorn/store"
)

// DB is an open store. It implements store.KV, store.Backuper and store.Versioned.
type DB struct {
	badger  *badger.DB
	home    *home // nil in memory
	log     zerolog.Logger
	metrics *metrics
	locks   locks
	hub     hub

	writer  chan struct{} // holds one element while an update runs
	closing chan struct{} // closed when Close begins

	mu      sync.RWMutex   // guards latest and closed, and users against growing once closed
	latest  *snapshot      // of the last commit
	version atomic.Uint64  // how often latest has changed
	closed  bool           // Close has begun
	users   sync.WaitGroup // operations that are using badger
}

// Open opens or creates the store in dir, which is made private to the user and
// locked against other processes (ErrInUse). It reads the whole store once: a
// store that lost or changed records is refused with ErrCorrupt, never opened
// as an empty one.
func Open(dir string, log zerolog.Logger) (*DB, error) {
	h, err := openHome(dir)
	if err != nil {
		return nil, err
	}
	db, err := openIn(h, log)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return db, nil
}

// OpenMemory opens an empty store that is gone when it is closed.
func OpenMemory() (*DB, error) {
	db, err := open(tune(badger.DefaultOptions("").WithInMemory(true)), zerolog.Nop())
	if err != nil {
		return nil, fmt.Errorf("open a store in memory: %w", err)
	}
	return db, db.begin()
}

// openIn opens the store that lives in h.
func openIn(h *home, log zerolog.Logger) (*DB, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	db, err := open(tune(badger.DefaultOptions(h.dir)), log)
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", h.dir, err)
	}
	db.home = h
	if h.sealed {
		err = db.check()
	} else if err = db.begin(); err == nil {
		err = h.seal()
	}
	if err != nil {
		db.latest.drop()
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", h.dir, err), db.badger.Close())
	}
	h.loadBallast()
	return db, nil
}

func open(o badger.Options, log zerolog.Logger) (*DB, error) {
	b, err := badger.Open(o.WithLogger(logger{log}))
	if err != nil {
		return nil, firstLine(err)
	}
	return &DB{
		badger:  b,
		log:     log,
		metrics: newMetrics(),
		writer:  make(chan struct{}, 1),
		closing: make(chan struct{}),
		latest:  newSnapshot(b),
	}, nil
}

// tune makes Badger small, synced and plain. Values all stay in the LSM tree:
// none is as large as the value threshold. Without compression and encryption
// blocks and indexes are read in the mapped files, where a cache in front would
// only add locks and memory. Conflicts cannot happen: there is one writer.
func tune(o badger.Options) badger.Options {
	o = o.WithSyncWrites(true).
		WithMemTableSize(memTable).
		WithNumMemtables(2).
		WithBaseTableSize(2 << 20).
		WithValueLogFileSize(64 << 20).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithNumCompactors(2).
		WithCompression(options.None).
		WithMetricsEnabled(false).
		WithDetectConflicts(false)
	return o
}

const memTable = 8 << 20

// firstLine cuts an error of Badger's down to its first line: what follows can
// be a dump of the value that it is about.
func firstLine(err error) error {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(line)
}

// Run compacts what Badger does not compact by itself, until ctx ends.
func (db *DB) Run(ctx context.Context) error {
	tick := time.NewTicker(gcEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-db.closing:
			return nil
		case <-tick.C:
			db.collect()
		}
	}
}

const gcEvery = 10 * time.Minute

// collect rewrites one value log file if half of it is garbage.
func (db *DB) collect() {
	if db.home == nil {
		return
	}
	s, err := db.acquire() // keeps the database open
	if err != nil {
		return
	}
	defer db.release(s)
	err = db.badger.RunValueLogGC(0.5)
	if err != nil && !errors.Is(err, badger.ErrNoRewrite) && !errors.Is(err, badger.ErrRejected) {
		db.log.Warn().Err(firstLine(err)).Msg("value log collection failed")
	}
}

// Close implements store.KV.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	db.version.Store(math.MaxUint64)
	db.mu.Unlock()
	close(db.closing)
	db.users.Wait()
	db.latest.drop()
	if db.home != nil {
		db.home.dropBallast()
	}
	var err error
	if e := db.badger.Close(); e != nil {
		err = fmt.Errorf("close the store: %w", firstLine(e))
	}
	if db.home != nil {
		err = errors.Join(err, db.home.close())
	}
	return err
}

var _ interface {
	store.KV
	store.Backuper
} = (*DB)(nil)
