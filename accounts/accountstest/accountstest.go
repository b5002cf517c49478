// Package accountstest is what tests of packages that stand on accounts have in
// common: accounts and keys that are really stored, in memory.
package accountstest

import (
	"context"
	"sync"
	"testing"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/store"
	"posthorn/store/storetest"
)

// House is accounts with what they stand on.
type House struct {
	KV       store.KV
	Keys     *authkeys.Store
	Accounts *accounts.Store

	t testing.TB
}

// New returns a House without accounts. Its store is closed when the test ends.
func New(t testing.TB, o accounts.Options) *House {
	t.Helper()
	kv := storetest.Memory(t)
	h := &House{KV: kv, Keys: authkeys.New(kv), t: t}
	var err error
	if h.Accounts, err = accounts.New(t.Context(), kv, h.Keys, o); err != nil {
		t.Fatal(err)
	}
	return h
}

// Account makes an account for an address; password "": without one.
func (h *House) Account(address, password string) *accounts.Account {
	h.t.Helper()
	a, err := h.Accounts.Add(h.t.Context(), address, password)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// Run runs a loop until the test ends.
func Run(t testing.TB, loop func(context.Context) error) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := loop(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// Count returns how many records there are whose keys begin with prefix.
func (h *House) Count(prefix string) (n int) {
	h.t.Helper()
	for _, err := range h.KV.Scan(h.t.Context(), prefix) {
		if err != nil {
			h.t.Fatal(err)
		}
		n++
	}
	return n
}
