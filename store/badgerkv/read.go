package badgerkv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/dgraph-io/badger/v4"

	"posthorn/store"
)

// Get implements store.Reader.
func (db *DB) Get(ctx context.Context, key string) ([]byte, error) {
	defer since(db.metrics.get, time.Now())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := db.acquire()
	if err != nil {
		return nil, err
	}
	defer db.release(s)
	if store.Validate(key, nil) != nil {
		return nil, store.ErrNotFound
	}
	return get(s.txn, key)
}

// Scan implements store.Reader.
func (db *DB) Scan(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	return db.ScanAfter(ctx, prefix, "")
}

// ScanAfter implements store.KV.
func (db *DB) ScanAfter(ctx context.Context, prefix, key string) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		defer since(db.metrics.scan, time.Now())
		s, err := db.acquire()
		if err == nil {
			defer db.release(s)
			err = ctx.Err()
		}
		if err != nil {
			yield(store.Item{}, err)
			return
		}
		for item, err := range scanAfter(s.txn, prefix, key) {
			if err == nil {
				err = db.alive(ctx)
			}
			if err != nil {
				yield(store.Item{}, err)
				return
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

// Count implements store.KV.
func (db *DB) Count(ctx context.Context, prefix string) (n int, err error) {
	defer since(db.metrics.scan, time.Now())
	s, err := db.acquire()
	if err != nil {
		return 0, err
	}
	defer db.release(s)
	it := s.txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefix)})
	defer it.Close()
	for it.Rewind(); it.Valid() && it.Item().Key()[0] != ownByte; it.Next() {
		if err := db.alive(ctx); err != nil {
			return 0, err
		}
		n++
	}
	return n, ctx.Err()
}

// get returns a copy of the value under key in t's snapshot.
func get(t *badger.Txn, key string) ([]byte, error) {
	item, err := t.Get([]byte(key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, store.ErrNotFound
	}
	if err == nil {
		var v []byte
		if v, err = item.ValueCopy(nil); err == nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("store: get: %w", firstLine(err))
}

// scan yields copies of the records under prefix in t's snapshot.
func scan(t *badger.Txn, prefix string) iter.Seq2[store.Item, error] { return scanAfter(t, prefix, "") }

// scanAfter is scan, but for the records up to a key.
func scanAfter(t *badger.Txn, prefix, key string) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		// Values stand beside their keys; fetching them ahead costs goroutines.
		it := t.NewIterator(badger.IteratorOptions{Prefix: []byte(prefix)})
		defer it.Close()
		for it.Seek([]byte(max(prefix, key))); it.Valid(); it.Next() {
			item := it.Item()
			if item.Key()[0] == ownByte {
				return
			}
			if string(item.Key()) == key {
				continue
			}
			v, err := item.ValueCopy(nil)
			if err != nil {
				yield(store.Item{}, fmt.Errorf("store: scan: %w", firstLine(err)))
				return
			}
			if !yield(store.Item{Key: string(item.Key()), Value: v}, nil) {
				return
			}
		}
	}
}
