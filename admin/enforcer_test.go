package admin_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/await"
	"posthorn/mux"
	"posthorn/store"
)

// The changes here go past the Service, as those of another node would. Sessions
// end within a second.
func TestEnforcer(t *testing.T) {
	const soon = 700 * time.Millisecond // until an expiry
	tests := []struct {
		name     string
		protocol alpn.Protocol
		change   func(t *testing.T, w *world, account string, k *admin.Key) error
	}{
		{"key removed", alpn.IMAP, func(t *testing.T, w *world, _ string, k *admin.Key) error {
			_, err := w.Keys.Remove(t.Context(), k.Fingerprint)
			return err
		}},
		{"key moved", alpn.IMAP, func(t *testing.T, w *world, _ string, k *admin.Key) error {
			bob := w.account(t, "bob@example.org")
			key, err := w.Keys.Remove(t.Context(), k.Fingerprint)
			if err != nil {
				return err
			}
			key.Account = bob.ID
			return w.Keys.Add(t.Context(), key)
		}},
		{"key descoped", alpn.SMTP, func(t *testing.T, w *world, _ string, k *admin.Key) error {
			return change(t, w, k, func(k *authkeys.Key) { k.Scope = authkeys.ScopeIMAP })
		}},
		{"key expired", alpn.IMAP, func(t *testing.T, w *world, _ string, k *admin.Key) error {
			return change(t, w, k, func(k *authkeys.Key) { k.Expires = time.Now() })
		}},
		{"key expires soon", alpn.IMAP, func(t *testing.T, w *world, _ string, k *admin.Key) error {
			return change(t, w, k, func(k *authkeys.Key) { k.Expires = time.Now().Add(soon) })
		}},
		{"account disabled", alpn.IMAP, func(t *testing.T, w *world, account string, _ *admin.Key) error {
			return w.Accounts.SetDisabled(t.Context(), account, true)
		}},
		{"account removed", alpn.IMAP, func(t *testing.T, w *world, account string, _ *admin.Key) error {
			_, err := w.Accounts.Remove(t.Context(), account)
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := worldOnPipes(t)
				w.enforce(t)
				carol := w.account(t, "carol@example.org")
				alice := w.account(t, "alice@example.org")
				pair, k := w.key(t, alice.ID)
				s := w.login(t, tt.protocol, "", pair)
				bystander := w.login(t, tt.protocol, carol.ID)
				if err := tt.change(t, w, alice.ID, k); err != nil {
					t.Fatal(err)
				}
				at := time.Now()
				if got := s.line(t); got != mux.ErrRevoked.Error() {
					t.Errorf("the session hears %q", got)
				}
				if d := time.Since(at); d > time.Second {
					t.Errorf("after %v", d)
				}
				if n := w.Mux.CloseAccount(carol.ID, func(mux.Info) bool { return true }, mux.ErrEvicted); n != 1 {
					t.Error("somebody else's session ended too")
				}
				bystander.line(t)
			})
		})
	}
}

func change(t *testing.T, w *world, k *admin.Key, fn func(*authkeys.Key)) error {
	_, err := w.Keys.Change(t.Context(), k.Fingerprint, func(k *authkeys.Key) error { fn(k); return nil })
	return err
}

// Changes that take nothing away, and the note that a key was used, end
// nothing.
func TestEnforcerLeavesAlone(t *testing.T) {
	w := newWorld(t)
	w.enforce(t)
	alice := w.account(t, "alice@example.org")
	pair, k := w.key(t, alice.ID)
	s := w.login(t, alpn.IMAP, "", pair)
	err := change(t, w, k, func(k *authkeys.Key) {
		k.Name, k.NoPreauth, k.Scope, k.Expires = "phone", true, authkeys.ScopeIMAP, time.Now().Add(time.Hour)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Accounts.AddAddress(t.Context(), alice.ID, "a@example.org"); err != nil {
		t.Fatal(err)
	}
	// What comes after these has seen them.
	bob := w.account(t, "bob@example.org")
	other := w.login(t, alpn.IMAP, bob.ID)
	if err := w.Accounts.SetDisabled(t.Context(), bob.ID, true); err != nil {
		t.Fatal(err)
	}
	if got := other.line(t); got != mux.ErrRevoked.Error() {
		t.Errorf("bob hears %q", got)
	}
	if n := w.Mux.CloseAccount(alice.ID, func(mux.Info) bool { return true }, mux.ErrEvicted); n != 1 {
		t.Error("the session ended")
	}
	if got := s.line(t); got != mux.ErrEvicted.Error() {
		t.Errorf("alice hears %q", got)
	}
}

// A key that is prolonged, or never expires any more, keeps its live sessions;
// one that is shortened again does not.
func TestEnforcerMovesExpiry(t *testing.T) {
	w := newWorld(t)
	w.enforce(t)
	alice := w.account(t, "alice@example.org")
	pair, k := w.key(t, alice.ID)
	soon := time.Now().Add(time.Minute).UTC()
	if err := change(t, w, k, func(k *authkeys.Key) { k.Expires = soon }); err != nil {
		t.Fatal(err)
	}
	s := w.login(t, alpn.IMAP, "", pair)
	for _, at := range []time.Time{soon.Add(time.Hour), {}, soon} {
		if err := change(t, w, k, func(k *authkeys.Key) { k.Expires = at }); err != nil {
			t.Fatal(err)
		}
		await.Until(t, fmt.Sprint("the session expires at ", at), func() bool { return w.Mux.Conns()[0].Identity.Expires.Equal(at) })
	}
	if err := change(t, w, k, func(k *authkeys.Key) { k.Expires = time.Now().Add(200 * time.Millisecond) }); err != nil {
		t.Fatal(err)
	}
	if got := s.line(t); got != mux.ErrRevoked.Error() {
		t.Errorf("the session hears %q", got)
	}
}

// An Enforcer whose store is closed under it returns.
func TestEnforcerEndsWithStore(t *testing.T) {
	w := newWorld(t)
	w.enforce(t)
	if err := w.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Store.Update(t.Context(), func(store.Tx) error { return nil }); err == nil {
		t.Error("the store goes on")
	}
}
