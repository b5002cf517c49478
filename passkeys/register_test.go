package passkeys_test

import (
	"errors"
	"strings"
	"testing"

	"posthorn/accounts"
	"posthorn/passkeys"
)

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
	signIn, id, _ = h.BeginSignIn(here)
	creation := *options // with the challenge of one for signing in
	creation.Response.Challenge = signIn.Response.Challenge
	if _, err := h.FinishRegistration(ctx, here, "", id, "Nobody", newAuthenticator(t).create(&creation, here.Origin)); !errors.Is(err, passkeys.ErrRefused) {
		t.Errorf("nobody's: %v", err)
	}
	elsewhere, _, err := h.BeginRegistration(ctx, visit("other.example.org"), a.ID, a.Primary())
	if err != nil || len(elsewhere.Response.CredentialExcludeList) != 0 {
		t.Errorf("on another host %v is excluded, %v", elsewhere.Response.CredentialExcludeList, err)
	}
	for _, name := range []string{"", "\u3164", "x\u3164", "\u115f", "\uffa0", "\u2800", "\u034f", "\ufe0f", "\u0301", " x", "x\n", "x\x00", strings.Repeat("x", 101), "\u202eevil", "\xff"} {
		if _, err := h.register(a, newAuthenticator(t), name); !errors.Is(err, passkeys.ErrName) {
			t.Errorf("name %.20q: %v", name, err)
		}
	}
	for _, name := range []string{"x", "Ann’s phone ❤\ufe0f", "전화", "e\u0301", "👍🏽", "<b>", strings.Repeat("ß", 100)} {
		if err := passkeys.CheckName(name); err != nil {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for _, host := range []string{"", "192.0.2.1", "::1"} {
		if _, _, err := h.BeginSignIn(passkeys.Visit{Host: host, Origin: "https://" + host}); !errors.Is(err, passkeys.ErrHost) {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

// Who is removed while registering leaves nothing behind.
func TestRemovedMeanwhile(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	options, id, err := h.BeginRegistration(t.Context(), here, a.ID, a.Primary())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Accounts.Remove(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.FinishRegistration(t.Context(), here, a.ID, id, "Late", newAuthenticator(t).create(options, here.Origin)); !errors.Is(err, accounts.ErrNoAccount) {
		t.Error(err)
	}
	if n := h.Count("passkey/"); n != 0 {
		t.Errorf("%d records", n)
	}
}
