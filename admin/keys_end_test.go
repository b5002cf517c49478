package admin_test

import (
	"errors"
	"testing"

	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/mux"
)

func TestEndKey(t *testing.T) {
	w := newWorld(t)
	w.enforce(t)
	alice, bob := w.account(t, "alice@example.org"), w.account(t, "bob@example.org")
	pair, k := w.key(t, alice.ID)
	other, _ := w.key(t, alice.ID)
	one, two := w.login(t, alpn.IMAP, "", pair), w.login(t, alpn.SMTP, "", pair)
	stays, byPassword := w.login(t, alpn.IMAP, "", other), w.login(t, alpn.IMAP, alice.ID)

	_, err := w.EndKey(t.Context(), admin.Actor{Name: "bob", Account: bob.ID}, k.Fingerprint)
	if !errors.Is(err, authkeys.ErrUnknown) {
		t.Errorf("by somebody else: %v", err)
	}
	self := admin.Actor{Name: "alice", Account: alice.ID}
	if n, err := w.EndKey(t.Context(), self, k.Fingerprint); n != 2 || err != nil {
		t.Errorf("%d sessions, %v; want 2", n, err)
	}
	for _, s := range []*session{one, two} {
		s.line(t) // why it ends
		if line := s.line(t); line != "" {
			t.Errorf("a session goes on with %q", line)
		}
	}
	if _, err := w.EndKey(t.Context(), self, k.Fingerprint); !errors.Is(err, authkeys.ErrUnknown) {
		t.Errorf("twice: %v", err)
	}
	others := func(c mux.Info) bool { return c.Identity.Key != k.Fingerprint }
	if n := w.Mux.CloseAccount(alice.ID, others, mux.ErrEvicted); n != 2 {
		t.Errorf("%d other sessions were left, want 2", n)
	}
	for _, s := range []*session{stays, byPassword} {
		if line := s.line(t); line != mux.ErrEvicted.Error() {
			t.Errorf("another session ended with %q", line)
		}
	}
}
