package storetest

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"posthorn/store"
)

func (s *suite) lock() {
	unlock, err := s.kv.Lock(s.ctx, "a")
	if err != nil {
		s.Fatal(err)
	}
	other, err := s.kv.Lock(s.ctx, "b") // of another name: free
	if err != nil {
		s.Fatal(err)
	}
	other()
	ctx, cancel := context.WithCancel(s.ctx)
	waiting := make(chan error, 1)
	go func() {
		_, err := s.kv.Lock(ctx, "a")
		waiting <- err
	}()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		s.Errorf("gave up waiting: %v", err)
	}
	unlock()

	var inside, total atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			unlock, err := s.kv.Lock(s.ctx, "a")
			if err != nil {
				s.Error(err)
				return
			}
			if inside.Add(1) != 1 {
				s.Error("two hold the lock")
			}
			s.want(s.kv, "none", "") // something that takes time
			inside.Add(-1)
			total.Add(1)
			unlock()
		})
	}
	wg.Wait()
	if total.Load() != 16 {
		s.Errorf("%d of 16 got the lock", total.Load())
	}
}

func (s *suite) close() {
	s.put("a", "1")
	if _, err := s.kv.Lock(s.ctx, "held"); err != nil {
		s.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := s.kv.Lock(s.ctx, "held")
		waiting <- err
	}()
	if err := s.kv.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	if err := <-waiting; !errors.Is(err, store.ErrClosed) {
		s.Errorf("waiting for a lock: %v", err)
	}
	if err := s.kv.Close(); err != nil {
		s.Errorf("a second Close: %v", err)
	}
	_, getErr := s.kv.Get(s.ctx, "a")
	_, watchErr := s.kv.Watch(s.ctx, "")
	_, lockErr := s.kv.Lock(s.ctx, "a")
	var scanErr error
	for _, scanErr = range s.kv.Scan(s.ctx, "") {
	}
	_, countErr := s.kv.Count(s.ctx, "")
	errs := map[string]error{
		"Count": countErr, "Get": getErr, "Watch": watchErr, "Lock": lockErr, "Scan": scanErr,
		"Update": s.kv.Update(s.ctx, func(tx store.Tx) error { return tx.Put("a", nil) }),
	}
	if b, ok := s.kv.(store.Backuper); ok {
		errs["Backup"] = b.Backup(s.ctx, io.Discard)
		errs["Restore"] = b.Restore(s.ctx, nil)
	}
	for name, err := range errs {
		if !errors.Is(err, store.ErrClosed) {
			s.Errorf("%s after Close: %v", name, err)
		}
	}
}

// closeWaits checks that Close lets a running transaction finish, and ends a
// scan that is under way.
func (s *suite) closeWaits() {
	s.put("a", "1", "b", "1")
	began, closing := make(chan struct{}), make(chan struct{})
	updated := make(chan error, 1)
	go func() {
		updated <- s.kv.Update(s.ctx, func(tx store.Tx) error {
			close(began)
			<-closing
			return tx.Put("a", []byte("2"))
		})
	}()
	<-began
	seq := s.watching(s.ctx, "")
	closed := make(chan error, 1)
	scanned := 0
	for _, err := range s.kv.Scan(s.ctx, "") {
		if scanned++; scanned == 1 {
			go func() { closed <- s.kv.Close() }()
			for range seq { // ends when Close has begun
			}
		} else if !errors.Is(err, store.ErrClosed) {
			s.Errorf("a scan while closing: %v", err)
		}
	}
	if scanned != 2 {
		s.Errorf("the scan yielded %d times, want an item and an error", scanned)
	}
	select {
	case err := <-closed:
		s.Errorf("Close did not wait for the transaction: %v", err)
	default:
	}
	close(closing)
	if err := <-updated; err != nil {
		s.Errorf("the transaction that was running: %v", err)
	}
	if err := <-closed; err != nil {
		s.Errorf("Close: %v", err)
	}
}
