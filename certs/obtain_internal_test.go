package certs

import (
	"fmt"
	"testing"
	"time"
)

// A CA that is away is asked again soon, one that has refused rarely: its limits
// count refusals.
func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		failures int
		refused  bool
		want     time.Duration
	}{
		{1, false, 30 * time.Second}, {2, false, time.Minute}, {7, false, 32 * time.Minute}, {8, false, time.Hour}, {1000, false, time.Hour},
		{1, true, 15 * time.Minute}, {2, true, 30 * time.Minute}, {7, true, 16 * time.Hour}, {8, true, 24 * time.Hour}, {1000, true, 24 * time.Hour},
	} {
		if got := backoff(c.failures, c.refused); got < c.want || got > c.want+c.want/10 {
			t.Errorf("after %d failures (refused: %t): %s, want %s and up to a tenth more", c.failures, c.refused, got, c.want)
		}
	}
}

// Certificates are renewed while a third of their life is left, but not much more
// than a month before their end, and not all at once.
func TestRenewAt(t *testing.T) {
	begin := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for life, lead := range map[time.Duration]time.Duration{
		6 * day: 2 * day, 90 * day: 30 * day, 398 * day: 30 * day,
	} {
		id := &identity{notBefore: begin, notAfter: begin.Add(life)}
		times := make(map[time.Time]bool)
		for i := range 50 {
			at := renewAt(fmt.Sprintf("host-%d.example.org", i), id)
			if before := id.notAfter.Sub(at); before < lead || before > lead+lead/10 {
				t.Errorf("of %s: renewed %s before the end, want %s and up to a tenth more", life, before, lead)
			}
			times[at] = true
		}
		if len(times) < 40 {
			t.Errorf("of %s: 50 names are renewed at %d times", life, len(times))
		}
	}
}
