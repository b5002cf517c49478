package sessions_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/authkeys"
	"posthorn/sessions"
)

// What an account or a key is no longer allowed, its sessions are not, at once.
func TestEnds(t *testing.T) {
	setPassword := func(password string) func(*house, *accounts.Account, authkeys.Fingerprint) error {
		return func(h *house, a *accounts.Account, _ authkeys.Fingerprint) error {
			return h.Accounts.SetPassword(h.t.Context(), a.ID, password)
		}
	}
	change := func(edit func(k *authkeys.Key)) func(*house, *accounts.Account, authkeys.Fingerprint) error {
		return func(h *house, _ *accounts.Account, f authkeys.Fingerprint) error {
			_, err := h.Keys.Change(h.t.Context(), f, func(k *authkeys.Key) error { edit(k); return nil })
			return err
		}
	}
	for name, end := range map[string]func(h *house, a *accounts.Account, f authkeys.Fingerprint) error{
		"disabled": func(h *house, a *accounts.Account, _ authkeys.Fingerprint) error {
			return h.Accounts.SetDisabled(h.t.Context(), a.ID, true)
		},
		"removed": func(h *house, a *accounts.Account, _ authkeys.Fingerprint) error {
			_, err := h.Accounts.Remove(h.t.Context(), a.ID)
			return err
		},
		"password":    setPassword("another password"),
		"no password": setPassword(""),
		"key removed": func(h *house, _ *accounts.Account, f authkeys.Fingerprint) error {
			_, err := h.Keys.Remove(h.t.Context(), f)
			return err
		},
		"key moved": func(h *house, _ *accounts.Account, f authkeys.Fingerprint) error {
			other := h.account("other@example.org")
			_, err := h.Keys.Remove(h.t.Context(), f)
			return errors.Join(err, h.Keys.Add(h.t.Context(), authkeys.Key{Fingerprint: f, Account: other.ID, Name: "k", Type: "Ed25519"}))
		},
		"key for mail only": change(func(k *authkeys.Key) { k.Scope = authkeys.ScopeIMAP }),
		"key expired": func(h *house, a *accounts.Account, f authkeys.Fingerprint) error {
			err := change(func(k *authkeys.Key) { k.Expires = time.Now().Add(time.Second) })(h, a, f)
			time.Sleep(time.Second)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inHouse(t, func(t *testing.T, h *house) {
				a := h.account("ann@example.org")
				other := h.signIn(by(h.account("eve@example.org")))
				var f authkeys.Fingerprint
				rand.Read(f[:])
				if err := h.Keys.Add(t.Context(), authkeys.Key{Fingerprint: f, Account: a.ID, Name: "k", Type: "Ed25519"}); err != nil {
					t.Fatal(err)
				}
				b := h.signIn(sessions.Session{Account: a.ID, Address: a.Primary(), How: sessions.Key, Key: f})
				if b.current() == nil {
					t.Fatal("no session")
				}
				if err := end(h, a, f); err != nil {
					t.Fatal(err)
				}
				if all, err := h.List(t.Context(), a.ID); err != nil || len(all) != 0 {
					t.Errorf("listed: %v, %v", all, err)
				}
				if b.current() != nil {
					t.Error("the session goes on")
				}
				if other.current() == nil {
					t.Error("so does another account's")
				}
			})
		})
	}
}

// What ends sessions ends those too that are just beginning.
func TestEndsMeanwhile(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for name, c := range map[string]struct{ end, mend func(id string) error }{
		"password": {end: func(id string) error { return h.Accounts.SetPassword(ctx, id, "another password") }},
		"disabled": {
			end:  func(id string) error { return h.Accounts.SetDisabled(ctx, id, true) },
			mend: func(id string) error { return h.Accounts.SetDisabled(ctx, id, false) },
		},
		"removed": {end: func(id string) error { _, err := h.Accounts.Remove(ctx, id); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			a := h.account(name + "@example.org")
			l, err := h.Accounts.NewAuth(accounts.Peer{Scope: authkeys.ScopeHTTPS, TLS: new(tls.ConnectionState)}).Password(ctx, a.Primary(), password)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.end(a.ID); err != nil {
				t.Fatal(err)
			}
			b := &browser{h: h}
			b.request(func(w http.ResponseWriter, r *http.Request) {
				s := by(a)
				s.Stamp = l.PasswordStamp()
				if err := h.SignIn(w, r, s); !errors.Is(err, sessions.ErrNoSession) {
					t.Errorf("signed in: %v", err)
				}
			})
			if c.mend != nil {
				if err := c.mend(a.ID); err != nil {
					t.Fatal(err)
				}
			}
			if all, err := h.List(ctx, a.ID); err != nil || len(all) != 0 || b.cookie != nil {
				t.Errorf("%v, %v, cookie %v", all, err, b.cookie)
			}
			for item, err := range h.KV.Scan(ctx, "session/") {
				t.Errorf("left over: %s, %v", item.Key, err)
			}
		})
	}
}

// What has lost its right when a session of it is there ends that session.
func TestConfirm(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	gone := errors.New("gone")
	for _, want := range []error{gone, nil} {
		b := &browser{h: h}
		b.request(func(w http.ResponseWriter, r *http.Request) {
			s := by(a)
			s.Confirm = func(ctx context.Context) error {
				if all, err := h.List(ctx, a.ID); err != nil || len(all) != 1 {
					t.Errorf("asked before the session can be found: %v, %v", all, err)
				}
				return want
			}
			if err := h.SignIn(w, r, s); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		})
		if all, err := h.List(t.Context(), a.ID); err != nil || (len(all) == 1) != (want == nil) || (b.cookie != nil) != (want == nil) {
			t.Errorf("%v, %v, cookie %v", all, err, b.cookie)
		}
	}
}

// Whoever changes the password stays signed in, under a new token, and nobody else.
func TestRenew(t *testing.T) { inHouse(t, testRenew) }

func testRenew(t *testing.T, h *house) {
	a := h.account("ann@example.org")
	b, other := h.signIn(by(a)), h.signIn(by(a))
	before := b.cookie
	created := b.current().Created
	time.Sleep(time.Minute)
	b.request(func(w http.ResponseWriter, r *http.Request) {
		if err := errors.Join(h.Accounts.SetPassword(r.Context(), a.ID, "another password"), h.Renew(w, r)); err != nil {
			t.Error(err)
		}
	})
	if s := b.current(); s == nil || !s.Created.Equal(created) {
		t.Errorf("%+v, created %s", s, created)
	}
	if other.current() != nil || (&browser{h, before}).current() != nil {
		t.Error("another session goes on")
	}
	(&browser{h: h}).request(func(w http.ResponseWriter, r *http.Request) {
		if err := h.Renew(w, r); !errors.Is(err, sessions.ErrNoSession) {
			t.Errorf("renewed nothing: %v", err)
		}
	})
}

func TestBounded(t *testing.T) { inHouse(t, testBounded) }

func testBounded(t *testing.T, h *house) {
	a := h.account("ann@example.org")
	first := h.signIn(by(a))
	second := h.signIn(by(a))
	for range 49 {
		time.Sleep(time.Second)
		h.signIn(by(a))
	}
	if all, err := h.List(t.Context(), a.ID); err != nil || len(all) != 50 {
		t.Errorf("%d sessions, %v", len(all), err)
	}
	if (first.current() == nil) == (second.current() == nil) {
		t.Error("one of the oldest two was to go")
	}
}

// Run forgets the sessions of an account that is disabled, so that enabling it
// does not bring them back.
func TestRun(t *testing.T) { inHouse(t, testRun) }

func testRun(t *testing.T, h *house) {
	a := h.account("ann@example.org")
	old := h.signIn(by(a))
	time.Sleep(time.Hour)
	b := h.signIn(by(a))
	accountstest.Run(t, h.Manager.Run)
	if synctest.Wait(); h.Count("session/") != 2 {
		t.Error("an idle session is not swept")
	}
	if err := h.Accounts.SetDisabled(t.Context(), a.ID, true); err != nil {
		t.Fatal(err)
	}
	if synctest.Wait(); h.Count("session/") != 0 {
		t.Error("a disabled account has sessions")
	}
	if err := h.Accounts.SetDisabled(t.Context(), a.ID, false); err != nil {
		t.Fatal(err)
	}
	if b.current() != nil || old.current() != nil {
		t.Error("a session is back")
	}
}
