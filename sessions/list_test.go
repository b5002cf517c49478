package sessions_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/sessions"
)

func TestRevoke(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a, eve := h.account("ann@example.org"), h.account("eve@example.org")
	b1, b2, b3 := h.signIn(by(a)), h.signIn(by(a)), h.signIn(by(a))
	own := h.signIn(by(eve))
	for _, id := range []string{b1.current().ID, "", "none", strings.Repeat("x", 10_000), "../" + b1.current().ID, "\x00"} {
		if err := h.Revoke(ctx, eve.ID, id); !errors.Is(err, sessions.ErrNoSession) {
			t.Errorf("another's session %.20q: %v", id, err)
		}
	}
	id := b1.current().ID
	if err := h.Revoke(ctx, a.ID, id); err != nil {
		t.Error(err)
	}
	if err := h.Revoke(ctx, a.ID, id); !errors.Is(err, sessions.ErrNoSession) {
		t.Errorf("revoked twice: %v", err)
	}
	if n, err := h.RevokeAll(ctx, a.ID, b2.current().ID); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := h.RevokeAll(ctx, "", ""); n != 0 || err != nil {
		t.Errorf("nobody's: %d, %v", n, err)
	}
	if b1.current() != nil || b2.current() == nil || b3.current() != nil || own.current() == nil {
		t.Error("not those have ended that were revoked")
	}
	if all, err := h.List(ctx, ""); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
}

// A session that is revoked while a request of it is served does not come back.
func TestRevokedMeanwhile(t *testing.T) { inHouse(t, testRevokedMeanwhile) }

func testRevokedMeanwhile(t *testing.T, h *house) {
	a := h.account("ann@example.org")
	b := h.signIn(by(a))
	time.Sleep(2 * time.Minute) // so that the request notes its time
	var done sync.WaitGroup
	for range 20 {
		done.Go(func() { (&browser{h, b.cookie}).current() })
	}
	if _, err := h.RevokeAll(t.Context(), a.ID, ""); err != nil {
		t.Error(err)
	}
	done.Wait()
	if b.current() != nil {
		t.Error("the session is back")
	}
	for item, err := range h.KV.Scan(t.Context(), "session/") {
		t.Errorf("the store has %s (%v)", item.Key, err)
	}
}
