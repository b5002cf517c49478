package badgerkv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"posthorn/store"
)

// tally is how a store notices that it has lost something. Every commit writes
// it, so that at the next start it tells how many records there must be; and
// home notes the number of commits outside of Badger, so that it tells when the
// last ones are gone.
type tally struct {
	records uint64 // that there are
	commits uint64 // so far
}

// Keys of what is no record. They are no UTF-8, which keeps callers away from
// them, and sort after all records.
const (
	ownByte      = 0xff
	tallyKey     = "\xfftally"
	restoringKey = "\xffrestoring" // there while a restore is under way
)

func (t tally) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, t.records), t.commits)
}

func readTally(txn *badger.Txn) (tally, error) {
	v, err := get(txn, tallyKey)
	if errors.Is(err, store.ErrNotFound) || err == nil && len(v) != 16 {
		err = fmt.Errorf("%w: the number of records is missing", ErrCorrupt)
	}
	if err != nil {
		return tally{}, err
	}
	return tally{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])}, nil
}

// begin makes an empty database a store with no records.
func (db *DB) begin() error {
	if _, err := readTally(db.latest.txn); err == nil {
		return db.check() // it was killed before its directory was sealed
	}
	for range scan(db.latest.txn, "") {
		return fmt.Errorf("%w: there are records, but not their number", ErrCorrupt)
	}
	if err := db.apply(nil, tally{}); err != nil {
		return err
	}
	db.advance()
	return nil
}

// check compares what is there with what must be.
func (db *DB) check() error {
	txn := db.latest.txn
	want, err := readTally(txn)
	if err != nil {
		return err
	}
	if noted := db.home.commits; want.commits < noted {
		return fmt.Errorf("%w: the last %d changes are missing", ErrCorrupt, noted-want.commits)
	}
	if _, err := get(txn, restoringKey); !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: a restore was broken off; empty the directory and restore again", ErrCorrupt)
	}
	it := txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	var got uint64
	for it.Rewind(); it.Valid() && it.Item().Key()[0] != ownByte; it.Next() {
		got++
	}
	if got != want.records {
		return fmt.Errorf("%w: %d records where %d should be", ErrCorrupt, got, want.records)
	}
	return nil
}
