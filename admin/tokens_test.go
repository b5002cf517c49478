package admin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/admin"
)

// TestTokensOfTokens: what a token makes lasts no longer than it does.
func TestTokensOfTokens(t *testing.T) {
	p := newPort(t)
	end := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
	root, err := p.AddToken(t.Context(), operator, admin.NewToken{Name: "root", Scope: admin.ScopeAll, Expires: end})
	if err != nil {
		t.Fatal(err)
	}
	bystander := p.token(t, admin.ScopeAll)
	// mint has a token make one.
	mint := func(by *admin.CreatedToken, expires time.Time, want int) (made *admin.CreatedToken) {
		t.Helper()
		body, _ := json.Marshal(admin.NewToken{Name: "made", Scope: admin.ScopeAll, Expires: expires})
		w := p.do("POST", admin.APIPath+"/tokens", string(body), "Authorization", "Bearer "+by.Text)
		if w.Code != want {
			t.Fatalf("%d %s, want %d", w.Code, w.Body, want)
		}
		made = new(admin.CreatedToken)
		if err := json.Unmarshal(w.Body.Bytes(), made); err != nil {
			t.Fatal(err)
		}
		return made
	}
	counts := func(token *admin.CreatedToken) bool {
		return p.do("GET", listing, "", "Authorization", "Bearer "+token.Text).Code == http.StatusOK
	}

	mint(root, end.Add(time.Second), 422)
	child := mint(root, time.Time{}, 201)
	if !child.Expires.Equal(end) {
		t.Errorf("made without a time, it expires at %v, and its maker at %v", child.Expires, end)
	}
	if sooner := mint(root, end.Add(-time.Hour), 201); !sooner.Expires.Equal(end.Add(-time.Hour)) {
		t.Errorf("expires at %v", sooner.Expires)
	}
	grandchild := mint(child, time.Time{}, 201)
	cousin := mint(bystander, time.Time{}, 201)

	if err := p.RemoveToken(t.Context(), operator, root.ID); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []*admin.CreatedToken{root, child, grandchild} {
		if counts(gone) {
			t.Errorf("%s (%s) still counts", gone.ID, gone.By)
		}
		if _, err := p.ShowToken(t.Context(), operator, gone.ID); !errors.Is(err, admin.ErrNoToken) {
			t.Errorf("%s: %v", gone.ID, err)
		}
	}
	if !counts(bystander) || !counts(cousin) {
		t.Error("tokens of others went too")
	}
	events, err := p.Audit(t.Context(), operator, 1)
	if err != nil || !strings.HasSuffix(events[0].Detail, ", tokens made with it: 3") {
		t.Errorf("%+v, %v", events, err)
	}

	// One that is removed while it makes another makes none.
	late := admin.Actor{Name: "late", Scope: admin.ScopeAll, Token: &root.Token}
	if _, err := p.AddToken(t.Context(), late, admin.NewToken{Name: "x", Scope: admin.ScopeAll}); !errors.Is(err, admin.ErrNoToken) {
		t.Errorf("by a token that is gone: %v", err)
	}
}
