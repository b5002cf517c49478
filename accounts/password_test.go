package accounts_test

import (
	"errors"
	"strings"
	"testing"

	"posthorn/accounts"
)

// TestPasswords sets each password and logs in with another.
func TestPasswords(t *testing.T) {
	for _, c := range []struct {
		name, set, try string
		ok             bool
	}{
		{"same", "secret", "secret", true},
		{"case counts", "secret", "Secret", false},
		{"a space behind counts", "secret", "secret ", false},
		{"a space before counts", "secret", " secret", false},
		{"spaces within count", "a  b", "a b", false},
		{"with spaces", " a  b ", " a  b ", true},
		{"prefix", "secret", "secre", false},
		{"composed and decomposed", "J\u00f6rg", "Jo\u0308rg", true},
		{"other space", "a b", "a\u00a0b", true},
		{"soft hyphen", "ab", "a\u00adb", true},
		{"compatibility", "\u2168", "IX", true},
		{"colon and dollar", "a:b$c", "a:b$c", true},
		{"quote and backslash", `a"b\c`, `a"b\c`, true},
		{"refused characters", "secret", "secret\x01", false},
		{"emoji", "secret", "secret\U0001F600", false},
		{"not UTF-8", "secret", "secret\xff", false},
		{"long", strings.Repeat("x", 1024), strings.Repeat("x", 1024), true},
		{"too long", strings.Repeat("x", 1024), strings.Repeat("x", 1025), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, accounts.Options{})
			d.add("alice@example.org", c.set)
			l, err := d.NewAuth(peer(home, noKey)).Password(t.Context(), "Alice@example.org", c.try)
			if !c.ok {
				wantReason(t, "Password", err, accounts.WrongPassword)
				return
			}
			if err != nil || l.Address != "alice@example.org" || l.Mechanism != "LOGIN" || !l.Key.IsZero() {
				t.Errorf("login %+v, %v", l, err)
			}
		})
	}
}

func TestUnusablePasswords(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	a := d.add("alice@example.org", password)
	for _, p := range []string{
		"tab\there", "nul\x00", "line\r\n", "emoji \U0001F600", "private \ue000", "bad \xff", "\u05d0a",
		"\u00ad", "\u200b\ufe00", strings.Repeat("x", 1025),
	} {
		err := d.SetPassword(t.Context(), a.ID, p)
		if !errors.Is(err, accounts.ErrPassword) {
			t.Errorf("SetPassword(%+q): %v", p, err)
			continue
		}
		if strings.Contains(err.Error(), p) {
			t.Errorf("%v repeats the password", err)
		}
	}
	if _, err := d.NewAuth(peer(home, noKey)).Password(t.Context(), "alice@example.org", password); err != nil {
		t.Errorf("the password that was set: %v", err)
	}
}
