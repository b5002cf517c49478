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
	// busyBytes is how much must be allocated for trim to have something to
	// do; with less than quietBytes in a tick the gateway counts as quiet.
	busyBytes, quietBytes = 16 << 20, 1 << 20
	// trimRounds is how often in a row memory is given back. Each collection
	// halves stacks that have become too large, so one is not enough.
	trimRounds = 4
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
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	allocated := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	tick := time.NewTicker(memoryTick)
	defer tick.Stop()
	trimmed, last, rounds := uint64(0), allocated(), 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := allocated()
		if now-trimmed >= busyBytes {
			trimmed, rounds = now, trimRounds
		}
		if quiet := now-last < quietBytes; quiet && rounds > 0 {
			rounds--
			debug.FreeOSMemory()
		}
		last = now
	}
}
