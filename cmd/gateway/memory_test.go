package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercentage(t *testing.T) {
	for _, tt := range []struct {
		live uint64 // MB
		want int
	}{{0, 300}, {18, 300}, {24, 200}, {36, 100}, {48, 50}, {60, 40}, {72, 33}, {1000, 33}} {
		if got := percentage(tt.live << 20); got != tt.want {
			t.Errorf("%d MB: %d %%, want %d", tt.live, got, tt.want)
		}
	}
}

// A heap that grows between two ticks is collected accordingly from its first
// collection on.
func TestTendMemory(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(250))
	ctx, cancel := context.WithCancel(t.Context())
	tended := make(chan error)
	go func() { tended <- tendMemory(ctx) }()
	defer func() {
		cancel()
		if err := <-tended; err != nil {
			t.Error(err)
		}
	}()
	held := make([]byte, 100<<20)
	for end := time.Now().Add(20 * time.Second); ; {
		runtime.GC()
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		if metrics.Read(s); s[0].Value.Uint64() == leastPercent {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d %% of garbage beside %d MB", s[0].Value.Uint64(), len(held)>>20)
		}
	}
	runtime.KeepAlive(held)
}
