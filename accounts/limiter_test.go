package accounts

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// attempt fails, or succeeds, once for a source; it reports whether the
// source was blocked.
func (l *limiter) attempt(t testing.TB, from netip.Addr, user string, right bool) (blocked bool) {
	t.Helper()
	p, err := l.begin(t.Context(), sourceSubject(from), user)
	if err != nil {
		t.Fatal(err)
	}
	end := failed
	if right {
		end = passed
	}
	p.settle(end)
	return p.blocked
}

// nth is the n-th /64 of an IPv6 /32.
func nth(n int) netip.Addr {
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(b[4:], uint32(n))
	return netip.AddrFrom16(b)
}

// TestMemoryIsBounded: whoever has many sources neither makes the tables grow
// nor pushes out of them who is blocked.
func TestMemoryIsBounded(t *testing.T) { synctest.Test(t, testMemoryIsBounded) }

func testMemoryIsBounded(t *testing.T) {
	l := newLimiter(Throttle{PerSource: 2}, time.Now)
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:ffff:ffff::1")
	for range 2 {
		l.attempt(t, four, "a", false)
		l.attempt(t, six, "b", false)
	}
	half := netip.MustParseAddr("192.0.2.2")
	l.attempt(t, half, "c", false)
	for i := range 2 * slowFree {
		l.attempt(t, nth(1<<20+i), "victim", false)
	}
	for i := range 3 * maxTracked {
		l.attempt(t, nth(i), fmt.Sprint("user", i), false)
	}
	if n := l.tracked(); n > maxTracked+2 {
		t.Errorf("%d sources are tracked", n)
	}
	if n := len(l.users.entries); n > maxTracked {
		t.Errorf("%d users are tracked", n)
	}
	if b := l.blocks(); len(b) != 2 {
		t.Errorf("%d blocks are left of 2", len(b))
	}
	l.attempt(t, half, "c", false)
	if b := l.blocks(); len(b) != 3 {
		t.Error("an IPv4 source's first failure was forgotten for IPv6 sources")
	}
	start := time.Now()
	if l.attempt(t, nth(1<<21), "victim", false); time.Since(start) < time.Second {
		t.Errorf("a user who is guessed at was forgotten for others: a guess waited %v", time.Since(start))
	}

	time.Sleep(24 * time.Hour)
	for i := range maxTracked {
		l.attempt(t, nth(i), "d", true)
	}
	if n := l.tracked(); n > 3 {
		t.Errorf("a day later %d sources are tracked", n)
	}
}

// TestFullOfBlocks: even a table full of blocked sources takes a new one.
func TestFullOfBlocks(t *testing.T) { synctest.Test(t, testFullOfBlocks) }

func testFullOfBlocks(t *testing.T) {
	l := newLimiter(Throttle{PerSource: 1}, time.Now)
	for i := range maxTracked + 10 {
		l.attempt(t, nth(i), fmt.Sprint("user", i), false)
		time.Sleep(time.Millisecond)
	}
	b := l.blocks()
	if len(b) != maxTracked {
		t.Fatalf("%d blocks", len(b))
	}
	if newest := sourceSubject(nth(maxTracked + 9)).String(); b[0].Source != newest {
		t.Errorf("the newest block is of %s, want %s", b[0].Source, newest)
	}
	if !l.attempt(t, nth(maxTracked+9), "a", true) || l.attempt(t, nth(0), "a", true) {
		t.Error("the oldest block was not the one to be forgotten")
	}
}

// TestWaitForOthers: who waits for an attempt of the same source that takes long goes
// on when the source's failures are too old to count, or are forgotten.
func TestWaitForOthers(t *testing.T) {
	for _, c := range []struct {
		name    string
		unblock time.Duration // zero: never
		want    time.Duration
	}{
		{"window", 0, 20 * time.Second},
		{"unblock", 10 * time.Second, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(Throttle{PerSource: 2}, time.Now)
				source, start := sourceSubject(nth(0)), time.Now()
				if c.unblock != 0 {
					time.AfterFunc(c.unblock, func() { l.unblock(source) })
				}
				l.attempt(t, nth(0), "a", false)
				long, err := l.begin(t.Context(), source, "b")
				if err != nil {
					t.Fatal(err)
				}
				defer long.settle(passed)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				p, err := l.begin(ctx, source, "c")
				if err != nil {
					t.Fatal(err)
				}
				p.settle(passed)
				if waited := time.Since(start); waited != c.want {
					t.Errorf("waited %v, want %v", waited, c.want)
				}
			})
		})
	}
}

// TestSuccessLeavesNoTrace: only failures take memory.
func TestSuccessLeavesNoTrace(t *testing.T) {
	l := newLimiter(Throttle{}, time.Now)
	for i := range 100 {
		l.attempt(t, nth(i), "a", true)
	}
	if l.tracked() != 0 || len(l.users.entries) != 0 {
		t.Errorf("%d sources, %d users", l.tracked(), len(l.users.entries))
	}
}

// TestLimiterAtOnce mixes failures and successes of few sources, for the race
// detector; afterwards nothing is held or reserved.
func TestLimiterAtOnce(t *testing.T) { synctest.Test(t, testLimiterAtOnce) }

func testLimiterAtOnce(t *testing.T) {
	l := newLimiter(Throttle{Window: time.Second}, time.Now)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 50 {
				l.attempt(t, nth(i%7), fmt.Sprint(i%5), (i+j)%16 != 0 || j%8 != 0)
				l.blocks()
				l.unblock(sourceSubject(nth(j % 7)))
			}
		})
	}
	wg.Wait()
	for s, e := range l.v6.entries {
		if e.holders != 0 || e.value.pending != 0 || e.resting == nil {
			t.Errorf("%v is left with %+v", s, e)
		}
	}
	if len(l.cpu) != 0 || cap(l.cpu) != runtime.GOMAXPROCS(0) {
		t.Errorf("%d of %d evaluations are still going on", len(l.cpu), cap(l.cpu))
	}
}
