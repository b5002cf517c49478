// Package await waits in tests for what other goroutines, programs and the network
// bring about, where testing/synctest, with its own clock, cannot look.
package await

import (
	"testing"
	"time"
)

const (
	// patience is far more than anything takes on a busy machine.
	patience = 20 * time.Second
	interval = 5 * time.Millisecond
)

// Until waits until something is so, and fails the test when it is not so after
// 20 s; what says what it is.
func Until(t testing.TB, what string, so func() bool) {
	t.Helper()
	Within(t, patience, what, so)
}

// Within is Until for what may take longer, or must not take as long.
func Within(t testing.TB, limit time.Duration, what string, so func() bool) {
	t.Helper()
	over, again := time.After(limit), time.Tick(interval)
	for !so() {
		select {
		case <-again:
		case <-over:
			t.Fatalf("still not so after %v: %s", limit, what)
		}
	}
}
