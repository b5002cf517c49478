package account_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/handlers/https/account"
	"posthorn/handlers/https/pages"
	"posthorn/sessions"
)

// Who uses a method that a path does not have hears which ones it has.
func TestMethods(t *testing.T) {
	house := accountstest.New(t, accounts.Options{})
	p, err := pages.New(pages.Config{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	h, err := account.New(account.Config{
		Pages: p, Sessions: sessions.New(sessions.Config{Store: house.KV, Accounts: house.Accounts, Keys: house.Keys}), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	routes := http.NewServeMux()
	h.Mount(routes.Handle)
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/account/activity", 303, ""}, // to the page for signing in
		{"POST", "/account/activity", 405, "GET, HEAD"},
		{"DELETE", "/account/sign-in", 405, "GET, HEAD, POST"},
		{"GET", "/account/sign-out", 405, "POST"},
		{"HEAD", "/account/passkey/register/begin", 405, "POST"},
		{"PUT", "/account/passkey/register/begin", 405, "GET, HEAD, POST"}, // of all below /account/
		{"GET", "/account/nothing", 404, ""},
	} {
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest(c.method, "https://mail.example.org"+c.path, nil))
		if w.Code != c.status || w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q; want %d, %q", c.method, c.path, w.Code, w.Header().Get("Allow"), c.status, c.allow)
		}
	}
}
