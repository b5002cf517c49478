package admin_test

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/accounts"
	"posthorn/admin"
)

func signupRules() admin.SignupRules {
	return admin.SignupRules{
		Domains: []string{"example.org"}, NameLength: 9, NameAlphabet: "abcdefghijklmnopqrstuvwxyz0123456789", PasswordLength: 20,
		PerSource: 100, Total: 1000, Window: time.Hour,
	}
}

func TestSignup(t *testing.T) {
	w := newWorld(t)
	s := w.Signups(signupRules())
	from := netip.MustParseAddr("192.0.2.7")
	made, err := s.Create(t.Context(), admin.Signup{Domain: "example.org", Source: from})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[a-z0-9]{9}@example\.org$`).MatchString(made.Address) || !regexp.MustCompile(`^[A-Za-z0-9]{20}$`).MatchString(made.Password) {
		t.Errorf("made %+v", made)
	}
	auth := w.Accounts.NewAuth(accounts.Peer{Remote: from, TLS: new(tls.ConnectionState)})
	login, err := auth.Password(t.Context(), made.Address, made.Password)
	if err != nil {
		t.Fatal(err)
	}
	events, err := w.Audit(t.Context(), operator, 0)
	if err != nil || len(events) != 1 {
		t.Fatalf("%v, %v", events, err)
	}
	if ev := events[0]; ev.Action != "signup" || ev.Account != login.Account.ID || ev.Address != made.Address || ev.From != "192.0.2.7" || ev.Error != "" {
		t.Errorf("the audit trail has %+v", ev)
	}
	if text := w.log.String(); strings.Contains(text, made.Password) || !strings.Contains(text, made.Address) {
		t.Errorf("the log has %s", text)
	}
}

func TestSignupPrivacy(t *testing.T) {
	w := newWorld(t)
	w.Privacy = true
	made, err := w.Signups(signupRules()).Create(t.Context(), admin.Signup{Domain: "example.org", Source: netip.MustParseAddr("192.0.2.7")})
	if err != nil {
		t.Fatal(err)
	}
	if text := w.log.String(); strings.Contains(text, "192.0.2.7") || strings.Contains(text, made.Address) {
		t.Errorf("the log has %s", text)
	}
}

func TestSignupRefusals(t *testing.T) {
	w := newWorld(t)
	rules := signupRules()
	rules.Token = "open sesame"
	s := w.Signups(rules)
	for _, c := range []struct {
		domain, token string
		err           error
	}{
		{"example.org", "", admin.ErrSignupToken},
		{"example.org", "open sesam", admin.ErrSignupToken},
		{"example.net", "open sesame", accounts.ErrDomain},
		{"", "open sesame", accounts.ErrDomain},
		{"example.org", "open sesame", nil},
	} {
		if _, err := s.Create(t.Context(), admin.Signup{Domain: c.domain, Token: c.token}); !errors.Is(err, c.err) {
			t.Errorf("%q, %q: %v", c.domain, c.token, err)
		}
	}
	w.Backends = elsewhere{}
	if _, err := s.Create(t.Context(), admin.Signup{Domain: "example.org", Token: "open sesame"}); !errors.Is(err, admin.ErrSignupElsewhere) {
		t.Errorf("at another mail system: %v", err)
	}
	if n := count(t, w); n != 1 {
		t.Errorf("there are %d accounts", n)
	}
}

// elsewhere is a mail system that has all accounts.
type elsewhere struct{ admin.Backends }

func (elsewhere) Of(*accounts.Account) admin.Home { return admin.Home{Backend: "mail"} }

func count(t *testing.T, w *world) (n int) {
	t.Helper()
	all, err := w.ListAccounts(t.Context(), operator)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// Even where names run out, many who come at once never get the same one, nor one
// that somebody has, whose password stays.
func TestSignupNames(t *testing.T) {
	w := newWorld(t)
	rules := signupRules()
	rules.NameAlphabet, rules.NameLength = "ab", 4 // 16 names
	w.account(t, "abab@example.org")
	s := w.Signups(rules)
	var (
		mu    sync.Mutex
		names = make(map[string]string)
		wait  sync.WaitGroup
	)
	for range 60 {
		wait.Go(func() {
			made, err := s.Create(t.Context(), admin.Signup{Domain: "example.org"})
			if errors.Is(err, accounts.ErrTaken) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if names[made.Address] != "" || made.Address == "abab@example.org" {
				t.Errorf("%s is given out twice", made.Address)
			}
			names[made.Address] = made.Password
		})
	}
	wait.Wait()
	if len(names) < 8 || len(names)+1 != count(t, w) {
		t.Errorf("%d were made, there are %d", len(names), count(t, w))
	}
	names["abab@example.org"] = "correct horse"
	for address, password := range names {
		if _, err := w.Accounts.NewAuth(accounts.Peer{TLS: new(tls.ConnectionState)}).Password(t.Context(), address, password); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// Many at once get as many as one after the other.
func TestSignupLimit(t *testing.T) {
	w := newWorld(t)
	rules := signupRules()
	rules.PerSource, rules.Total = 3, 8
	s := w.Signups(rules)
	create := func(source string) error {
		_, err := s.Create(t.Context(), admin.Signup{Domain: "example.org", Source: netip.MustParseAddr(source)})
		return err
	}
	var wait sync.WaitGroup
	for range 20 {
		for _, source := range []string{"192.0.2.1", "2001:db8::1", "2001:db8::ffff:1", "::ffff:192.0.2.1"} {
			wait.Go(func() {
				var limit *admin.SignupLimitError
				if err := create(source); err != nil && (!errors.As(err, &limit) || limit.After <= 0 || limit.After > 20*time.Minute+time.Second) {
					t.Error(err)
				}
			})
		}
	}
	wait.Wait()
	if n := count(t, w); n != 6 {
		t.Errorf("two sources created %d accounts", n)
	}
	for i, source := range []string{"192.0.2.2", "2001:db8:0:1::1", "192.0.2.3", "192.0.2.4"} {
		if err := create(source); (err == nil) != (i < 2) {
			t.Errorf("account %d: %v", 7+i, err)
		}
	}
}
