package passkeys_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/passkeys"
	"posthorn/store"
	"posthorn/store/badgerkv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a gateway's accounts with their passkeys.
type house struct {
	*passkeys.Store
	t        testing.TB
	kv       store.KV
	accounts *accounts.Store

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
	h := &house{t: t, kv: kv, now: time.Now()}
	if h.accounts, err = accounts.New(t.Context(), kv, authkeys.New(kv), accounts.Options{}); err != nil {
		t.Fatal(err)
	}
	h.Store = passkeys.New(passkeys.Config{Store: kv, Accounts: h.accounts, Log: zerolog.Nop(), Now: func() time.Time {
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
	a, err := h.accounts.Add(h.t.Context(), address, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

func visit(host string) passkeys.Visit {
	return passkeys.Visit{Host: host, Origin: "https://" + host + ":8443", Source: netip.MustParseAddr("192.0.2.1")}
}

var here = visit("mail.example.org")

func (h *house) register(a *accounts.Account, device *authenticator, name string) (*passkeys.Passkey, error) {
	h.t.Helper()
	options, id, err := h.BeginRegistration(h.t.Context(), here, a.ID, a.Primary())
	if err != nil {
		h.t.Fatal(err)
	}
	return h.FinishRegistration(h.t.Context(), here, a.ID, id, name, device.create(options, here.Origin))
}

// registered returns a device that holds a passkey for an account.
func (h *house) registered(a *accounts.Account) (*authenticator, *passkeys.Passkey) {
	h.t.Helper()
	device := newAuthenticator(h.t)
	p, err := h.register(a, device, "Phone")
	if err != nil {
		h.t.Fatal(err)
	}
	return device, p
}

func (h *house) signIn(device *authenticator) (*passkeys.Passkey, *accounts.Account, error) {
	h.t.Helper()
	options, id, err := h.BeginSignIn(here)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.FinishSignIn(h.t.Context(), here, id, device.get(options, here.Origin))
}

func TestPasskey(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a := h.account("ann@example.org")
	device, p := h.registered(a)
	if p.Name != "Phone" || p.Host != here.Host || p.Account != a.ID || p.Synced {
		t.Errorf("%+v", p)
	}
	for range 3 {
		got, who, err := h.signIn(device)
		if err != nil || who.ID != a.ID || got.ID != p.ID || got.LastUsed.IsZero() {
			t.Fatalf("%+v, %+v, %v", got, who, err)
		}
	}
	if err := h.Rename(ctx, a.ID, p.ID, "Old phone"); err != nil {
		t.Error(err)
	}
	if all, err := h.List(ctx, a.ID); err != nil || len(all) != 1 || all[0].Name != "Old phone" {
		t.Errorf("%v, %v", all, err)
	}
	if err := h.Remove(ctx, a.ID, p.ID); err != nil {
		t.Error(err)
	}
	if _, _, err := h.signIn(device); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("a removed passkey: %v", err)
	}
	if err := h.Remove(ctx, a.ID, p.ID); !errors.Is(err, passkeys.ErrNoPasskey) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := h.register(a, device, "Again"); err != nil {
		t.Errorf("registered again: %v", err)
	}
}

// Everything that an attacker can bring is refused, and the right one works after it.
func TestSignInRefused(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a, eve := h.account("ann@example.org"), h.account("eve@example.org")
	device, _ := h.registered(a)
	evil, _ := h.registered(eve)

	for name, change := range map[string]func(d *authenticator){
		"another origin":          func(d *authenticator) { d.origin = "https://evil.example" },
		"another port":            func(d *authenticator) { d.origin = "https://" + here.Host },
		"without TLS":             func(d *authenticator) { d.origin = "http://" + here.Host + ":8443" },
		"another site's":          func(d *authenticator) { d.rpID = "example.org" },
		"nobody there":            func(d *authenticator) { d.noUser = true },
		"tampered":                func(d *authenticator) { d.tampered = true },
		"another's handle":        func(d *authenticator) { d.handle = []byte(eve.ID) },
		"handle of nobody":        func(d *authenticator) { d.handle = []byte("../" + a.ID) },
		"no handle":               func(d *authenticator) { d.handle = nil },
		"another's ID":            func(d *authenticator) { d.id = evil.id },
		"another's ID and handle": func(d *authenticator) { d.id, d.handle = evil.id, []byte(eve.ID) },
		"unknown key":             func(d *authenticator) { d.key = newAuthenticator(t).key },
		"counter goes back":       func(d *authenticator) { d.counter = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			forged := *device
			change(&forged)
			if p, who, err := h.signIn(&forged); !errors.Is(err, passkeys.ErrRefused) || p != nil || who != nil {
				t.Errorf("%+v, %+v, %v", p, who, err)
			}
		})
	}

	options, id, err := h.BeginSignIn(here)
	if err != nil {
		t.Fatal(err)
	}
	response := device.get(options, here.Origin)
	if _, _, err := h.FinishSignIn(ctx, visit("other.example.org"), id, response); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("on another host: %v", err)
	}
	if _, _, err := h.FinishSignIn(ctx, here, id, response); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("a challenge tried twice: %v", err)
	}

	options, id, _ = h.BeginSignIn(here)
	response = device.get(options, here.Origin)
	if _, who, err := h.FinishSignIn(ctx, here, id, response); err != nil || who.ID != a.ID {
		t.Fatalf("%v, %v", who, err)
	}
	if _, _, err := h.FinishSignIn(ctx, here, id, response); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("replayed: %v", err)
	}
	_, another, _ := h.BeginSignIn(here)
	if _, _, err := h.FinishSignIn(ctx, here, another, response); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("replayed in another ceremony: %v", err)
	}

	options, id, _ = h.BeginSignIn(here)
	response = device.get(options, here.Origin)
	h.pass(5 * time.Minute)
	if _, _, err := h.FinishSignIn(ctx, here, id, response); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("too late: %v", err)
	}
	for _, garbage := range []string{"", "{}", "null", "[]", `{"id":"x"}`, strings.Repeat("[", 60_000)} {
		_, id, _ := h.BeginSignIn(here)
		if _, _, err := h.FinishSignIn(ctx, here, id, []byte(garbage)); !errors.Is(err, passkeys.ErrRefused) {
			t.Errorf("%.20q: %v", garbage, err)
		}
	}

	if err := h.accounts.SetDisabled(ctx, a.ID, true); err != nil {
		t.Fatal(err)
	}
	if p, who, err := h.signIn(device); !errors.Is(err, passkeys.ErrRefused) || p != nil || who == nil {
		t.Errorf("disabled: %+v, %+v, %v", p, who, err)
	}
	if err := h.accounts.SetDisabled(ctx, a.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.signIn(device); err != nil {
		t.Errorf("the right one, after all that: %v", err)
	}
}

func TestRegistrationRefused(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a, eve := h.account("ann@example.org"), h.account("eve@example.org")
	device, _ := h.registered(a)
	if _, err := h.register(eve, device, "Taken"); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("another's passkey: %v", err)
	}

	options, id, err := h.BeginRegistration(ctx, here, a.ID, a.Primary())
	if err != nil {
		t.Fatal(err)
	}
	if len(options.Response.CredentialExcludeList) != 1 {
		t.Errorf("excluded are %v", options.Response.CredentialExcludeList)
	}
	fresh := newAuthenticator(t)
	response := fresh.create(options, here.Origin)
	if _, err := h.FinishRegistration(ctx, here, eve.ID, id, "Stolen", response); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("another account's ceremony: %v", err)
	}
	if _, err := h.FinishRegistration(ctx, here, a.ID, id, "Late", response); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("tried twice: %v", err)
	}
	signIn, id, _ := h.BeginSignIn(here)
	if _, err := h.FinishRegistration(ctx, here, a.ID, id, "Mixed", device.get(signIn, here.Origin)); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("a ceremony for signing in: %v", err)
	}
	if _, err := h.FinishRegistration(ctx, here, "", "", "Nobody", response); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("nobody's: %v", err)
	}
	for _, name := range []string{"", " x", "x\n", "x\x00", strings.Repeat("x", 101), "\u202eevil", "\xff"} {
		if _, err := h.register(a, newAuthenticator(t), name); !errors.Is(err, passkeys.ErrName) {
			t.Errorf("name %.20q: %v", name, err)
		}
	}
	for _, host := range []string{"", "192.0.2.1", "::1"} {
		if _, _, err := h.BeginSignIn(passkeys.Visit{Host: host, Origin: "https://" + host}); !errors.Is(err, passkeys.ErrHost) {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

func TestBounded(t *testing.T) {
	h := newHouse(t)
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
	h.pass(5 * time.Minute)
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

// Of two uses with one counter, as a copy would make them, one is refused.
func TestConcurrent(t *testing.T) {
	h := newHouse(t)
	device, _ := h.registered(h.account("ann@example.org"))
	const n = 8
	var good sync.Map
	var done sync.WaitGroup
	for i := range n {
		options, id, err := h.BeginSignIn(here)
		if err != nil {
			t.Fatal(err)
		}
		twin := *device // all have the same counter
		response := twin.get(options, here.Origin)
		done.Go(func() {
			if _, _, err := h.FinishSignIn(t.Context(), here, id, response); err == nil {
				good.Store(i, true)
			} else if !errors.Is(err, passkeys.ErrRefused) {
				t.Error(err)
			}
		})
	}
	done.Wait()
	count := 0
	good.Range(func(any, any) bool { count++; return true })
	if count != 1 {
		t.Errorf("%d of %d copies sign in", count, n)
	}
}

// Passkeys go with their account.
func TestRun(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithCancel(t.Context())
	before, after, stays := h.account("a@example.org"), h.account("b@example.org"), h.account("c@example.org")
	for _, a := range []*accounts.Account{before, after, stays} {
		h.registered(a)
	}
	if _, err := h.accounts.Remove(ctx, before.ID); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	eventually(t, "orphans are removed", func() bool { return h.count() == 4 })
	if _, err := h.accounts.Remove(ctx, after.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "passkeys go with their account", func() bool { return h.count() == 2 })
}

func (h *house) count() (n int) {
	for _, err := range h.kv.Scan(h.t.Context(), "passkey/") {
		if err != nil {
			h.t.Fatal(err)
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

func FuzzResponses(f *testing.F) {
	h := newHouse(f)
	a := h.account("ann@example.org")
	device, _ := h.registered(a)
	options, _, err := h.BeginSignIn(here)
	if err != nil {
		f.Fatal(err)
	}
	creation, _, err := h.BeginRegistration(f.Context(), here, a.ID, a.Primary())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(device.get(options, here.Origin))
	f.Add(newAuthenticator(f).create(creation, here.Origin))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, response []byte) {
		_, id, err := h.BeginSignIn(here)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.FinishSignIn(t.Context(), here, id, response); !errors.Is(err, passkeys.ErrRefused) {
			t.Errorf("signed in, or %v", err)
		}
		_, id, err = h.BeginRegistration(t.Context(), here, a.ID, a.Primary())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.FinishRegistration(t.Context(), here, a.ID, id, "x", response); !errors.Is(err, passkeys.ErrRefused) {
			t.Errorf("registered, or %v", err)
		}
	})
}
