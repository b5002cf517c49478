package accounts_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/store"
	"posthorn/store/storetest"
)

func TestKeyAndPassword(t *testing.T) {
	expired := time.Now().Add(-time.Second)
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	alice := d.add("alice@example.org", password, "ally@example.org")
	d.add("bob@example.org", password)
	carol := d.add("carol@example.org", password)
	carols := d.key(carol)
	if err := d.SetDisabled(ctx, carol.ID, true); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		key      authkeys.Fingerprint
		user     string
		password string
		want     accounts.Reason
	}{
		{"same account", d.key(alice), "alice@example.org", password, ""},
		{"its other address", d.key(alice), "Ally@example.org", password, ""},
		{"other account", d.key(alice), "bob@example.org", password, accounts.OtherAccount},
		{"other account, wrong password", d.key(alice), "bob@example.org", "guess", accounts.WrongPassword},
		{"unknown account", d.key(alice), "nobody@example.org", "guess", accounts.UnknownUser},
		{"other disabled account", d.key(alice), "carol@example.org", password, accounts.Disabled},
		{"unknown key", newFingerprint(), "bob@example.org", password, ""},
		{"expired key", d.key(alice, func(k *authkeys.Key) { k.Expires = expired }), "bob@example.org", password, ""},
		{"key out of scope", d.key(alice, func(k *authkeys.Key) { k.Scope = authkeys.ScopeHTTPS }), "bob@example.org", password, ""},
		{"no-preauth key", d.key(alice, func(k *authkeys.Key) { k.NoPreauth = true }), "bob@example.org", password, accounts.OtherAccount},
		{"key of a disabled account", carols, "bob@example.org", password, ""},
		{"key and password of a disabled account", carols, "carol@example.org", password, accounts.Disabled},
	} {
		for _, how := range []struct {
			name string
			do   func(*accounts.Auth) (*accounts.Login, error)
		}{
			{"Password", func(a *accounts.Auth) (*accounts.Login, error) { return a.Password(ctx, c.user, c.password) }},
			{"PLAIN", func(a *accounts.Auth) (*accounts.Login, error) {
				return exchange(ctx, a, sasl.NewPlainClient("", c.user, c.password), false)
			}},
			{"SCRAM", func(a *accounts.Auth) (*accounts.Login, error) {
				return exchange(ctx, a, newScram(t, "SCRAM-SHA-256", c.user, c.password, "", unbound), false)
			}},
		} {
			l, err := how.do(d.NewAuth(peer(home, c.key)))
			wantReason(t, c.name+" by "+how.name, err, c.want)
			if err == nil && !l.Account.Has(c.user) {
				t.Errorf("%s: logged in as %+v", c.name, l)
			}
			if _, err := d.Unblock(home.String()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestStoreFails: trouble is not taken for wrong credentials.
func TestStoreFails(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	alice := d.add("alice@example.org", password)
	p := peer(home, d.key(alice))
	keyed, anonymous := d.NewAuth(p), d.NewAuth(peer(home, noKey))
	l, err := keyed.Key(ctx)
	if err != nil {
		t.Fatal(err)
	}
	x, err := keyed.Start(ctx, "EXTERNAL")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.kv.Close(); err != nil {
		t.Fatal(err)
	}
	_, keyErr := keyed.Key(ctx)
	_, passwordErr := anonymous.Password(ctx, "alice@example.org", password)
	_, startErr := keyed.Start(ctx, "EXTERNAL")
	_, _, nextErr := x.Next([]byte{})
	_, scramErr := exchange(ctx, anonymous, newScram(t, "SCRAM-SHA-256", "alice@example.org", password, "", unbound), false)
	for what, err := range map[string]error{
		"Key": keyErr, "Password": passwordErr, "Start": startErr, "EXTERNAL": nextErr, "SCRAM": scramErr, "Check": d.Check(ctx, l),
	} {
		var refused *accounts.RefusedError
		if err == nil || errors.As(err, &refused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := strings.Join(keyed.Mechanisms(ctx), " "); got != "SCRAM-SHA-256 PLAIN LOGIN" {
		t.Errorf("mechanisms: %s", got)
	}
}

// TestStoreFailsPartly: a record that cannot be read is no verdict on a password,
// and no failure to be counted; a key that cannot be looked up is not left out.
func TestStoreFailsPartly(t *testing.T) {
	for _, prefix := range []string{authkeys.Prefix, accounts.Prefix, "address/", "password/"} {
		t.Run(prefix, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kv := &hookedKV{KV: storetest.Memory(t)}
				d := openDoor(t, kv, accounts.Options{})
				key := d.key(d.add("alice@example.org", password))
				broken := errors.New("broken")
				kv.get = func(name string) error {
					if strings.HasPrefix(name, prefix) {
						return broken
					}
					return nil
				}
				start := time.Now()
				for range 100 {
					_, err := d.NewAuth(peer(home, key)).Password(t.Context(), "alice@example.org", password)
					if isRefused(err) || !errors.Is(err, broken) {
						t.Fatal(err)
					}
				}
				kv.get = nil
				if got := d.guess(home, key, "alice@example.org", password); got != "" || time.Since(start) != 0 {
					t.Errorf("afterwards: %q, after %v", got, time.Since(start))
				}
			})
		})
	}
}

func isRefused(err error) bool {
	var refused *accounts.RefusedError
	return errors.As(err, &refused)
}

// hookedKV asks before it gets.
type hookedKV struct {
	store.KV
	get func(key string) error // nil: nobody is asked
}

func (k *hookedKV) Get(ctx context.Context, key string) ([]byte, error) {
	if k.get != nil {
		if err := k.get(key); err != nil {
			return nil, err
		}
	}
	return k.KV.Get(ctx, key)
}

// TestAddressMoves: an address that is given to another account while it is looked
// up leads nowhere, and not to whom it was taken from.
func TestAddressMoves(t *testing.T) {
	kv := &hookedKV{KV: storetest.Memory(t)}
	d, ctx := openDoor(t, kv, accounts.Options{}), t.Context()
	alice, bob := d.add("alice@example.org", password, "info@example.org"), d.add("bob@example.org", "")
	kv.get = func(key string) error {
		if key != accounts.Prefix+alice.ID {
			return nil
		}
		kv.get = nil
		if err := d.RemoveAddress(ctx, alice.ID, "info@example.org"); err != nil {
			return err
		}
		return d.AddAddress(ctx, bob.ID, "info@example.org")
	}
	if got := d.guess(home, noKey, "info@example.org", password); got != accounts.UnknownUser {
		t.Errorf("meanwhile: %q", got)
	}
	if a, err := d.ByAddress(ctx, "info@example.org"); err != nil || a.ID != bob.ID {
		t.Errorf("afterwards: %+v, %v", a, err)
	}
}

func TestKey(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	d, ctx := newDoor(t, accounts.Options{Now: func() time.Time { return now }}), t.Context()
	alice := d.add("alice@example.org", "", "al@example.org")
	gone := d.add("gone@example.org", "")
	off := d.add("off@example.org", "")
	keys := map[string]authkeys.Fingerprint{
		"good":       d.key(alice),
		"no-preauth": d.key(alice, func(k *authkeys.Key) { k.NoPreauth = true }),
		"unexpired":  d.key(alice, func(k *authkeys.Key) { k.Expires = now.Add(time.Second) }),
		"expired":    d.key(alice, func(k *authkeys.Key) { k.Expires = now }),
		"imap":       d.key(alice, func(k *authkeys.Key) { k.Scope = authkeys.ScopeIMAP }),
		"smtp":       d.key(alice, func(k *authkeys.Key) { k.Scope = authkeys.ScopeSMTP }),
		"gone":       d.key(gone),
		"off":        d.key(off),
		"unknown":    newFingerprint(),
		"none":       noKey,
	}
	if _, err := d.Remove(ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	if err := d.SetDisabled(ctx, off.ID, true); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]accounts.Reason{
		"good": "", "no-preauth": "", "unexpired": "", "imap": "",
		"expired": accounts.ExpiredKey, "smtp": accounts.ScopedKey, "gone": accounts.UnknownKey,
		"off": accounts.Disabled, "unknown": accounts.UnknownKey, "none": accounts.NoKey,
	} {
		key := keys[name]
		l, err := d.NewAuth(peer(home, key)).Key(ctx)
		wantReason(t, name, err, want)
		if err != nil {
			continue
		}
		if l.Account.ID != alice.ID || l.Address != "alice@example.org" || l.Mechanism != "PREAUTH" || l.Key != key || l.NoPreauth != (name == "no-preauth") {
			t.Errorf("%s: %+v", name, l)
		}
		if l.Expires.IsZero() != (name != "unexpired") {
			t.Errorf("%s: expires %v", name, l.Expires)
		}
	}
	everything := peer(home, keys["imap"])
	everything.Scope = 0
	_, err := d.NewAuth(everything).Key(ctx)
	wantReason(t, "a scoped key for a peer that names no protocol", err, accounts.ScopedKey)
}

// TestCheck changes things under a login.
func TestCheck(t *testing.T) {
	type login struct {
		*door
		alice, bob *accounts.Account
		key        authkeys.Fingerprint
		now        time.Time
	}
	change := func(fn func(*authkeys.Key)) func(*login) error {
		return func(l *login) error {
			_, err := l.keys.Change(t.Context(), l.key, func(k *authkeys.Key) error { fn(k); return nil })
			return err
		}
	}
	for _, c := range []struct {
		name        string
		do          func(l *login) error
		byKey, byPw accounts.Reason
	}{
		{"nothing", func(*login) error { return nil }, "", ""},
		{"account disabled", func(l *login) error { return l.SetDisabled(t.Context(), l.alice.ID, true) }, accounts.Disabled, accounts.Disabled},
		{"account removed", func(l *login) error { _, err := l.Remove(t.Context(), l.alice.ID); return err }, accounts.UnknownKey, accounts.UnknownUser},
		{"password changed", func(l *login) error { return l.SetPassword(t.Context(), l.alice.ID, "new") }, "", accounts.WrongPassword},
		{"password set anew", func(l *login) error { return l.SetPassword(t.Context(), l.alice.ID, password) }, "", accounts.WrongPassword},
		{"password removed", func(l *login) error { return l.SetPassword(t.Context(), l.alice.ID, "") }, "", accounts.WrongPassword},
		{"another's password changed", func(l *login) error { return l.SetPassword(t.Context(), l.bob.ID, "new") }, "", ""},
		{"account moved", func(l *login) error { return l.SetBackend(t.Context(), l.alice.ID, "mail") }, accounts.Moved, accounts.Moved},
		{"key removed", func(l *login) error { _, err := l.keys.Remove(t.Context(), l.key); return err }, accounts.UnknownKey, ""},
		{"key moved", func(l *login) error {
			if _, err := l.keys.Remove(t.Context(), l.key); err != nil {
				return err
			}
			return l.keys.Add(t.Context(), authkeys.Key{Fingerprint: l.key, Account: l.bob.ID, Type: "Ed25519"})
		}, accounts.UnknownKey, ""},
		{"key descoped", change(func(k *authkeys.Key) { k.Scope = authkeys.ScopeSMTP }), accounts.ScopedKey, ""},
		{"key expired since", func(l *login) error { l.now = l.now.Add(time.Hour); return nil }, accounts.ExpiredKey, ""},
		{"key prolonged", change(func(k *authkeys.Key) { k.Expires = time.Time{} }), "", ""},
		{"address removed", func(l *login) error { return l.RemoveAddress(t.Context(), l.alice.ID, "alice@example.org") }, "", ""},
		{"address added", func(l *login) error { return l.AddAddress(t.Context(), l.alice.ID, "ally@example.org") }, "", ""},
	} {
		check := func(t *testing.T, kv store.KV) {
			st := &login{now: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)}
			st.door = openDoor(t, kv, accounts.Options{Now: func() time.Time { return st.now }})
			st.alice, st.bob = st.add("alice@example.org", password, "al@example.org"), st.add("bob@example.org", password)
			st.key = st.door.key(st.alice, func(k *authkeys.Key) { k.Expires = st.now.Add(time.Minute) })
			a := st.NewAuth(peer(home, st.key))
			byKey, err := a.Key(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			byPw, err := a.Password(t.Context(), "alice@example.org", password)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.do(st); err != nil {
				t.Fatal(err)
			}
			for l, want := range map[*accounts.Login]accounts.Reason{byKey: c.byKey, byPw: c.byPw} {
				err := st.Check(t.Context(), l)
				wantReason(t, l.Mechanism, err, want)
				if err == nil {
					st.wantCurrent(l, c.name)
				}
			}
		}
		t.Run(c.name, func(t *testing.T) { check(t, storetest.Memory(t)) })
		t.Run(c.name+" in a store without versions", func(t *testing.T) { check(t, &hookedKV{KV: storetest.Memory(t)}) })
	}
}

// wantCurrent checks that a login shows its account as it is.
func (d *door) wantCurrent(l *accounts.Login, after string) {
	d.t.Helper()
	now, err := d.Get(d.t.Context(), l.Account.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	if len(now.Addresses) != len(l.Account.Addresses) || !l.Account.Has(l.Address) {
		d.t.Errorf("%s: %s logged in as %s of %q", after, l.Mechanism, l.Address, l.Account.Addresses)
	}
	if !l.Key.IsZero() && l.Expires.IsZero() != (after == "key prolonged") {
		d.t.Errorf("%s: expires %v", after, l.Expires)
	}
}

// TestKeyUses: a login by key is noted, showing one is not.
func TestKeyUses(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	alice := d.add("alice@example.org", password)
	external, preauth, shown := d.key(alice), d.key(alice), d.key(alice, func(k *authkeys.Key) { k.NoPreauth = true })
	if _, err := exchange(ctx, d.NewAuth(peer(home, external)), sasl.NewExternalClient(""), false); err != nil {
		t.Fatal(err)
	}
	if _, err := d.NewAuth(peer(home, preauth)).Key(ctx); err != nil {
		t.Fatal(err)
	}
	a := d.NewAuth(peer(home, shown))
	if l, err := a.Key(ctx); err != nil || !l.NoPreauth || a.Mechanisms(ctx)[0] != "EXTERNAL" {
		t.Fatal(l, err)
	}
	d.writeUses()
	for key, want := range map[authkeys.Fingerprint]string{external: "imap EXTERNAL", preauth: "imap PREAUTH", shown: ""} {
		k, err := d.keys.Lookup(ctx, key)
		if err != nil || k.LastUse != want || k.LastUsed.IsZero() != (want == "") {
			t.Errorf("last use %q at %v, %v; want %q", k.LastUse, k.LastUsed, err, want)
		}
	}
}

// writeUses makes the map of keys write down what it has noted.
func (d *door) writeUses() {
	d.t.Helper()
	ended, end := context.WithCancel(d.t.Context())
	end()
	if err := d.keys.Run(ended); err != nil && !errors.Is(err, context.Canceled) {
		d.t.Fatal(err)
	}
}
