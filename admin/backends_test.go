package admin_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/certs"
	"posthorn/mux"
)

// twoBackends are the embedded mailboxes and a mail system, which keeps the
// passwords of those accounts whose records name it.
type twoBackends struct{ since time.Time }

func (twoBackends) Has(name string) bool { return name == "embedded" || name == "mail" }

func (twoBackends) Of(a *accounts.Account) admin.Home {
	if a.Backend == "mail" {
		return admin.Home{Backend: "mail", KeepsPasswords: true}
	}
	return admin.Home{Backend: "embedded", Embedded: true}
}

func (b twoBackends) Status() []admin.BackendStatus {
	return []admin.BackendStatus{
		{Name: "embedded", State: admin.Up},
		{Name: "mail", Service: "imap", Address: "127.0.0.1:143", State: admin.Up, Since: b.since, Conns: 3},
		{Name: "mail", Service: "submission", Address: "127.0.0.1:587", State: admin.Down, Since: b.since, Error: "refused"},
	}
}

// withBackends is a world with a mail system behind it, and a client.
func withBackends(t *testing.T) (*world, *admin.Client) {
	w := newWorld(t)
	w.Backends = twoBackends{time.Now().Truncate(time.Second).UTC()}
	c, _ := serve(t, w)
	return w, c
}

func TestBackendList(t *testing.T) {
	w, c := withBackends(t)
	all, err := c.ListBackends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := w.Backends.Status()
	if len(all) != len(want) {
		t.Fatalf("%+v", all)
	}
	for i := range all {
		if all[i] != want[i] {
			t.Errorf("got %+v, want %+v", all[i], want[i])
		}
	}
	if w.Certs, err = certs.New(t.Context(), certs.Config{Names: []string{"localhost"}, Store: w.Store, Log: zerolog.Nop()}); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.Backends != (admin.BackendCounts{Total: 2, Up: 1}) {
		t.Errorf("%+v, %v", st, err)
	}
}

// sessions is how many connections are logged in.
func (w *world) sessions() (n int) {
	for _, c := range w.Mux.Conns() {
		if c.Identity.Account != "" {
			n++
		}
	}
	return n
}

// Whose password the mail system keeps gets none here, and is told so.
func TestPasswordElsewhere(t *testing.T) {
	w, c := withBackends(t)
	ctx := t.Context()
	generate, chosen := admin.NewPassword{Generate: true}, admin.NewPassword{Chosen: "correct horse"}
	a, err := c.AddAccount(ctx, admin.NewAccount{Address: "alice@example.org", Password: generate, Backend: "mail"})
	if err != nil || a.GeneratedPassword != "" || a.Password || a.Backend != "mail" || !a.Home.KeepsPasswords {
		t.Errorf("added %+v, %v", a, err)
	}
	_, err = c.AddAccount(ctx, admin.NewAccount{Address: "bob@example.org", Password: chosen, Backend: "mail"})
	if !errors.Is(err, admin.ErrPasswordElsewhere) {
		t.Errorf("a chosen password: %v", err)
	}
	for _, p := range []admin.NewPassword{generate, chosen} {
		if _, err := c.SetPassword(ctx, "alice@example.org", p); !errors.Is(err, admin.ErrPasswordElsewhere) {
			t.Errorf("password %+v: %v", p, err)
		}
	}
	// One that is left over goes, and ends nothing.
	carol := w.account(t, "carol@example.org")
	if _, err := c.SetBackend(ctx, carol.ID, "mail"); err != nil {
		t.Fatal(err)
	}
	s := w.login(t, alpn.IMAP, carol.ID)
	if _, err := c.SetPassword(ctx, carol.ID, admin.NewPassword{}); err != nil {
		t.Error(err)
	}
	if d, err := c.ShowAccount(ctx, carol.ID); err != nil || d.Password || d.Conns != 1 || d.Mail != nil || d.Home.Backend != "mail" {
		t.Errorf("%+v, %v", d, err)
	}
	s.Close()
}

func TestSetBackend(t *testing.T) {
	w, c := withBackends(t)
	ctx := t.Context()
	alice := w.account(t, "alice@example.org")
	s, other := w.login(t, alpn.IMAP, alice.ID), w.login(t, alpn.SMTP, w.account(t, "bob@example.org").ID)
	if a, err := c.SetBackend(ctx, "alice@example.org", ""); err != nil || a.Backend != "" {
		t.Errorf("%+v, %v", a, err)
	}
	if n := w.sessions(); n != 2 {
		t.Errorf("%d sessions are left, though nobody was moved", n)
	}
	if a, err := c.SetBackend(ctx, "alice@example.org", "mail"); err != nil || a.Backend != "mail" {
		t.Errorf("%+v, %v", a, err)
	}
	if got := s.line(t); got != mux.ErrEvicted.Error() {
		t.Errorf("the session hears %q", got)
	}
	if _, err := c.SetBackend(ctx, "alice@example.org", "nowhere"); !errors.Is(err, admin.ErrNoBackend) {
		t.Errorf("unknown backend: %v", err)
	}
	if _, err := c.AddAccount(ctx, admin.NewAccount{Address: "carol@example.org", Backend: "nowhere"}); !errors.Is(err, admin.ErrNoBackend) {
		t.Errorf("unknown backend for a new account: %v", err)
	}
	all, err := c.ListAccounts(ctx)
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, a := range all {
		if want := map[bool]string{true: "mail", false: "embedded"}[a.ID == alice.ID]; a.Home.Backend != want {
			t.Errorf("%s is at %s", a.Primary(), a.Home.Backend)
		}
	}
	if a, err := c.SetBackend(ctx, "alice@example.org", ""); err != nil || a.Backend != "" {
		t.Errorf("%+v, %v", a, err)
	}
	if n, err := c.CloseConns(ctx, "bob@example.org"); err != nil || n != 1 {
		t.Errorf("bob had %d sessions, %v", n, err)
	}
	other.line(t)
	events, err := w.Audit(ctx, operator, 0)
	if err != nil {
		t.Fatal(err)
	}
	var details []string
	for _, e := range events {
		if e.Action == "account backend" {
			details = append(details, e.Detail+" "+e.Error)
		}
	}
	if want := []string{"default ", "mail ", "nowhere no such backend", "default "}; len(details) != 4 ||
		details[0] != want[0] || details[1] != want[1] || details[2] != want[2] || details[3] != want[3] {
		t.Errorf("audited %q", details)
	}
}

// Without mail systems there are the embedded mailboxes.
func TestNoBackends(t *testing.T) {
	w := newWorld(t)
	alice := w.account(t, "alice@example.org")
	for name, want := range map[string]error{"embedded": nil, "": nil, "mail": admin.ErrNoBackend} {
		if _, err := w.SetBackend(t.Context(), operator, alice.ID, name); !errors.Is(err, want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if all, err := w.ListBackends(t.Context(), operator); err != nil || len(all) != 1 || all[0].Name != "embedded" {
		t.Errorf("%+v, %v", all, err)
	}
}

// A move that another node makes ends the sessions as well, even one to the
// same place by another name.
func TestEnforcerMove(t *testing.T) {
	w := newWorld(t)
	w.enforce(t)
	alice := w.account(t, "alice@example.org")
	pair, _ := w.key(t, alice.ID)
	s := w.login(t, alpn.IMAP, "", pair)
	if err := w.Accounts.SetBackend(t.Context(), alice.ID, "mail"); err != nil {
		t.Fatal(err)
	}
	if got := s.line(t); got != mux.ErrEvicted.Error() {
		t.Errorf("the session hears %q", got)
	}
	again := w.login(t, alpn.IMAP, "", pair)
	if err := w.Accounts.AddAddress(t.Context(), alice.ID, "al@example.org"); err != nil {
		t.Fatal(err)
	}
	bob := w.account(t, "bob@example.org") // what comes after him has seen the change
	other := w.login(t, alpn.IMAP, bob.ID)
	if err := w.Accounts.SetDisabled(t.Context(), bob.ID, true); err != nil {
		t.Fatal(err)
	}
	other.line(t)
	if n := w.Mux.CloseAccount(alice.ID, func(c mux.Info) bool { return c.Identity.Backend == "mail" }, mux.ErrRevoked); n != 1 {
		t.Error("the session at the new backend ended")
	}
	again.line(t)
}
