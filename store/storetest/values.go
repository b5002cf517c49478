package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"posthorn/store"
)

func (s *suite) values() {
	s.want(s.kv, "a", "")
	s.delete("a")
	s.put("a", "1", "a/b", "2", "ü", "3")
	s.want(s.kv, "a", "1")
	s.want(s.kv, "a/b", "2")
	s.want(s.kv, "ü", "3")
	s.want(s.kv, "a/", "")
	s.put("a", "4")
	s.want(s.kv, "a", "4")
	s.delete("a")
	s.want(s.kv, "a", "")
	s.want(s.kv, "a/b", "2")
	s.put("a", "5")
	s.want(s.kv, "a", "5")

	s.put("empty", "")
	if v, err := s.kv.Get(s.ctx, "empty"); err != nil || len(v) != 0 {
		s.Errorf("an empty value: %q, %v", v, err)
	}
	s.update(func(tx store.Tx) error { return tx.Put("nil", nil) })
	if v, err := s.kv.Get(s.ctx, "nil"); err != nil || len(v) != 0 {
		s.Errorf("a nil value: %q, %v", v, err)
	}
}

// ownership checks that no caller's slice is the store's.
func (s *suite) ownership() {
	spoil := func(b []byte) { copy(b, "XXXXX") }
	s.update(func(tx store.Tx) error {
		v := []byte("value")
		err := tx.Put("a", v)
		spoil(v)
		got, _ := tx.Get(s.ctx, "a")
		spoil(got)
		for item := range tx.Scan(s.ctx, "a") {
			spoil(item.Value)
		}
		s.want(tx, "a", "value")
		return err
	})
	v, _ := s.kv.Get(s.ctx, "a")
	spoil(v)
	for item := range s.kv.Scan(s.ctx, "") {
		spoil(item.Value)
	}
	s.want(s.kv, "a", "value")

	one, err := s.kv.Watch(s.ctx, "")
	if err != nil {
		s.Fatal(err)
	}
	two, err := s.kv.Watch(s.ctx, "")
	if err != nil {
		s.Fatal(err)
	}
	s.put("a", "other")
	for item := range one {
		spoil(item.Value)
		break
	}
	for item := range two {
		if text(item) != "a=other" {
			s.Errorf("the second watcher got %q", text(item))
		}
		break
	}
	s.want(s.kv, "a", "other")
}

func (s *suite) limits() {
	longKey, longValue := strings.Repeat("k", store.MaxKey), bytes.Repeat([]byte("v"), store.MaxValue)
	s.update(func(tx store.Tx) error { return tx.Put(longKey, longValue) })
	if v, err := s.kv.Get(s.ctx, longKey); err != nil || !bytes.Equal(v, longValue) {
		s.Errorf("the longest: %d bytes, %v", len(v), err)
	}
	for name, item := range map[string]store.Item{
		"empty key":      {Key: ""},
		"long key":       {Key: longKey + "k"},
		"key not UTF-8":  {Key: "a\xff"},
		"key of no text": {Key: "\xffcount"},
		"long value":     {Key: "a", Value: append(longValue, 'v')},
	} {
		err := s.kv.Update(s.ctx, func(tx store.Tx) error { return tx.Put(item.Key, item.Value) })
		if !errors.Is(err, store.ErrInvalid) {
			s.Errorf("Put with %s: %v", name, err)
		}
		if item.Key == "a" {
			continue
		}
		if err := s.kv.Update(s.ctx, func(tx store.Tx) error { return tx.Delete(item.Key) }); !errors.Is(err, store.ErrInvalid) {
			s.Errorf("Delete with %s: %v", name, err)
		}
		s.want(s.kv, item.Key, "")
	}
	s.delete(longKey)

	for name, fill := range map[string]func(store.Tx) error{
		"two large": func(tx store.Tx) error {
			return errors.Join(tx.Put("one", longValue[1<<10:]), tx.Put("two", longValue[1<<10:]))
		},
		"a thousand small": func(tx store.Tx) error { return fillWith(tx, 1000, 200) },
	} {
		if err := s.kv.Update(s.ctx, fill); err != nil {
			s.Errorf("an update of 256 KiB, %s: %v", name, err)
		}
	}
	// A driver takes a larger update as a whole, or not at all.
	s.clear()
	switch err := s.kv.Update(s.ctx, func(tx store.Tx) error { return fillWith(tx, 200, 100<<10) }); {
	case err == nil:
		if n := len(s.items(s.kv, "")); n != 200 {
			s.Errorf("of 200 large values %d are there", n)
		}
	case errors.Is(err, store.ErrTooBig):
		s.wantScan(s.kv, "")
	default:
		s.Errorf("an update of 20 MB: %v", err)
	}
}

func fillWith(tx store.Tx, items, size int) error {
	for i := range items {
		if err := tx.Put(fmt.Sprintf("fill/%06d", i), make([]byte, size)); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) clear() {
	for item := range s.kv.Scan(s.ctx, "") {
		s.delete(item.Key)
	}
}

func (s *suite) failure() {
	s.put("a", "1", "b", "1")
	mine := fmt.Errorf("mine: %w", context.Canceled)
	err := s.kv.Update(s.ctx, func(tx store.Tx) error {
		if err := errors.Join(tx.Put("a", []byte("2")), tx.Put("c", []byte("2")), tx.Delete("b")); err != nil {
			s.Error(err)
		}
		return mine
	})
	if err != mine {
		s.Errorf("Update returned %v, want the function's own error", err)
	}
	s.wantScan(s.kv, "", "a=1", "b=1")
}

func (s *suite) panics() {
	s.put("a", "1")
	func() {
		defer func() {
			if recover() == nil {
				s.Error("the panic was swallowed")
			}
		}()
		_ = s.kv.Update(s.ctx, func(tx store.Tx) error {
			if err := tx.Put("a", []byte("2")); err != nil {
				s.Error(err)
			}
			panic("on purpose")
		})
	}()
	s.want(s.kv, "a", "1")
	s.put("a", "3") // and the store still works
	s.want(s.kv, "a", "3")
}

func (s *suite) ownWrites() {
	s.put("a", "1", "b", "1", "d", "1")
	var kept store.Tx
	s.update(func(tx store.Tx) error {
		kept = tx
		if err := errors.Join(tx.Put("a", []byte("2")), tx.Delete("b"), tx.Put("c", []byte("2"))); err != nil {
			return err
		}
		s.want(tx, "a", "2")
		s.want(tx, "b", "")
		s.want(tx, "c", "2")
		s.want(tx, "d", "1")
		s.want(s.kv, "a", "1") // nobody else sees them
		s.want(s.kv, "c", "")
		s.wantScan(tx, "", "a=2", "c=2", "d=1")
		if err := errors.Join(tx.Put("b", []byte("3")), tx.Delete("c"), tx.Put("c", []byte("3"))); err != nil {
			return err
		}
		s.wantScan(tx, "", "a=2", "b=3", "c=3", "d=1")
		return nil
	})
	s.wantScan(s.kv, "", "a=2", "b=3", "c=3", "d=1")

	if err := kept.Put("a", []byte("late")); err == nil {
		s.Error("a transaction takes writes after its end")
	}
	if _, err := kept.Get(s.ctx, "a"); err == nil {
		s.Error("a transaction reads after its end")
	}
	s.want(s.kv, "a", "2")
}

// scanInUpdate checks that one can write and scan while scanning.
func (s *suite) scanInUpdate() {
	s.put("x/1", "1", "x/2", "2", "x/3", "3", "y/1", "1")
	s.update(func(tx store.Tx) error {
		var seen []string
		for item, err := range tx.Scan(s.ctx, "x/") {
			if err != nil {
				return err
			}
			seen = append(seen, item.Key)
			s.wantScan(tx, "y/", "y/1=1")
			if err := errors.Join(tx.Delete(item.Key), tx.Put("x/9"+item.Key, nil)); err != nil {
				return err
			}
		}
		if got := strings.Join(seen, " "); got != "x/1 x/2 x/3" {
			s.Errorf("the scan saw %s", got)
		}
		return nil
	})
	s.wantScan(s.kv, "", "x/9x/1=", "x/9x/2=", "x/9x/3=", "y/1=1")
}

func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := s.kv.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		s.Errorf("Get: %v", err)
	}
	if err := s.kv.Update(ctx, func(tx store.Tx) error { return tx.Put("a", nil) }); !errors.Is(err, context.Canceled) {
		s.Errorf("Update: %v", err)
	}
	s.want(s.kv, "a", "")
	n := 0
	for _, err := range s.kv.Scan(ctx, "") {
		if n++; !errors.Is(err, context.Canceled) {
			s.Errorf("Scan: %v", err)
		}
	}
	if n != 1 {
		s.Errorf("Scan yielded %d times, want the error alone", n)
	}
	if _, err := s.kv.Lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		s.Errorf("Lock: %v", err)
	}
	s.put("a", "1", "b", "1")
	ctx, cancel = context.WithCancel(s.ctx)
	defer cancel()
	n = 0
	for _, err := range s.kv.Scan(ctx, "") {
		if cancel(); err != nil {
			break
		}
		n++
	}
	if n != 1 {
		s.Errorf("a scan went on for %d items when its context had ended", n)
	}
}
