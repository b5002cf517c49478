package admin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"posthorn/admin"
	"posthorn/passkeys"
	"posthorn/sessions"
	"posthorn/store"
)

// passkey puts a passkey into the store, as package passkeys keeps one. To make one
// takes a browser; e2e has that.
func (w *world) passkey(t *testing.T, account, id string) {
	t.Helper()
	b, err := json.Marshal(passkeys.Passkey{ID: id, Account: account, Name: "phone", Host: "example.org"})
	if err != nil {
		t.Fatal(err)
	}
	err = w.Store.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.Put("passkey/of/"+account+"/"+id, b), tx.Put("passkey/id/"+id, []byte(account)))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPasskeys: operators and tokens see and remove them, and what they opened ends.
func TestPasskeys(t *testing.T) {
	p := newPort(t)
	alice, bob := p.account(t, "alice@example.org"), p.account(t, "bob@example.org")
	p.passkey(t, alice.ID, "one")
	p.passkey(t, alice.ID, "two")
	p.Sessions.Wrap(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		by := sessions.Session{Account: alice.ID, Address: alice.Primary(), How: sessions.Passkey, Passkey: "one"}
		if err := p.Sessions.SignIn(rw, r, by); err != nil {
			t.Error(err)
		}
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "https://example.org/", nil))
	p.webSession(t, alice.ID, alice.Primary())

	reader, manager := p.token(t, admin.ScopeRead), p.token(t, admin.ScopeAccounts)
	call := func(token *admin.CreatedToken, method, path string, want int) string {
		t.Helper()
		w := p.do(method, admin.APIPath+path, "", "Authorization", "Bearer "+token.Text)
		if w.Code != want {
			t.Errorf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, want)
		}
		return w.Body.String()
	}
	if list := call(reader, "GET", "/accounts/alice@example.org/passkeys", 200); strings.Count(list, `"name":"phone"`) != 2 || strings.Contains(list, "redential") {
		t.Error(list)
	}
	if list := call(reader, "GET", "/accounts/"+bob.ID+"/passkeys", 200); strings.TrimSpace(list) != `{"items":[]}` {
		t.Error(list)
	}
	call(reader, "GET", "/accounts/nobody/passkeys", 404)
	call(reader, "DELETE", "/accounts/alice@example.org/passkeys/one", 403)
	call(manager, "DELETE", "/accounts/bob@example.org/passkeys/one", 404)
	if got := call(manager, "DELETE", "/accounts/alice@example.org/passkeys/one", 200); strings.TrimSpace(got) != `{"closed":1}` {
		t.Error(got)
	}
	call(manager, "DELETE", "/accounts/alice@example.org/passkeys/one", 404)
	if all, err := p.ListSessions(t.Context(), operator, alice.ID); err != nil || len(all) != 1 || all[0].How != sessions.Password {
		t.Errorf("%+v, %v", all, err)
	}
	if left, err := p.ListPasskeys(t.Context(), operator, alice.ID); err != nil || len(left) != 1 || left[0].ID != "two" {
		t.Errorf("%+v, %v", left, err)
	}
	events, err := p.Audit(t.Context(), operator, 1)
	if err != nil || events[0].Action != "passkey remove" || events[0].Account != alice.ID || events[0].Actor == "" {
		t.Errorf("%+v, %v", events, err)
	}
}
