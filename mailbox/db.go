package mailbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// databaseOptions keep the database small in memory, free of a value log (all
// values are below the threshold), and synced at each commit. There is one
// writer, the committer, so that conflicts need no detection. Without
// compression blocks are read straight from the page cache and need no cache of
// their own.
func databaseOptions(dir string, log zerolog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(databaseLog{log}).
		WithMemTableSize(4 << 20).
		WithNumMemtables(2).
		WithBaseTableSize(1 << 20).
		WithValueLogFileSize(16 << 20).
		WithValueThreshold(512 << 10).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(16 << 20).
		WithNumCompactors(2).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithSyncWrites(true)
}

// databaseLog passes Badger's complaints on, and its chatter as debug lines; of
// each the first line, as values may be dumped on the others.
type databaseLog struct{ log zerolog.Logger }

func (l databaseLog) Errorf(format string, args ...any)   { l.write(l.log.Error(), format, args) }
func (l databaseLog) Warningf(format string, args ...any) { l.write(l.log.Warn(), format, args) }
func (l databaseLog) Infof(format string, args ...any)    { l.write(l.log.Debug(), format, args) }
func (l databaseLog) Debugf(string, ...any)               {}

func (l databaseLog) write(e *zerolog.Event, format string, args []any) {
	line, _, _ := strings.Cut(strings.TrimSpace(fmt.Sprintf(format, args...)), "\n")
	e.Str("note", line).Msg("badger")
}

// reserve is how much of the disk is left free. Badger writes through memory
// maps, where a full disk is a fatal signal rather than an error, so it must
// never get there; its compactions need room too. A small disk keeps an eighth.
const reserve = 96 << 20

// freeSpace returns the octets that may be written to the disk under dir
// before ErrFull.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space: %w", err)
	}
	block := int64(st.Bsize)
	return int64(st.Bavail)*block - min(reserve, int64(st.Blocks)*block/8), nil
}

// getter reads records: a transaction of the database, or a change on top of
// one.
type getter interface {
	// get passes the value to fn, which must not keep it, or returns
	// badger.ErrKeyNotFound.
	get(key []byte, fn func(value []byte) error) error
}

// snapshot is the database at one moment.
type snapshot struct{ txn *badger.Txn }

func (s snapshot) get(key []byte, fn func([]byte) error) error {
	item, err := s.txn.Get(key)
	if err != nil {
		return err
	}
	return item.Value(fn)
}

func notFound(err error) bool { return errors.Is(err, badger.ErrKeyNotFound) }

// getUint reads a number, or def if it is not there.
func getUint(g getter, key []byte, def uint64) (uint64, error) {
	n := def
	err := g.get(key, func(v []byte) error {
		if len(v) != 8 {
			return errCorrupt
		}
		n = binary.BigEndian.Uint64(v)
		return nil
	})
	if notFound(err) {
		err = nil
	}
	return n, err
}

func uintValue(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// view runs fn on a snapshot.
func (s *Store) view(fn func(snapshot) error) error {
	return s.db.View(func(txn *badger.Txn) error { return fn(snapshot{txn}) })
}

// scan calls fn for the keys that begin with prefix, in order, from the one
// after the prefix plus from, until fn returns an error. The item is only
// valid during the call.
func (s snapshot) scan(prefix []byte, fn func(*badger.Item) error) error {
	it := s.txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if err := fn(it.Item()); err != nil {
			return err
		}
	}
	return nil
}

// lastNumber is the highest number among the keys of a kind, or 0.
func (s snapshot) lastNumber(kind byte) uint64 {
	it := s.txn.NewIterator(badger.IteratorOptions{Reverse: true})
	defer it.Close()
	it.Seek([]byte{kind + 1})
	for ; it.Valid(); it.Next() {
		if key := it.Item().Key(); key[0] == kind && len(key) >= 9 {
			return keyNumber(key)
		} else if key[0] < kind {
			break
		}
	}
	return 0
}
