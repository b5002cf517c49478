package admin_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/mux"
	"posthorn/mux/muxtest"
	"posthorn/store"
)

func TestOnlyOperatorsAndOwners(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice, bob := w.account(t, "alice@example.org"), w.account(t, "bob@example.org")
	_, aliceKey := w.key(t, alice.ID)
	_, bobKey := w.key(t, bob.ID)
	nobody, self := admin.Actor{Name: "nobody"}, admin.Actor{Name: "alice", Account: alice.ID}
	yes := true

	tests := []struct {
		name string
		do   func(admin.Actor) error
		self error // what alice is told; nobody is told ErrForbidden, or that it does not exist
	}{
		{"status", func(a admin.Actor) error { _, err := w.Status(ctx, a); return err }, admin.ErrForbidden},
		{"audit", func(a admin.Actor) error { _, err := w.Audit(ctx, a, 0); return err }, admin.ErrForbidden},
		{"backup", func(a admin.Actor) error { return w.Backup(ctx, a, new(strings.Builder)) }, admin.ErrForbidden},
		{"backend list", func(a admin.Actor) error { _, err := w.ListBackends(ctx, a); return err }, admin.ErrForbidden},
		{"own backend", func(a admin.Actor) error { _, err := w.SetBackend(ctx, a, alice.ID, ""); return err }, admin.ErrForbidden},
		{"account list", func(a admin.Actor) error { _, err := w.ListAccounts(ctx, a); return err }, admin.ErrForbidden},
		{"account add", func(a admin.Actor) error {
			_, err := w.AddAccount(ctx, a, admin.NewAccount{Address: "x@example.org"})
			return err
		}, admin.ErrForbidden},
		{"own account", func(a admin.Actor) error { _, err := w.ShowAccount(ctx, a, alice.ID); return err }, nil},
		{"other account", func(a admin.Actor) error { _, err := w.ShowAccount(ctx, a, bob.ID); return err }, admin.ErrForbidden},
		{"unknown account", func(a admin.Actor) error { _, err := w.ShowAccount(ctx, a, "x@example.org"); return err }, admin.ErrForbidden},
		{"enable self", func(a admin.Actor) error { _, err := w.SetDisabled(ctx, a, alice.ID, false); return err }, admin.ErrForbidden},
		{"remove self", func(a admin.Actor) error { return w.RemoveAccount(ctx, a, alice.ID) }, admin.ErrForbidden},
		{"own address", func(a admin.Actor) error {
			_, err := w.AddAddress(ctx, a, alice.ID, "y@example.org")
			return err
		}, admin.ErrForbidden},
		{"own password", func(a admin.Actor) error {
			_, err := w.SetPassword(ctx, a, alice.ID, admin.NewPassword{Generate: true})
			return err
		}, nil},
		{"other's password", func(a admin.Actor) error {
			_, err := w.SetPassword(ctx, a, bob.ID, admin.NewPassword{Generate: true})
			return err
		}, admin.ErrForbidden},
		{"own keys", func(a admin.Actor) error { _, err := w.ListKeys(ctx, a, alice.ID); return err }, nil},
		{"other's keys", func(a admin.Actor) error { _, err := w.ListKeys(ctx, a, bob.ID); return err }, admin.ErrForbidden},
		{"all keys", func(a admin.Actor) error { _, err := w.ListKeys(ctx, a, ""); return err }, admin.ErrForbidden},
		{"own key", func(a admin.Actor) error { _, err := w.ShowKey(ctx, a, aliceKey.Fingerprint); return err }, nil},
		{"other's key", func(a admin.Actor) error { _, err := w.ShowKey(ctx, a, bobKey.Fingerprint); return err }, authkeys.ErrUnknown},
		{"set other's key", func(a admin.Actor) error {
			_, err := w.SetKey(ctx, a, bobKey.Fingerprint, admin.KeyChange{NoPreauth: &yes})
			return err
		}, authkeys.ErrUnknown},
		{"remove other's key", func(a admin.Actor) error { return w.RemoveKey(ctx, a, bobKey.Fingerprint) }, authkeys.ErrUnknown},
		{"own connections", func(a admin.Actor) error { _, err := w.ListConns(ctx, a, alice.ID); return err }, nil},
		{"all connections", func(a admin.Actor) error { _, err := w.ListConns(ctx, a, ""); return err }, admin.ErrForbidden},
		{"close other's", func(a admin.Actor) error { _, err := w.CloseConns(ctx, a, bob.ID); return err }, admin.ErrForbidden},
		{"blocks", func(a admin.Actor) error { _, err := w.ListBlocks(ctx, a); return err }, admin.ErrForbidden},
		{"certificates", func(a admin.Actor) error { _, err := w.ListCerts(ctx, a); return err }, admin.ErrForbidden},
		{"certificate", func(a admin.Actor) error { _, err := w.ShowCert(ctx, a, "localhost"); return err }, admin.ErrForbidden},
		{"renewal", func(a admin.Actor) error { _, err := w.RenewCert(ctx, a, "localhost"); return err }, admin.ErrForbidden},
		{"look from outside", func(a admin.Actor) error { _, err := w.CheckCert(ctx, a, "localhost", ""); return err }, admin.ErrForbidden},
		{"ECH", func(a admin.Actor) error { _, err := w.ShowECH(ctx, a); return err }, admin.ErrForbidden},
		{"records", func(a admin.Actor) error { _, err := w.Records(ctx, a, "example.org"); return err }, admin.ErrForbidden},
		{"unblock", func(a admin.Actor) error { return w.RemoveBlock(ctx, a, "192.0.2.1") }, admin.ErrForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(nobody); !errors.Is(err, admin.ErrForbidden) && !errors.Is(err, authkeys.ErrUnknown) {
				t.Errorf("nobody is told %v", err)
			}
			if err := tt.do(self); !errors.Is(err, tt.self) || tt.self == nil && err != nil {
				t.Errorf("alice is told %v, want %v", err, tt.self)
			}
		})
	}
}

func TestAccountLife(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	created, err := w.AddAccount(ctx, operator, admin.NewAccount{Address: "Alice@Example.org", Password: admin.NewPassword{Generate: true}})
	if err != nil {
		t.Fatal(err)
	}
	if created.Primary() != "alice@example.org" || len(created.GeneratedPassword) < 16 || !created.Password {
		t.Errorf("created %+v", created)
	}
	_, err = w.AddAccount(ctx, operator, admin.NewAccount{Address: "alice@example.org"})
	if !errors.Is(err, accounts.ErrTaken) {
		t.Errorf("the second alice: %v", err)
	}
	if _, err := w.AddAddress(ctx, operator, "alice@example.org", "a@example.org"); err != nil {
		t.Error(err)
	}
	if _, err := w.RemoveAddress(ctx, operator, "a@example.org", "alice@example.org"); err != nil {
		t.Error(err)
	}
	if _, err := w.RemoveAddress(ctx, operator, created.ID, "a@example.org"); !errors.Is(err, accounts.ErrLast) {
		t.Errorf("the last address: %v", err)
	}
	w.key(t, created.ID)
	w.mail.deliver(t, created.ID)
	details, err := w.ShowAccount(ctx, operator, "a@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if len(details.Keys) != 1 || details.Mail == nil || details.Mail.Messages != 1 {
		t.Errorf("details %+v", details)
	}
	if err := w.RemoveAccount(ctx, operator, created.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ShowAccount(ctx, operator, created.ID); !errors.Is(err, accounts.ErrNoAccount) {
		t.Errorf("after its removal: %v", err)
	}
	if keys, err := w.ListKeys(ctx, operator, ""); err != nil || len(keys) != 0 {
		t.Errorf("keys left: %v, %v", keys, err)
	}
	if n := w.mail.messages(t, created.ID); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice := w.account(t, "alice@example.org")
	good := certPEM(muxtest.KeyPair(t))
	tests := []struct {
		name string
		do   func() error
	}{
		{"no address", func() error { _, err := w.AddAccount(ctx, operator, admin.NewAccount{}); return err }},
		{"quoted address", func() error {
			_, err := w.AddAccount(ctx, operator, admin.NewAccount{Address: `"a b"@example.org`})
			return err
		}},
		{"short password", func() error {
			_, err := w.SetPassword(ctx, operator, alice.ID, admin.NewPassword{Chosen: "seven77"})
			return err
		}},
		{"two passwords", func() error {
			_, err := w.SetPassword(ctx, operator, alice.ID, admin.NewPassword{Chosen: "long enough", Generate: true})
			return err
		}},
		{"no key", func() error { _, err := w.AddKey(ctx, operator, admin.NewKey{Account: alice.ID}); return err }},
		{"long key", func() error {
			_, err := w.AddKey(ctx, operator, admin.NewKey{Account: alice.ID, PublicKey: good + strings.Repeat("\n", 1<<20)})
			return err
		}},
		{"expired key", func() error {
			_, err := w.AddKey(ctx, operator, admin.NewKey{Account: alice.ID, PublicKey: good, Expires: time.Now()})
			return err
		}},
		{"name with escapes", func() error {
			_, err := w.AddKey(ctx, operator, admin.NewKey{Account: alice.ID, PublicKey: good, Name: "\x1b[2J"})
			return err
		}},
		{"name that nobody sees", func() error {
			_, err := w.AddKey(ctx, operator, admin.NewKey{Account: alice.ID, PublicKey: good, Name: "\u3164"})
			return err
		}},
		{"long name", func() error {
			_, err := w.AddKey(ctx, operator, admin.NewKey{Account: alice.ID, PublicKey: good, Name: strings.Repeat("x", 101)})
			return err
		}},
		{"source", func() error { return w.RemoveBlock(ctx, operator, "everybody") }},
		{"several sources", func() error { return w.RemoveBlock(ctx, operator, "192.0.2.0/24") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if invalid := (*admin.InvalidError)(nil); !errors.As(tt.do(), &invalid) {
				t.Errorf("got %v", tt.do())
			}
		})
	}
	if events, _ := w.Audit(ctx, operator, 0); len(events) != 1 {
		t.Errorf("requests that are no good are audited: %+v", events)
	}
}

func TestKeyLife(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice, bob := w.account(t, "alice@example.org"), w.account(t, "bob@example.org")
	pair, k := w.key(t, alice.ID)
	if k.Name == "" || k.Address != "alice@example.org" || k.Type != "ECDSA P-256" {
		t.Errorf("added %+v", k)
	}
	_, err := w.AddKey(ctx, operator, admin.NewKey{Account: bob.ID, PublicKey: certPEM(pair)})
	if !errors.Is(err, authkeys.ErrTaken) {
		t.Errorf("a key for two: %v", err)
	}
	name, no, scope, at := "phone", true, authkeys.ScopeIMAP|authkeys.ScopeSMTP, time.Now().Add(time.Hour)
	k, err = w.SetKey(ctx, operator, k.Fingerprint, admin.KeyChange{Name: &name, NoPreauth: &no, Scope: &scope, Expires: &at})
	if err != nil {
		t.Fatal(err)
	}
	if k.Name != name || !k.NoPreauth || k.Scope != scope || !k.Expires.Equal(at) {
		t.Errorf("set to %+v", k)
	}
	never := time.Time{}
	if k, err = w.SetKey(ctx, operator, k.Fingerprint, admin.KeyChange{Expires: &never}); err != nil || !k.Expires.IsZero() {
		t.Errorf("expires %v, %v", k, err)
	}
	if k.Name != name || !k.NoPreauth {
		t.Errorf("what was not to change did: %+v", k)
	}
	if err := w.RemoveKey(ctx, operator, k.Fingerprint); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ShowKey(ctx, operator, k.Fingerprint); !errors.Is(err, authkeys.ErrUnknown) {
		t.Errorf("after its removal: %v", err)
	}
}

// A removal that is interrupted after the records have gone is finished by the
// sweep, and one before leaves the account alone.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice, bob := w.account(t, "alice@example.org"), w.account(t, "bob@example.org")
	w.mail.deliver(t, alice.ID)
	w.mail.deliver(t, bob.ID)
	w.mail.fail = errors.New("disk on fire")
	if err := w.RemoveAccount(ctx, operator, alice.ID); !errors.Is(err, w.mail.fail) {
		t.Fatalf("got %v", err)
	}
	if _, err := w.ShowAccount(ctx, operator, alice.ID); !errors.Is(err, accounts.ErrNoAccount) {
		t.Fatalf("the records stayed: %v", err)
	}
	err := w.Store.Update(ctx, func(tx store.Tx) error { return tx.Put("removal/"+bob.ID, nil) })
	if err != nil {
		t.Fatal(err)
	}
	w.mail.fail = nil
	for range 2 {
		if err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := w.mail.messages(t, alice.ID), w.mail.messages(t, bob.ID); a != 0 || b != 1 {
		t.Errorf("alice has %d messages, bob %d", a, b)
	}
	if _, err := w.ShowAccount(ctx, operator, bob.ID); err != nil {
		t.Errorf("bob: %v", err)
	}
}

func TestAudit(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	who := admin.Actor{Name: "uid 1000 (unix socket)", Operator: true}
	const secret = "tell nobody of it"
	a, err := w.AddAccount(ctx, who, admin.NewAccount{Address: "alice@example.org", Password: admin.NewPassword{Chosen: secret}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.SetPassword(ctx, who, a.ID, admin.NewPassword{Generate: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddAccount(ctx, who, admin.NewAccount{Address: "alice@example.org"}); err == nil {
		t.Fatal("no error")
	}
	events, err := w.Audit(ctx, operator, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		if e.Actor != who.Name || time.Since(e.Time) > time.Minute || e.Error == "" && e.Account != a.ID {
			t.Errorf("event %+v", e)
		}
		got = append(got, fmt.Sprintf("%s %s %t", e.Action, e.Address, e.Error != ""))
	}
	want := "account add alice@example.org false,account password alice@example.org false,account add alice@example.org true"
	if strings.Join(got, ",") != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	for item, err := range w.Store.Scan(ctx, "audit/") {
		if err != nil || strings.Contains(string(item.Value), secret) || strings.Contains(string(item.Value), p) {
			t.Errorf("record %s holds a secret, or %v", item.Value, err)
		}
	}
	if log := w.log.String(); !strings.Contains(log, who.Name) || strings.Contains(log, secret) || strings.Contains(log, p) {
		t.Errorf("log: %s", log)
	}
	if last, err := w.Audit(ctx, operator, 1); err != nil || len(last) != 1 || last[0].Error == "" {
		t.Errorf("the last: %+v, %v", last, err)
	}
}

func TestAuditIsBounded(t *testing.T) {
	w := newWorld(t)
	w.AuditKeep = 10
	for i := range 600 {
		err := w.RemoveBlock(t.Context(), operator, fmt.Sprintf("192.0.2.%d", i%250))
		if !errors.Is(err, admin.ErrNoBlock) {
			t.Fatal(err)
		}
	}
	events, err := w.Audit(t.Context(), operator, 0)
	if err != nil || len(events) > 300 || len(events) < 10 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if last := events[len(events)-1].Detail; last != "192.0.2.99" {
		t.Errorf("the last is %s", last)
	}
}

func TestConns(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice, bob := w.account(t, "alice@example.org"), w.account(t, "bob@example.org")
	pair, k := w.key(t, alice.ID)
	first, second := w.login(t, alpn.IMAP, "", pair), w.login(t, alpn.SMTP, alice.ID)
	third := w.login(t, alpn.IMAP, bob.ID)

	conns, err := w.ListConns(ctx, operator, "alice@example.org")
	if err != nil || len(conns) != 2 {
		t.Fatalf("%+v, %v", conns, err)
	}
	if conns[0].Identity.Key != k.Fingerprint || conns[1].Protocol != alpn.SMTP {
		t.Errorf("connections %+v", conns)
	}
	if err := w.CloseConn(ctx, operator, conns[0].ID); err != nil {
		t.Error(err)
	}
	if left, err := w.ListConns(ctx, operator, alice.ID); err != nil || len(left) != 1 {
		t.Errorf("one of two was closed: %+v, %v", left, err)
	}
	if got := first.line(t); got != mux.ErrEvicted.Error() {
		t.Errorf("the first hears %q", got)
	}
	if n, err := w.CloseConns(ctx, operator, alice.ID); err != nil || n < 1 {
		t.Errorf("closed %d, %v", n, err)
	}
	if got := second.line(t); got != mux.ErrEvicted.Error() {
		t.Errorf("the second hears %q", got)
	}
	if err := w.CloseConn(ctx, operator, 12345); !errors.Is(err, admin.ErrNoConn) {
		t.Errorf("no connection: %v", err)
	}
	all, err := w.ListConns(ctx, operator, "")
	if err != nil || len(all) == 0 || all[len(all)-1].Identity.Account != bob.ID {
		t.Errorf("left: %+v, %v", all, err)
	}
	if err := w.RemoveAccount(ctx, operator, bob.ID); err != nil {
		t.Fatal(err)
	}
	if got := third.line(t); got != mux.ErrRevoked.Error() {
		t.Errorf("the third hears %q", got)
	}
}

// A new password ends what the old one opened, and what a key opened goes on.
func TestPasswordEndsSessions(t *testing.T) {
	w := newWorld(t)
	alice := w.account(t, "alice@example.org")
	pair, _ := w.key(t, alice.ID)
	byKey, byPassword := w.login(t, alpn.IMAP, "", pair), w.login(t, alpn.IMAP, alice.ID)
	if _, err := w.SetPassword(t.Context(), operator, alice.ID, admin.NewPassword{}); err != nil {
		t.Fatal(err)
	}
	if got := byPassword.line(t); got != mux.ErrRevoked.Error() {
		t.Errorf("by password: %q", got)
	}
	if _, err := w.CloseConns(t.Context(), operator, alice.ID); err != nil {
		t.Error(err)
	}
	if got := byKey.line(t); got != mux.ErrEvicted.Error() {
		t.Errorf("by key: %q", got)
	}
}
