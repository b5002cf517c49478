package sessions_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/sessions"
	"posthorn/store"
	"posthorn/store/badgerkv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a gateway's accounts with their sessions. Time passes when a test says so.
type house struct {
	*sessions.Manager
	t        testing.TB
	kv       store.KV
	accounts *accounts.Store
	keys     *authkeys.Store

	mu  sync.Mutex // guards now
	now time.Time
}

func newHouse(t testing.TB) *house {
	t.Helper()
	kv, err := badgerkv.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	h := &house{t: t, kv: kv, keys: authkeys.New(kv), now: time.Now().Truncate(time.Second)}
	if h.accounts, err = accounts.New(t.Context(), kv, h.keys, accounts.Options{}); err != nil {
		t.Fatal(err)
	}
	h.Manager = sessions.New(sessions.Config{Store: kv, Accounts: h.accounts, Keys: h.keys, Log: zerolog.Nop(), Now: func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.now
	}})
	return h
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func (h *house) account(address string) *accounts.Account {
	h.t.Helper()
	a, err := h.accounts.Add(h.t.Context(), address, "a long password")
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// browser is somebody's cookie, and what it led to.
type browser struct {
	h      *house
	cookie *http.Cookie
}

// request sends the cookie with a request that f serves, and keeps what comes back.
func (b *browser) request(f func(w http.ResponseWriter, r *http.Request)) *http.Response {
	b.h.t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "https://example.org/account/", nil)
	r.Header.Set("User-Agent", "Test/1.0 \x1b[31m\u202e"+strings.Repeat("x", 10_000))
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	b.h.Wrap(http.HandlerFunc(f)).ServeHTTP(w, r)
	resp := w.Result()
	for _, c := range resp.Cookies() {
		if c.Name == sessions.Cookie {
			b.cookie = c
			if c.MaxAge < 0 {
				b.cookie = nil
			}
		}
	}
	return resp
}

func (h *house) signIn(s sessions.Session) *browser {
	h.t.Helper()
	b := &browser{h: h}
	b.signIn(s)
	return b
}

func (b *browser) signIn(s sessions.Session) {
	b.h.t.Helper()
	b.request(func(w http.ResponseWriter, r *http.Request) {
		if err := b.h.SignIn(w, r, s); err != nil {
			b.h.t.Error(err)
		}
	})
}

// current returns the browser's session; nil: it has none.
func (b *browser) current() (current *sessions.Session) {
	b.h.t.Helper()
	b.request(func(_ http.ResponseWriter, r *http.Request) { current, _ = sessions.Current(r.Context()) })
	return current
}

func by(a *accounts.Account) sessions.Session {
	return sessions.Session{Account: a.ID, Address: a.Primary(), How: sessions.Password}
}

func TestSignIn(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	b := h.signIn(by(a))
	c := b.cookie
	if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie %v", c)
	}
	s := b.current()
	if s == nil || s.Account != a.ID || s.Owner.Primary() != "ann@example.org" || s.How != sessions.Password || s.Remote != "192.0.2.1" {
		t.Fatalf("%+v", s)
	}
	if !strings.HasPrefix(s.UserAgent, "Test/1.0 [31mxxx") || len(s.UserAgent) > 200 {
		t.Errorf("user agent %q", s.UserAgent)
	}
	for item, err := range h.kv.Scan(t.Context(), "") {
		if err != nil || strings.Contains(item.Key+string(item.Value), c.Value) {
			t.Errorf("the store holds the token under %s (%v)", item.Key, err)
		}
	}
	b.request(func(w http.ResponseWriter, r *http.Request) {
		if err := h.SignOut(w, r); err != nil {
			t.Error(err)
		}
	})
	if b.cookie != nil {
		t.Error("the cookie stays after signing out")
	}
	b.cookie = c
	if b.current() != nil {
		t.Error("the token works after signing out")
	}
}

// A token that somebody has planted becomes nobody's, and the one before a sign-in
// is of no use after it.
func TestFixation(t *testing.T) {
	h := newHouse(t)
	a, eve := h.account("ann@example.org"), h.account("eve@example.org")
	for name, planted := range map[string]*http.Cookie{
		"made up":    {Name: sessions.Cookie, Value: strings.Repeat("A", 43)},
		"of another": h.signIn(by(eve)).cookie,
		"long":       {Name: sessions.Cookie, Value: strings.Repeat("A", 10_000)},
		"empty":      {Name: sessions.Cookie},
	} {
		b := &browser{h, planted}
		b.signIn(by(a))
		if b.cookie.Value == planted.Value {
			t.Errorf("%s: the token stays", name)
		}
		if s := b.current(); s == nil || s.Account != a.ID {
			t.Errorf("%s: %+v", name, s)
		}
		if s := (&browser{h, planted}).current(); s != nil {
			t.Errorf("%s: the planted token has session %+v", name, s)
		}
	}
	unprefixed := h.signIn(by(a)).cookie
	unprefixed.Name = "posthorn"
	if (&browser{h, unprefixed}).current() != nil {
		t.Error("a cookie without the prefix counts")
	}
}

func TestExpiry(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	idle, busy := h.signIn(by(a)), h.signIn(by(a))
	for range 24 {
		h.pass(29*time.Minute + 30*time.Second)
		if busy.current() == nil {
			t.Fatal("a busy session ends")
		}
	}
	if cookie := idle.cookie; idle.current() != nil || idle.cookie != nil {
		t.Errorf("an idle session goes on: %v", cookie)
	}
	h.pass(20 * time.Minute)
	if busy.current() != nil {
		t.Error("a session outlives 12 hours")
	}
	if all, err := h.List(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// Requests do not write to the store each time.
func TestSeenRarely(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	b := h.signIn(by(a))
	ctx, cancel := context.WithCancel(t.Context())
	changes, err := h.kv.Watch(ctx, "session/")
	if err != nil {
		t.Fatal(err)
	}
	for range 119 {
		h.pass(time.Second)
		b.current()
	}
	if s := b.current(); s == nil || h.now.Sub(s.LastSeen) > time.Minute {
		t.Errorf("%+v", s)
	}
	if err := h.kv.Update(ctx, func(tx store.Tx) error { return tx.Put("session/end", nil) }); err != nil {
		t.Fatal(err)
	}
	writes := 0
	for item, err := range changes {
		if err != nil || item.Key == "session/end" {
			break
		}
		writes++
	}
	cancel()
	if writes != 1 {
		t.Errorf("%d writes in two minutes", writes)
	}
}

// What an account or a key is no longer allowed, its sessions are not, at once.
func TestEnds(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	newKey := func(a *accounts.Account, scope authkeys.Scope) (f authkeys.Fingerprint) {
		rand.Read(f[:])
		if err := h.keys.Add(ctx, authkeys.Key{Fingerprint: f, Account: a.ID, Name: "k", Type: "Ed25519", Scope: scope}); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for name, end := range map[string]func(a *accounts.Account, f authkeys.Fingerprint) error{
		"disabled": func(a *accounts.Account, _ authkeys.Fingerprint) error {
			return h.accounts.SetDisabled(ctx, a.ID, true)
		},
		"removed": func(a *accounts.Account, _ authkeys.Fingerprint) error {
			_, err := h.accounts.Remove(ctx, a.ID)
			return err
		},
		"password": func(a *accounts.Account, _ authkeys.Fingerprint) error {
			return h.accounts.SetPassword(ctx, a.ID, "another password")
		},
		"no password": func(a *accounts.Account, _ authkeys.Fingerprint) error { return h.accounts.SetPassword(ctx, a.ID, "") },
		"key removed": func(_ *accounts.Account, f authkeys.Fingerprint) error { _, err := h.keys.Remove(ctx, f); return err },
		"key for mail only": func(_ *accounts.Account, f authkeys.Fingerprint) error {
			_, err := h.keys.Change(ctx, f, func(k *authkeys.Key) error { k.Scope = authkeys.ScopeIMAP; return nil })
			return err
		},
		"key expired": func(_ *accounts.Account, f authkeys.Fingerprint) error {
			_, err := h.keys.Change(ctx, f, func(k *authkeys.Key) error { k.Expires = h.now.Add(time.Second); return nil })
			h.pass(time.Second)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := h.account(strings.ReplaceAll(name, " ", "") + "@example.org")
			other := h.signIn(by(h.account("not" + strings.ReplaceAll(name, " ", "") + "@example.org")))
			f := newKey(a, 0)
			b := h.signIn(sessions.Session{Account: a.ID, Address: a.Primary(), How: sessions.Key, Key: f})
			if b.current() == nil {
				t.Fatal("no session")
			}
			if err := end(a, f); err != nil {
				t.Fatal(err)
			}
			if all, err := h.List(ctx, a.ID); err != nil || len(all) != 0 {
				t.Errorf("listed: %v, %v", all, err)
			}
			if b.current() != nil {
				t.Error("the session goes on")
			}
			if other.current() == nil {
				t.Error("so does another account's")
			}
		})
	}
}

// What ends sessions ends those too that are just beginning.
func TestEndsMeanwhile(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for name, c := range map[string]struct{ end, mend func(id string) error }{
		"password": {end: func(id string) error { return h.accounts.SetPassword(ctx, id, "another password") }},
		"disabled": {
			end:  func(id string) error { return h.accounts.SetDisabled(ctx, id, true) },
			mend: func(id string) error { return h.accounts.SetDisabled(ctx, id, false) },
		},
		"removed": {end: func(id string) error { _, err := h.accounts.Remove(ctx, id); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			a := h.account(name + "@example.org")
			l, err := h.accounts.NewAuth(accounts.Peer{Scope: authkeys.ScopeHTTPS, TLS: new(tls.ConnectionState)}).Password(ctx, a.Primary(), "a long password")
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
			for item, err := range h.kv.Scan(ctx, "session/") {
				t.Errorf("left over: %s, %v", item.Key, err)
			}
		})
	}
}

// Whoever changes the password stays signed in, under a new token, and nobody else.
func TestRenew(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	b, other := h.signIn(by(a)), h.signIn(by(a))
	before := b.cookie
	created := b.current().Created
	h.pass(time.Minute)
	b.request(func(w http.ResponseWriter, r *http.Request) {
		if err := errors.Join(h.accounts.SetPassword(r.Context(), a.ID, "another password"), h.Renew(w, r)); err != nil {
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
func TestRevokedMeanwhile(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	b := h.signIn(by(a))
	h.pass(2 * time.Minute) // so that the request notes its time
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
	for item, err := range h.kv.Scan(t.Context(), "session/") {
		t.Errorf("the store has %s (%v)", item.Key, err)
	}
}

func TestBounded(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	first := h.signIn(by(a))
	second := h.signIn(by(a))
	for range 49 {
		h.pass(time.Second)
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
func TestRun(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	old := h.signIn(by(a))
	h.pass(time.Hour)
	b := h.signIn(by(a))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	eventually(t, "idle sessions are swept", func() bool { return count(t, h.kv) == 2 })
	if err := h.accounts.SetDisabled(ctx, a.ID, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a disabled account has no sessions", func() bool { return count(t, h.kv) == 0 })
	if err := h.accounts.SetDisabled(ctx, a.ID, false); err != nil {
		t.Fatal(err)
	}
	if b.current() != nil || old.current() != nil {
		t.Error("a session is back")
	}
}

func count(t *testing.T, kv store.KV) (n int) {
	for _, err := range kv.Scan(t.Context(), "session/") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// A store that fails is not taken for nobody being signed in.
func TestUnavailable(t *testing.T) {
	h := newHouse(t)
	b := h.signIn(by(h.account("ann@example.org")))
	h.kv.Close()
	cookie := b.cookie
	resp := b.request(func(http.ResponseWriter, *http.Request) { t.Error("served") })
	if resp.StatusCode != 503 || b.cookie != cookie {
		t.Errorf("%d, cookie %v", resp.StatusCode, b.cookie)
	}
}

func BenchmarkWrap(b *testing.B) {
	h := newHouse(b)
	s := h.signIn(by(h.account("ann@example.org")))
	for range b.N {
		if s.current() == nil {
			b.Fatal("no session")
		}
	}
	fmt.Fprint(httptest.NewRecorder(), s)
}
