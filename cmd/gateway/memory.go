package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// heapRoom is what may be taken by what lives and the garbage that gathers
	// before it is collected; but garbage may take leastGarbage in any case, and a
	// third of what lives. A small heap is thus collected seldom, which saves
	// processor time, and one that thousands of idle connections make large is
	// kept dense: what lives of those that have come since the last collection
	// lies scattered among their garbage.
	heapRoom, leastGarbage = 72 << 20, 24 << 20
	// leastPercent and mostPercent bound the garbage in relation to what lives.
	leastPercent, mostPercent = 33, 300
	// memoryTick is how often tendMemory looks.
	memoryTick = time.Second
	// busyBytes allocated, or that many goroutines come or gone, is how much
	// must have happened for there to be memory to give back; with less than
	// quietBytes in a tick the gateway counts as quiet.
	busyBytes, busyGoroutines, quietBytes = 16 << 20, 1000, 1 << 20
	// trimTicks is until which quiet tick after a burst memory is given back:
	// at the first, second, fourth and so on. Once is not enough: each
	// collection halves stacks that have become too large, and what has pools
	// lets go of them late.
	trimTicks = 16
)

// tendMemory adapts the garbage collector to the size of the heap, unless the
// environment sets it, and gives memory back to the system when a burst of
// connections or mail is over, until ctx ends. Go gives back only what has been
// collected, and a gateway with idle connections allocates too little for
// another collection.
func tendMemory(ctx context.Context) error {
	tick := time.NewTicker(memoryTick)
	defer tick.Stop()
	last := readActivity()
	trimmed, quiet := last, trimTicks
	gc := collector{fixed: os.Getenv("GOGC") != ""}
	collected := make(chan struct{}, 1)
	afterCollection(collected)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-collected:
			gc.adapt(readActivity().live)
			afterCollection(collected)
			continue
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

// afterCollection sends to c, which has a buffer, when garbage has next been
// collected.
func afterCollection(c chan<- struct{}) {
	garbage := new([64]byte)
	runtime.AddCleanup(garbage, func(c chan<- struct{}) {
		select {
		case c <- struct{}{}:
		default:
		}
	}, c)
}

// collector is the garbage collector's setting.
type collector struct {
	fixed   bool
	percent int // 0: the default
}

// percentage is that of garbage for a heap of which so much lives.
func percentage(live uint64) int {
	garbage := heapRoom - min(live, heapRoom-leastGarbage)
	return min(max(int(garbage*100/max(live, 1)), leastPercent), mostPercent)
}

// adapt sets the percentage for a heap of which so much lives. Small changes are
// not worth stopping the world for.
func (c *collector) adapt(live uint64) {
	percent := percentage(live)
	if c.fixed || percent > c.percent*4/5 && percent < c.percent*5/4 {
		return
	}
	c.percent = percent
	debug.SetGCPercent(percent)
}

// activity is what has happened since the process began, and what there is.
type activity struct {
	allocated  uint64 // bytes, ever
	live       uint64 // bytes, as of the last collection
	goroutines uint64 // that live
}

func readActivity() activity {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(s)
	return activity{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()}
}

// burst reports whether enough has happened since then for memory to be free
// that was not.
func (a activity) burst(then activity) bool {
	return a.allocated-then.allocated >= busyBytes ||
		max(a.goroutines, then.goroutines)-min(a.goroutines, then.goroutines) >= busyGoroutines
}
