// Package storetest is the conformance suite that every driver of store.KV
// passes: each method's contract, alone and with others at the same time. Memory
// is a store for tests of what stands on one.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"posthorn/store"
)

// Run tests a driver. open returns a new, empty store each time; the suite
// closes it.
func Run(t *testing.T, open func(t *testing.T) store.KV) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"Values", (*suite).values},
		{"Ownership", (*suite).ownership},
		{"Limits", (*suite).limits},
		{"Failure", (*suite).failure},
		{"Panic", (*suite).panics},
		{"OwnWrites", (*suite).ownWrites},
		{"ScanInUpdate", (*suite).scanInUpdate},
		{"Scan", (*suite).scan},
		{"ScanAfter", (*suite).scanAfter},
		{"Snapshot", (*suite).snapshot},
		{"WriteSkew", (*suite).writeSkew},
		{"Phantoms", (*suite).phantoms},
		{"Counter", (*suite).counter},
		{"Cancelled", (*suite).cancelled},
		{"Watch", (*suite).watch},
		{"WatchPrefix", (*suite).watchPrefix},
		{"WatchCoalesces", (*suite).watchCoalesces},
		{"WatchMissesNothing", (*suite).watchMissesNothing},
		{"WatchEnds", (*suite).watchEnds},
		{"Lock", (*suite).lock},
		{"Close", (*suite).close},
		{"CloseWaits", (*suite).closeWaits},
		{"Backup", (*suite).backup},
		{"BackupDuringUpdates", (*suite).backupDuringUpdates},
		{"Version", (*suite).version},
		{"RestoreRefuses", (*suite).restoreRefuses},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSuite(t, open)
			test.run(s)
		})
	}
}

// suite is one test with its store.
type suite struct {
	*testing.T
	open func(*testing.T) store.KV
	kv   store.KV
	ctx  context.Context // ends when the test hangs
}

func newSuite(t *testing.T, open func(*testing.T) store.KV) *suite {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	s := &suite{T: t, open: open, ctx: ctx}
	t.Cleanup(cancel)
	s.kv = s.another()
	return s
}

// another opens one more store.
func (s *suite) another() store.KV {
	kv := s.open(s.T)
	s.Cleanup(func() {
		if err := kv.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	})
	return kv
}

// put sets keys to values: key, value, key, value …
func (s *suite) put(pairs ...string) {
	s.Helper()
	s.update(func(tx store.Tx) error {
		for pair := range slices.Chunk(pairs, 2) {
			if err := tx.Put(pair[0], []byte(pair[1])); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *suite) delete(key string) {
	s.Helper()
	s.update(func(tx store.Tx) error { return tx.Delete(key) })
}

func (s *suite) update(fn func(store.Tx) error) {
	s.Helper()
	if err := s.kv.Update(s.ctx, fn); err != nil {
		s.Fatalf("Update: %v", err)
	}
}

// want checks a value; "" means that there is none.
func (s *suite) want(r store.Reader, key, value string) {
	s.Helper()
	switch v, err := r.Get(s.ctx, key); {
	case value == "" && !errors.Is(err, store.ErrNotFound):
		s.Errorf("Get(%q) = %q, %v; want ErrNotFound", key, v, err)
	case value != "" && (err != nil || string(v) != value):
		s.Errorf("Get(%q) = %q, %v; want %q", key, v, err, value)
	}
}

// wantScan checks what is under a prefix, as "key=value".
func (s *suite) wantScan(r store.Reader, prefix string, want ...string) {
	s.Helper()
	if got := s.items(r, prefix); !slices.Equal(got, want) {
		s.Errorf("Scan(%q) = %q; want %q", prefix, got, want)
	}
}

func (s *suite) items(r store.Reader, prefix string) (items []string) {
	s.Helper()
	for item, err := range r.Scan(s.ctx, prefix) {
		if err != nil {
			s.Fatalf("Scan(%q): %v", prefix, err)
		}
		items = append(items, text(item))
	}
	return items
}

func text(i store.Item) string {
	if i.Deleted {
		return i.Key + " deleted"
	}
	return fmt.Sprintf("%s=%s", i.Key, i.Value)
}
