package admin

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// What may be created comes back with time, evenly, and is not saved up beyond
// what a window has.
func TestSignupLimitOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSignupLimit(SignupRules{PerSource: 2, Total: 3, Window: time.Hour})
		a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		step := func(name string, source netip.Addr, want time.Duration) {
			t.Helper()
			if after := l.take(source).Round(time.Second); after != want {
				t.Errorf("%s: after %v, want %v", name, after, want)
			}
		}
		step("first", a, 0)
		step("second", a, 0)
		step("third", a, 30*time.Minute)
		step("of another", b, 0)
		step("too many in all", b, 20*time.Minute)
		time.Sleep(20 * time.Minute)
		step("too early", a, 10*time.Minute)
		step("again in all", b, 0)
		time.Sleep(1000 * time.Hour)
		for range 2 {
			step("long after", a, 0)
		}
		step("not saved up", a, 30*time.Minute)
	})
}

func TestSignupLimitForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSignupLimit(SignupRules{PerSource: 5, Total: 10, Window: time.Hour})
		addr := netip.MustParseAddr("10.0.0.0")
		for range 10_000 {
			addr = addr.Next()
			l.take(addr)
			time.Sleep(time.Minute)
		}
		if n := len(l.sources); n > 30 || n < 1 {
			t.Errorf("%d sources are remembered", n)
		}
	})
}

func TestRandom(t *testing.T) {
	seen := make(map[rune]int)
	for range 1000 {
		for _, c := range random("abc", 9) {
			seen[c]++
		}
	}
	for _, c := range "abc" {
		if seen[c] < 2500 {
			t.Errorf("%c came %d times in 9000", c, seen[c])
		}
	}
	if len(seen) != 3 {
		t.Errorf("%v", seen)
	}
}
