package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"posthorn/store"
)

func (s *suite) watching(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	s.Helper()
	seq, err := s.kv.Watch(ctx, prefix)
	if err != nil {
		s.Fatalf("Watch(%q): %v", prefix, err)
	}
	return seq
}

// wantWatched takes as many items as there are in want and compares them.
func (s *suite) wantWatched(seq iter.Seq2[store.Item, error], want ...string) {
	s.Helper()
	var got []string
	for item, err := range seq {
		if err != nil {
			s.Errorf("watching: %v", err)
			break
		}
		if got = append(got, text(item)); len(got) == len(want) {
			break
		}
	}
	if !slices.Equal(got, want) {
		s.Errorf("watched %q, want %q", got, want)
	}
}

func (s *suite) watch() {
	s.put("before", "1", "gone", "1")
	one, two := s.watching(s.ctx, ""), s.watching(s.ctx, "")
	s.put("b", "1")
	s.put("a", "1")
	s.put("c", "1")
	s.delete("gone")
	s.delete("never")
	_ = s.kv.Update(s.ctx, func(tx store.Tx) error {
		return errors.Join(tx.Put("a", []byte("not")), errors.New("rolled back"))
	})
	s.put("d", "1")
	want := []string{"b=1", "a=1", "c=1", "gone deleted", "d=1"}
	s.wantWatched(one, want...)
	s.wantWatched(two, want...)
	s.wantScan(s.kv, "", "a=1", "b=1", "before=1", "c=1", "d=1")
}

func (s *suite) watchPrefix() {
	seq := s.watching(s.ctx, "a/")
	s.put("a", "1", "a/1", "1", "a0", "1", "b/a/1", "1")
	s.put("a/2", "1")
	s.delete("a")
	s.delete("a/1")
	s.put("a/", "1")
	s.wantWatched(seq, "a/2=1", "a/1 deleted", "a/=1")
}

// watchCoalesces lets a reader fall far behind on two keys.
func (s *suite) watchCoalesces() {
	const n = 500
	seq := s.watching(s.ctx, "k/")
	for i := range n {
		s.put("k/often", fmt.Sprint(i))
		if i == n/2 {
			s.put("k/once", "1")
		}
	}
	s.put("k/last", "1")
	var got []string
	for item, err := range seq {
		if err != nil {
			s.Fatal(err)
		}
		if got = append(got, text(item)); item.Key == "k/last" {
			break
		}
	}
	often := slices.Index(got, fmt.Sprintf("k/often=%d", n-1))
	once := slices.Index(got, "k/once=1")
	if often < 0 || once < 0 || often < once {
		s.Errorf("the latest values are missing or out of order: %d items, %d, %d", len(got), often, once)
	}
}

// watchMissesNothing lets watchers and writers run at once: what each watcher
// ends up knowing must be what is in the store.
func (s *suite) watchMissesNothing() {
	const writers, each = 4, 60
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var watchers sync.WaitGroup
	known := make([]map[string]string, 3)
	for i := range known {
		known[i] = make(map[string]string)
		seq := s.watching(ctx, "")
		watchers.Go(func() {
			for item, err := range seq {
				if err != nil {
					s.Errorf("watcher %d: %v", i, err)
					return
				}
				if item.Key == "end" {
					return
				}
				if item.Deleted {
					delete(known[i], item.Key)
				} else {
					known[i][item.Key] = string(item.Value)
				}
			}
		})
	}
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				key := fmt.Sprintf("%d/%d", w, i%7)
				err := s.kv.Update(ctx, func(tx store.Tx) error {
					if i%5 == 4 {
						return tx.Delete(key)
					}
					return errors.Join(tx.Put(key, []byte(fmt.Sprint(i))), tx.Put("shared", []byte(key)))
				})
				if err != nil {
					s.Error(err)
				}
			}
		})
	}
	writing.Wait()
	want := make(map[string]string)
	for item := range s.kv.Scan(ctx, "") {
		want[item.Key] = string(item.Value)
	}
	s.put("end", "")
	watchers.Wait()
	for i, got := range known {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			s.Errorf("watcher %d knows %v, want %v", i, got, want)
		}
	}
}

func (s *suite) watchEnds() {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	seq := s.watching(ctx, "")
	s.put("a", "1")
	var got []string
	for item, err := range seq {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, text(item))
		cancel()
	}
	if want := "a=1 " + context.Canceled.Error(); strings.Join(got, " ") != want {
		s.Errorf("got %q, want %s", got, want)
	}

	if seq, err := s.kv.Watch(ctx, ""); err == nil {
		for _, err := range seq {
			if !errors.Is(err, context.Canceled) {
				s.Errorf("watching with a context that has ended: %v", err)
			}
		}
	} else if !errors.Is(err, context.Canceled) {
		s.Errorf("Watch with a context that has ended: %v", err)
	}

	seq = s.watching(s.ctx, "")
	ended := make(chan error, 1)
	go func() {
		for _, err := range seq {
			if err != nil {
				ended <- err
			}
		}
		close(ended)
	}()
	if err := s.kv.Close(); err != nil {
		s.Error(err)
	}
	if err := <-ended; !errors.Is(err, store.ErrClosed) {
		s.Errorf("at Close: %v", err)
	}
	if _, more := <-ended; more {
		s.Error("the error is not the last element")
	}
}
