package passkeys_test

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"posthorn/passkeys"
)

func TestBounded(t *testing.T) { inHouse(t, testBounded) }

func testBounded(t *testing.T, h *house) {
	a := h.account("ann@example.org")
	for i := range 20 {
		if _, err := h.register(a, newAuthenticator(t), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.register(a, newAuthenticator(t), "one more"); !errors.Is(err, passkeys.ErrTooMany) {
		t.Errorf("the 21st: %v", err)
	}

	begin := func(source string) (string, error) {
		v := here
		v.Source = netip.MustParseAddr(source)
		_, id, err := h.BeginSignIn(v)
		return id, err
	}
	for i := range 40 {
		if _, err := begin(fmt.Sprintf("2001:db8::%x", i+1)); (err != nil) != (i >= 30) || err != nil && !errors.Is(err, passkeys.ErrTooMany) {
			t.Fatalf("ceremony %d of a source: %v", i, err)
		}
	}
	if _, err := begin("2001:db8:0:1::1"); err != nil {
		t.Errorf("another source: %v", err)
	}
	time.Sleep(5 * time.Minute)
	if _, err := begin("2001:db8::1"); err != nil {
		t.Errorf("later: %v", err)
	}
	first, err := begin("192.0.2.77")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 { // a flood from everywhere pushes out the oldest, and no more
		if _, err := begin(fmt.Sprintf("10.0.%d.%d", i/256, i%256)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := h.FinishSignIn(t.Context(), here, first, nil); !errors.Is(err, passkeys.ErrRefused) {
		t.Error(err)
	}
}

// Ceremonies that are over take no memory, whatever else is under way.
func TestOverIsForgotten(t *testing.T) {
	h := newHouse(t)
	_, first, err := h.BeginSignIn(here)
	if err != nil {
		t.Fatal(err)
	}
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := inUse()
	for range 30_000 {
		_, id, err := h.BeginSignIn(here)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.FinishSignIn(t.Context(), here, id, nil); !errors.Is(err, passkeys.ErrRefused) {
			t.Fatal(err)
		}
	}
	if grown := inUse() - before; grown > 2<<20 {
		t.Errorf("30,000 that are over take %d KiB", grown>>10)
	}
	if _, _, err := h.FinishSignIn(t.Context(), here, first, nil); !errors.Is(err, passkeys.ErrRefused) {
		t.Error(err)
	}
}
