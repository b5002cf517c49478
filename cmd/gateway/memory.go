package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcPercent trades processor time for memory: most of the heap is what
	// idle connections hold, and a collection of it has little to do.
	gcPercent = 50
	// memoryTick is how often trim looks.
	memoryTick = 2 * time.Second
	// busyBytes allocated, or that many goroutines come or gone, is how much
	// must have happened for trim to have something to do; with less than
	// quietBytes in a tick the gateway counts as quiet.
	busyBytes, busyGoroutines, quietBytes = 16 << 20, 1000, 1 << 20
	// trimTicks is until which quiet tick after a burst memory is given back:
	// at the first, second, fourth and so on. Once is not enough: each
	// collection halves stacks that have become too large, and what has pools
	// lets go of them late.
	trimTicks = 16
)

// tuneMemory sets the garbage collector, unless the environment does.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// trimMemory gives memory back to the system when a burst of connections or
// mail is over, until ctx ends. Go does that by itself only as far as garbage
// is collected, and a gateway with idle connections allocates too little for
// another collection.
func trimMemory(ctx context.Context) error {
	tick := time.NewTicker(memoryTick)
	defer tick.Stop()
	last := readActivity()
	trimmed, quiet := last, trimTicks
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := readActivity()
		if now.burst(trimmed) {
			trimmed, quiet = now, 0
		}
		if now.allocated-last.allocated < quietBytes && quiet < trimTicks {
			if quiet++; quiet&(quiet-1) == 0 {
				debug.FreeOSMemory()
			}
		}
		last = now
	}
}

// activity is what has happened since the process began.
type activity struct {
	allocated  uint64 // bytes
	goroutines uint64 // that live
}

func readActivity() activity {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(sample)
	return activity{sample[0].Value.Uint64(), sample[1].Value.Uint64()}
}

// burst reports whether enough has happened since then for memory to be free
// that was not.
func (a activity) burst(then activity) bool {
	return a.allocated-then.allocated >= busyBytes ||
		max(a.goroutines, then.goroutines)-min(a.goroutines, then.goroutines) >= busyGoroutines
}
