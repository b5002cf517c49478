package admin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/admin"
)

// slowly is a response whose first bytes take a while, in which something happens.
type slowly struct {
	*httptest.ResponseRecorder
	meanwhile func()
}

func (s *slowly) Write(b []byte) (int, error) {
	if s.meanwhile != nil {
		s.meanwhile()
		s.meanwhile = nil
		time.Sleep(1100 * time.Millisecond)
	}
	return s.ResponseRecorder.Write(b)
}

// TestRevokedInBackup: whose token is revoked gets no more of a backup.
func TestRevokedInBackup(t *testing.T) {
	for _, revoke := range []bool{false, true} {
		t.Run(fmt.Sprintf("revoked %t", revoke), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { revokedInBackup(t, revoke) })
		})
	}
}

func revokedInBackup(t *testing.T, revoke bool) {
	p := portOf(quietWorld(t))
	for i := range 200 { // more than goes out at once
		if _, err := p.AddAccount(t.Context(), operator, admin.NewAccount{Address: fmt.Sprintf("user%d@example.org", i)}); err != nil {
			t.Fatal(err)
		}
	}
	token := p.token(t, admin.ScopeAll)
	r := httptest.NewRequest("GET", "https://"+adminHost+admin.APIPath+"/backup", nil)
	r.Header.Set("Authorization", "Bearer "+token.Text)
	w := &slowly{httptest.NewRecorder(), func() {
		if revoke {
			if err := p.RemoveToken(t.Context(), operator, token.ID); err != nil {
				t.Error(err)
			}
		}
	}}
	broken := func() (v any) {
		defer func() { v = recover() }()
		p.gate.ServeHTTP(w, r)
		return nil
	}()
	if (broken == http.ErrAbortHandler) != revoke {
		t.Errorf("ended with %v after %d bytes", broken, w.Body.Len())
	}
}
