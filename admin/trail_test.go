package admin_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"posthorn/admin"
	"posthorn/authkeys"
	"posthorn/sessions"
	"posthorn/store"
)

// webSession signs somebody in to the web pages.
func (w *world) webSession(t *testing.T, account, address string) {
	t.Helper()
	w.Sessions.Wrap(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := w.Sessions.SignIn(rw, r, sessions.Session{Account: account, Address: address, How: sessions.Password}); err != nil {
			t.Error(err)
		}
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "https://example.org/", nil))
}

// TestDisableEndsWebSessions: at once, so that enabling brings none back.
func TestDisableEndsWebSessions(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice@example.org")
	w.webSession(t, a.ID, a.Primary())
	for _, disabled := range []bool{true, false} {
		if _, err := w.SetDisabled(t.Context(), operator, a.ID, disabled); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := w.ListSessions(t.Context(), operator, a.ID); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestTrailOfSessions: the trail says which session was ended, from where.
func TestTrailOfSessions(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice@example.org")
	w.webSession(t, a.ID, a.Primary())
	w.webSession(t, a.ID, a.Primary())
	all, err := w.ListSessions(t.Context(), operator, a.ID)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	self := admin.Actor{Name: "alice", Account: a.ID, From: "192.0.2.9"}
	if err := w.EndSession(t.Context(), self, all[0].ID); err != nil {
		t.Fatal(err)
	}
	if n, err := w.EndSessions(t.Context(), self, a.ID, ""); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	events, err := w.Audit(t.Context(), operator, 2)
	if err != nil {
		t.Fatal(err)
	}
	if one := events[0]; one.From != self.From || one.Address != a.Primary() || !strings.Contains(string(one.Before), all[0].ID) {
		t.Errorf("%+v, before %s", one, one.Before)
	}
	if rest := events[1]; rest.From != self.From || rest.Detail != "web sessions: 1" {
		t.Errorf("%+v", rest)
	}
}

// watcher looks at the trail while somebody writes to it.
type watcher struct {
	audit func() ([]admin.Event, error)
	seen  []string // the last entry's error, each time
}

func (o *watcher) Write(b []byte) (int, error) {
	events, err := o.audit()
	if err != nil {
		return 0, err
	}
	o.seen = append(o.seen, events[0].Error)
	return len(b), nil
}

// TestTrailUnfinished: what a crash interrupts does not look as if it was done.
func TestTrailUnfinished(t *testing.T) {
	w := newWorld(t)
	o := &watcher{audit: func() ([]admin.Event, error) { return w.Audit(t.Context(), operator, 1) }}
	if err := w.Backup(t.Context(), operator, o); err != nil {
		t.Fatal(err)
	}
	if len(o.seen) == 0 || o.seen[0] == "" {
		t.Errorf("in the middle the trail has %q", o.seen)
	}
	if events, err := w.Audit(t.Context(), operator, 1); err != nil || events[0].Error != "" {
		t.Errorf("at the end it has %+v, %v", events, err)
	}
}

// TestTrailIsOperators: nobody pushes out of it what operators did by doing much for
// oneself.
func TestTrailIsOperators(t *testing.T) {
	w := newWorld(t)
	w.AuditKeep = 40
	a := w.account(t, "alice@example.org")
	_, k := w.key(t, a.ID)
	self := admin.Actor{Name: "alice", Account: a.ID}
	for i := range 600 {
		name := strings.Repeat("x", 1+i%50)
		if _, err := w.SetKey(t.Context(), self, k.Fingerprint, admin.KeyChange{Name: &name}); err != nil {
			t.Fatal(err)
		}
	}
	events, err := w.FindAudit(t.Context(), operator, admin.AuditFilter{Actor: operator.Name})
	if err != nil || len(events) != 2 {
		t.Errorf("%+v, %v", events, err)
	}
	all, err := w.Audit(t.Context(), operator, 0)
	if err != nil || len(all) > 40+256 {
		t.Errorf("%d, %v", len(all), err)
	}
}

// awaited is a KV that tells when somebody wants a lock.
type awaited struct {
	store.KV
	asked chan<- struct{}
}

func (a awaited) Lock(ctx context.Context, name string) (func(), error) {
	select {
	case a.asked <- struct{}{}:
	default:
	}
	return a.KV.Lock(ctx, name)
}

// TestKeyOfAnother: a change of a key that somebody else has got meanwhile is none.
func TestKeyOfAnother(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice, bob := w.account(t, "alice@example.org"), w.account(t, "bob@example.org")
	pair, k := w.key(t, alice.ID)
	unlock, err := w.Store.Lock(ctx, "admin/"+alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{}, 1)
	w.Store = awaited{w.Store, waits}
	name, changed := "mine", make(chan error)
	go func() {
		_, err := w.SetKey(ctx, admin.Actor{Name: "alice", Account: alice.ID}, k.Fingerprint, admin.KeyChange{Name: &name})
		changed <- err
	}()
	<-waits // it has looked whose the key is
	if _, err := w.Keys.Remove(ctx, k.Fingerprint); err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddKey(ctx, operator, admin.NewKey{Account: bob.ID, PublicKey: certPEM(pair), Name: "bob's"}); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-changed; !errors.Is(err, authkeys.ErrUnknown) {
		t.Errorf("changed: %v", err)
	}
	if k, err := w.ShowKey(ctx, operator, k.Fingerprint); err != nil || k.Name != "bob's" {
		t.Errorf("%+v, %v", k, err)
	}
}

// TestTrailOfWaiting: what the trail says of a change is what it has changed, and not
// what others have while it waited.
func TestTrailOfWaiting(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice := w.account(t, "alice@example.org")
	unlock, err := w.Store.Lock(ctx, "admin/"+alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{}, 1)
	w.Store = awaited{w.Store, waits}
	changed := make(chan error)
	go func() {
		_, err := w.SetPassword(ctx, operator, alice.ID, admin.NewPassword{})
		changed <- err
	}()
	<-waits
	if err := w.Accounts.AddAddress(ctx, alice.ID, "ally@example.org"); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	events, err := w.Audit(ctx, operator, 1)
	if err != nil || string(events[0].Before) != `{"has_password":true}` || string(events[0].After) != `{"has_password":false}` {
		t.Errorf("before %s, after %s, %v", events[0].Before, events[0].After, err)
	}
}
