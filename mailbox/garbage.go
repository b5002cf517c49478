package mailbox

import (
	"context"
	"errors"

	"github.com/dgraph-io/badger/v4"
)

// Run does the store's background work until ctx ends: it gives back the room
// of deleted messages.
func (s *Store) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.garbage:
		}
		if !s.begin() {
			return nil
		}
		if err := s.removeGarbage(); err != nil {
			s.options.Log.Warn().Err(err).Msg("deleting messages")
		}
		s.working.Done()
	}
}

// noteGarbage tells Run that there is work.
func (s *Store) noteGarbage() {
	select {
	case s.garbage <- struct{}{}:
	default: // it knows
	}
}

// removeGarbage deletes the octets of deleted messages. It waits for backups,
// which may still want them.
func (s *Store) removeGarbage() error {
	s.keeping.Lock()
	defer s.keeping.Unlock()
	s.packs.punch()
	return errors.Join(s.removeFiles(), s.removeEmptyPacks())
}

func (s *Store) removeFiles() error {
	for {
		ids, err := s.numbers(kindGarbage, func(*badger.Item) bool { return true })
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if err := s.files.remove(id); err != nil {
				return err
			}
		}
		err = s.committer.do(func(t *tx) error {
			for _, id := range ids {
				t.delete(numberKey(kindGarbage, id))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// removeEmptyPacks deletes the packs that have no messages, but for the last.
func (s *Store) removeEmptyPacks() error {
	empty, err := s.numbers(kindPack, isZero)
	if err != nil || len(empty) == 0 {
		return err
	}
	var done []uint64
	err = s.committer.do(func(t *tx) error {
		done = done[:0]
		for _, n := range empty {
			if n != t.packs.number { // nothing is ever added to it again
				t.delete(numberKey(kindPack, n))
				done = append(done, n)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, n := range done {
		if err := s.packs.remove(n); err != nil {
			return err
		}
	}
	return nil
}

func isZero(item *badger.Item) bool {
	zero := false
	_ = item.Value(func(v []byte) error {
		zero = string(v) == string(uintValue(0))
		return nil
	})
	return zero
}

// removeStrayPacks deletes packs that the database does not know, as a crash
// can leave them.
func (s *Store) removeStrayPacks() error {
	known, err := s.numbers(kindPack, func(*badger.Item) bool { return true })
	if err != nil || len(known) == batchMessages {
		return err // there are too many packs for a few strays to matter
	}
	return s.packs.keepOnly(known)
}

// numbers returns the numbers of the keys of a kind that are wanted, a batch of
// them at most.
func (s *Store) numbers(kind byte, wanted func(*badger.Item) bool) ([]uint64, error) {
	var list []uint64
	err := s.view(func(v snapshot) error {
		return v.scan([]byte{kind}, func(item *badger.Item) error {
			if wanted(item) {
				list = append(list, keyNumber(item.Key()))
			}
			if len(list) == batchMessages {
				return errEnough
			}
			return nil
		})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, err
}
