package sites

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: what counts is what moves while the client is waited for.
func TestPace(t *testing.T) {
	const rate = 100 // 3000 in 30 s
	type step struct {
		pause, wait time.Duration
		octets      int
	}
	repeat := func(n int, s step) (all []step) {
		for range n {
			all = append(all, s)
		}
		return all
	}
	for name, c := range map[string]struct {
		atOnce int
		steps  []step
		slow   time.Duration // when it is over; zero: never
	}{
		"nothing comes":          {0, []step{{0, time.Hour, 0}}, 30 * time.Second},
		"a drop at a time":       {0, repeat(10, step{0, 10 * time.Second, 1}), 30 * time.Second},
		"just too slow":          {0, repeat(100, step{0, time.Second, 99}), 30 * time.Second},
		"slow enough":            {0, repeat(100, step{0, time.Second, 110}), 0},
		"fast, then silent":      {0, []step{{0, 0, 1 << 20}, {0, time.Hour, 0}}, 30 * time.Second},
		"others take their time": {0, repeat(5, step{time.Hour, 29 * time.Second, 3000}), 0},
		"a drop, with pauses":    {0, repeat(5, step{time.Minute, 20 * time.Second, 1}), 2*time.Minute + 30*time.Second},
		"a large piece":          {16384, []step{{0, 160 * time.Second, 16384}, {0, 160 * time.Second, 16384}}, 0},
		"a larger piece":         {16384, []step{{0, 170 * time.Second, 16384}}, 163840 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var slow time.Duration
			p := newPace(rate, c.atOnce, func() { slow = time.Since(start) })
			for _, s := range c.steps {
				time.Sleep(s.pause)
				p.wait()
				time.Sleep(s.wait)
				p.got(s.octets)
			}
			p.end()
			time.Sleep(time.Hour) // nothing is left behind
			if slow != c.slow {
				t.Errorf("%s: ends after %v, want %v", name, slow, c.slow)
			}
		})
	}
}
