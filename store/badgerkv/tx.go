package badgerkv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"posthorn/store"
)

// tx is a transaction: a snapshot, and the writes that go on top of it.
type tx struct {
	read   *badger.Txn
	writes map[string]store.Item
	order  []string // keys of writes, in the order of their first write
	ended  bool
}

var errEnded = errors.New("store: transaction used after its end")

// Update implements store.KV.
func (db *DB) Update(ctx context.Context, fn func(store.Tx) error) error {
	defer since(db.metrics.update, time.Now())
	unlock, err := db.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := db.acquire()
	if err != nil {
		return err
	}
	defer db.release(s)
	t := &tx{read: s.txn, writes: make(map[string]store.Item)}
	defer func() { t.ended = true }()
	if err := fn(t); err != nil {
		return err
	}
	return db.commit(t)
}

// write waits for the right to write.
func (db *DB) write(ctx context.Context) (unlock func(), err error) {
	if err := db.alive(ctx); err != nil {
		return nil, err
	}
	select {
	case db.writer <- struct{}{}:
		return func() { <-db.writer }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-db.closing:
		return nil, store.ErrClosed
	}
}

// commit makes t's writes durable and tells the watchers.
func (db *DB) commit(t *tx) error {
	var changes []store.Item
	after, err := readTally(t.read)
	if err != nil {
		return err
	}
	for _, key := range t.order {
		item := t.writes[key]
		_, err := t.read.Get([]byte(key))
		existed := err == nil
		switch {
		case err != nil && !errors.Is(err, badger.ErrKeyNotFound):
			return fmt.Errorf("store: read before commit: %w", firstLine(err))
		case item.Deleted && !existed:
			continue
		case item.Deleted:
			after.records--
		case !existed:
			after.records++
		}
		changes = append(changes, item)
	}
	if len(changes) == 0 {
		return nil
	}
	after.commits++
	err = db.apply(changes, after)
	db.advance()
	// A commit whose sync has failed can be visible all the same.
	if now, _ := readTally(db.latest.txn); now == after {
		db.hub.publish(changes)
	}
	return err
}

// apply writes changes and the tally that holds then.
func (db *DB) apply(changes []store.Item, now tally) error {
	if err := db.home.room(); err != nil {
		return err
	}
	w := db.badger.NewTransaction(true)
	defer w.Discard()
	err := w.Set([]byte(tallyKey), now.encode())
	for _, c := range changes {
		if err != nil {
			break
		}
		if c.Deleted {
			err = w.Delete([]byte(c.Key))
		} else {
			err = w.Set([]byte(c.Key), c.Value)
		}
	}
	if err == nil {
		err = w.Commit()
	}
	switch {
	case err == nil:
		db.home.note(now.commits)
		return nil
	case errors.Is(err, badger.ErrTxnTooBig):
		return store.ErrTooBig
	default:
		return fmt.Errorf("store: commit: %w", firstLine(err))
	}
}

// Get implements store.Reader.
func (t *tx) Get(ctx context.Context, key string) ([]byte, error) {
	if t.ended {
		return nil, errEnded
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if w, ok := t.writes[key]; ok {
		if w.Deleted {
			return nil, store.ErrNotFound
		}
		return bytes.Clone(w.Value), nil
	}
	if store.Validate(key, nil) != nil {
		return nil, store.ErrNotFound
	}
	return get(t.read, key)
}

// Scan implements store.Reader: it merges the writes so far into the snapshot.
func (t *tx) Scan(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		if t.ended {
			yield(store.Item{}, errEnded)
			return
		}
		own := t.written(prefix)
		emit := func(i store.Item) bool {
			i.Value = bytes.Clone(i.Value)
			return i.Deleted || yield(i, nil)
		}
		for item, err := range scan(t.read, prefix) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(store.Item{}, err)
				return
			}
			for len(own) > 0 && own[0].Key < item.Key {
				if !emit(own[0]) {
					return
				}
				own = own[1:]
			}
			if len(own) > 0 && own[0].Key == item.Key {
				continue // the own one replaces it
			}
			if !yield(item, nil) {
				return
			}
		}
		for _, item := range own {
			if !emit(item) {
				return
			}
		}
	}
}

// written returns the writes under prefix, in order of their keys.
func (t *tx) written(prefix string) []store.Item {
	var own []store.Item
	for key, item := range t.writes {
		if strings.HasPrefix(key, prefix) {
			own = append(own, item)
		}
	}
	slices.SortFunc(own, func(a, b store.Item) int { return strings.Compare(a.Key, b.Key) })
	return own
}

// Put implements store.Tx.
func (t *tx) Put(key string, value []byte) error {
	if err := store.Validate(key, value); err != nil {
		return err
	}
	return t.set(store.Item{Key: key, Value: append([]byte{}, value...)})
}

// Delete implements store.Tx.
func (t *tx) Delete(key string) error {
	if err := store.Validate(key, nil); err != nil {
		return err
	}
	return t.set(store.Item{Key: key, Deleted: true})
}

func (t *tx) set(i store.Item) error {
	if t.ended {
		return errEnded
	}
	if _, again := t.writes[i.Key]; !again {
		t.order = append(t.order, i.Key)
	}
	t.writes[i.Key] = i
	return nil
}
