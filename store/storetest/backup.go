package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"posthorn/store"
)

// backuper returns kv's, or nil: not every driver has one.
func (s *suite) backuper(kv store.KV) store.Backuper {
	b, ok := kv.(store.Backuper)
	if !ok {
		s.Log("the driver is no store.Backuper")
		return nil
	}
	return b
}

func (s *suite) fill() {
	s.put("a", "1", "b/é", "", "c", strings.Repeat("x", store.MaxValue))
	s.update(func(tx store.Tx) error { return fillWith(tx, 1000, 10) })
	s.delete("fill/000500")
}

func (s *suite) backup() {
	from := s.backuper(s.kv)
	if from == nil {
		return
	}
	for _, fill := range []func(){func() {}, s.fill} { // empty, and not
		fill()
		var stream bytes.Buffer
		if err := from.Backup(s.ctx, &stream); err != nil {
			s.Fatalf("Backup: %v", err)
		}
		other := s.another()
		seq, err := other.Watch(s.ctx, "")
		if err != nil {
			s.Fatal(err)
		}
		if err := s.backuper(other).Restore(s.ctx, &stream); err != nil {
			s.Fatalf("Restore: %v", err)
		}
		want := s.items(s.kv, "")
		s.wantScan(other, "", want...)
		if len(want) > 0 {
			s.wantWatched(seq, want...)
		}
		err = other.Update(s.ctx, func(tx store.Tx) error { return tx.Put("z", nil) })
		if err != nil {
			s.Errorf("an update after Restore: %v", err)
		}
		s.wantScan(other, "", append(want, "z=")...)
		s.wantScan(s.kv, "", want...)
	}
}

// backupDuringUpdates checks that a backup is of one moment: updates keep two
// values equal.
func (s *suite) backupDuringUpdates() {
	from := s.backuper(s.kv)
	if from == nil {
		return
	}
	s.fill()
	ctx, cancel := context.WithCancel(s.ctx)
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			v := []byte(fmt.Sprint(i))
			err := s.kv.Update(ctx, func(tx store.Tx) error { return errors.Join(tx.Put("A", v), tx.Put("z", v)) })
			if err != nil && !errors.Is(err, context.Canceled) {
				s.Error(err)
			}
		}
	})
	for range 5 {
		var stream bytes.Buffer
		if err := from.Backup(s.ctx, &stream); err != nil {
			s.Errorf("Backup: %v", err)
		}
		other := s.another()
		if err := s.backuper(other).Restore(s.ctx, &stream); err != nil {
			s.Errorf("Restore: %v", err)
		}
		a, _ := other.Get(s.ctx, "A")
		z, _ := other.Get(s.ctx, "z")
		if !bytes.Equal(a, z) {
			s.Errorf("the backup has %s and %s", a, z)
		}
	}
	cancel()
	writer.Wait()
}

func (s *suite) restoreRefuses() {
	from := s.backuper(s.kv)
	if from == nil {
		return
	}
	s.fill()
	var stream bytes.Buffer
	if err := from.Backup(s.ctx, &stream); err != nil {
		s.Fatal(err)
	}
	if err := from.Restore(s.ctx, bytes.NewReader(stream.Bytes())); !errors.Is(err, store.ErrNotEmpty) {
		s.Errorf("Restore over something: %v", err)
	}

	whole := stream.Bytes()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	bad := map[string][]byte{
		"nothing": nil, "words": []byte("hello"), "flipped": flipped,
		"no end": whole[:len(whole)-1], "half": whole[:len(whole)/2], "more behind": append(bytes.Clone(whole), 0),
	}
	other := s.another()
	to := s.backuper(other)
	for name, b := range bad {
		if err := to.Restore(s.ctx, bytes.NewReader(b)); err == nil {
			s.Errorf("%s: no error", name)
		}
		s.wantScan(other, "")
	}
	// What failed is no obstacle.
	if err := to.Restore(s.ctx, bytes.NewReader(whole)); err != nil {
		s.Errorf("Restore after failures: %v", err)
	}
	s.wantScan(other, "", s.items(s.kv, "")...)
}
