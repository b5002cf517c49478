package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"

	"posthorn/store"
)

// writeSkew lets pairs of transactions each read both of two values and write
// one, which snapshot isolation would let both commit.
func (s *suite) writeSkew() {
	for round := range 50 {
		a, b := fmt.Sprintf("%d/a", round), fmt.Sprintf("%d/b", round)
		s.put(a, "on duty", b, "on duty")
		var wg sync.WaitGroup
		for _, mine := range []string{a, b} {
			wg.Go(func() {
				err := s.kv.Update(s.ctx, func(tx store.Tx) error {
					for _, key := range []string{a, b} {
						if v, err := tx.Get(s.ctx, key); err != nil || string(v) != "on duty" {
							return err
						}
					}
					return tx.Put(mine, []byte("off"))
				})
				if err != nil {
					s.Error(err)
				}
			})
		}
		wg.Wait()
		va, _ := s.kv.Get(s.ctx, a)
		vb, _ := s.kv.Get(s.ctx, b)
		if (string(va) == "off") == (string(vb) == "off") {
			s.Fatalf("round %d: %s and %s", round, va, vb)
		}
	}
}

// phantoms lets many transactions add an item each as long as there are fewer
// than ten.
func (s *suite) phantoms() {
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			err := s.kv.Update(s.ctx, func(tx store.Tx) error {
				n := 0
				for _, err := range tx.Scan(s.ctx, "item/") {
					if err != nil {
						return err
					}
					n++
				}
				if n >= 10 {
					return nil
				}
				return tx.Put(fmt.Sprintf("item/%d", i), nil)
			})
			if err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(s.items(s.kv, "item/")); n != 10 {
		s.Errorf("%d items, want 10", n)
	}
}

// counter lets many transactions count on one value, while readers see it grow.
func (s *suite) counter() {
	const workers, each = 8, 25
	s.put("n", "0")
	var writers, readers sync.WaitGroup
	for range workers {
		writers.Go(func() {
			for range each {
				if err := s.kv.Update(s.ctx, s.increment); err != nil {
					s.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	readers.Go(func() {
		last := 0
		for {
			v, err := s.kv.Get(s.ctx, "n")
			n, convErr := strconv.Atoi(string(v))
			if err := errors.Join(err, convErr); err != nil || n < last {
				s.Errorf("read %q after %d: %v", v, last, err)
				return
			}
			last = n
			select {
			case <-done:
				return
			default:
			}
		}
	})
	writers.Wait()
	close(done)
	readers.Wait()
	s.want(s.kv, "n", strconv.Itoa(workers*each))
}

func (s *suite) increment(tx store.Tx) error {
	v, err := tx.Get(s.ctx, "n")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(v))
	if err != nil {
		return err
	}
	return tx.Put("n", []byte(strconv.Itoa(n+1)))
}
