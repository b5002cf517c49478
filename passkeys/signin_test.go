package passkeys_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/passkeys"
)

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

	creation, id, err := h.BeginRegistration(ctx, here, a.ID, a.Primary())
	if err != nil {
		t.Fatal(err)
	}
	mixed := *options // with the challenge of one for registering
	mixed.Response.Challenge = creation.Response.Challenge
	if _, _, err := h.FinishSignIn(ctx, here, id, device.get(&mixed, here.Origin)); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("a ceremony for registering: %v", err)
	}
	for _, garbage := range []string{"", "{}", "null", "[]", `{"id":"x"}`, strings.Repeat("[", 60_000)} {
		_, id, _ := h.BeginSignIn(here)
		if _, _, err := h.FinishSignIn(ctx, here, id, []byte(garbage)); !errors.Is(err, passkeys.ErrRefused) {
			t.Errorf("%.20q: %v", garbage, err)
		}
	}

	if err := h.Accounts.SetDisabled(ctx, a.ID, true); err != nil {
		t.Fatal(err)
	}
	if p, who, err := h.signIn(device); !errors.Is(err, passkeys.ErrRefused) || p != nil || who == nil {
		t.Errorf("disabled: %+v, %+v, %v", p, who, err)
	}
	if err := h.Accounts.SetDisabled(ctx, a.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.signIn(device); err != nil {
		t.Errorf("the right one, after all that: %v", err)
	}
}

// An answer that takes five minutes is too late.
func TestLate(t *testing.T) { inHouse(t, testLate) }

func testLate(t *testing.T, h *house) {
	device, _ := h.registered(h.account("ann@example.org"))
	for _, c := range []struct {
		after time.Duration
		want  error
	}{{5*time.Minute - time.Second, nil}, {5 * time.Minute, passkeys.ErrRefused}} {
		options, id, err := h.BeginSignIn(here)
		if err != nil {
			t.Fatal(err)
		}
		response := device.get(options, here.Origin)
		time.Sleep(c.after)
		if _, _, err := h.FinishSignIn(t.Context(), here, id, response); !errors.Is(err, c.want) {
			t.Errorf("after %v: %v", c.after, err)
		}
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
