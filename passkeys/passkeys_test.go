package passkeys_test

import (
	"errors"
	"net/netip"
	"regexp"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/passkeys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a gateway's accounts with their passkeys.
type house struct {
	*passkeys.Store
	*accountstest.House
	t testing.TB
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{House: accountstest.New(t, accounts.Options{}), t: t}
	h.Store = passkeys.New(passkeys.Config{Store: h.KV, Accounts: h.House.Accounts, Log: zerolog.Nop()})
	return h
}

// inHouse runs a test where waiting takes no time.
func inHouse(t *testing.T, test func(t *testing.T, h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newHouse(t)) })
}

func (h *house) account(address string) *accounts.Account {
	h.t.Helper()
	return h.Account(address, "")
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
	// People type IDs behind a command: none may look like one of its flags.
	if !regexp.MustCompile(`^[a-z2-7]{32}$`).MatchString(p.ID) {
		t.Errorf("its ID is %s", p.ID)
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

// Passkeys go with their account.
func TestRun(t *testing.T) { inHouse(t, testRun) }

func testRun(t *testing.T, h *house) {
	ctx := t.Context()
	before, after, stays := h.account("a@example.org"), h.account("b@example.org"), h.account("c@example.org")
	for _, a := range []*accounts.Account{before, after, stays} {
		h.registered(a)
	}
	if _, err := h.Accounts.Remove(ctx, before.ID); err != nil {
		t.Fatal(err)
	}
	accountstest.Run(t, h.Store.Run)
	if synctest.Wait(); h.Count("passkey/") != 4 {
		t.Error("an orphan stays")
	}
	if _, err := h.Accounts.Remove(ctx, after.ID); err != nil {
		t.Fatal(err)
	}
	if synctest.Wait(); h.Count("passkey/") != 2 {
		t.Error("a passkey does not go with its account")
	}
}
