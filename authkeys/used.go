package authkeys

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"posthorn/store"
)

// use is a login that a key's record does not show yet.
type use struct {
	at   time.Time
	what string
}

const (
	writeUses  = time.Minute
	usesPerTx  = 500 // records of about 200 bytes, far below what any driver takes at once
	lastChance = 5 * time.Second
)

// Used notes that a key logged in. It is cheap: Run writes the notes to the
// store every minute, and loses at most that on a crash.
func (s *Store) Used(f Fingerprint, at time.Time, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses[f] = use{at, what}
}

// Run writes what Used noted, until ctx ends; then once more. What cannot be
// written (a full disk) is kept for the next time; only the last failure is
// returned.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(writeUses)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = s.writeUses(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastChance)
			defer cancel()
			if err := s.writeUses(last); err != nil {
				return fmt.Errorf("note when keys were used: %w", err)
			}
			return nil
		}
	}
}

// writeUses brings the records up to date, some at a time.
func (s *Store) writeUses(ctx context.Context) error {
	s.mu.Lock()
	uses := s.uses
	s.uses = make(map[Fingerprint]use)
	s.mu.Unlock()
	for some := range slices.Chunk(slices.Collect(maps.Keys(uses)), usesPerTx) {
		err := s.kv.Update(ctx, func(tx store.Tx) error { return putUses(ctx, tx, some, uses) })
		if err != nil {
			s.keepUses(uses)
			return err
		}
		for _, f := range some {
			delete(uses, f)
		}
	}
	return nil
}

// putUses updates the records of some keys. A key that is gone stays gone.
func putUses(ctx context.Context, tx store.Tx, some []Fingerprint, uses map[Fingerprint]use) error {
	for _, f := range some {
		k, err := lookup(ctx, tx, f)
		if errors.Is(err, ErrUnknown) {
			continue
		}
		if err != nil {
			return err
		}
		k.LastUsed, k.LastUse = uses[f].at, uses[f].what
		if err := tx.Put(recordName(f), k.record()); err != nil {
			return err
		}
	}
	return nil
}

// keepUses puts back what could not be written, under what was noted since.
func (s *Store) keepUses(uses map[Fingerprint]use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(uses, s.uses)
	s.uses = uses
}
