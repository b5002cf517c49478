package autoconf

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// SecurityTXT tells where to report vulnerabilities (RFC 9116). Contact and
// Expires are required. All texts but Languages are URIs.
type SecurityTXT struct {
	Contact         []string // the one to try first comes first
	Expires         time.Time
	Encryption      []string
	Acknowledgments []string
	Languages       []string // language tags, such as "en"
	Canonical       []string
	Policy          []string
	Hiring          []string
}

var (
	// ErrExpired says that a SecurityTXT is over, and is not to be relied on.
	ErrExpired = errors.New("has expired")
	// ErrFarExpiry says that it is to expire in more than a year.
	ErrFarExpiry = errors.New("must be within a year (RFC 9116 section 2.5.5)")
)

// Check says what is wrong: which field, as its name in the file in lower case,
// and why (ErrExpired, ErrFarExpiry, and others).
func (s *SecurityTXT) Check(now time.Time) (field string, err error) {
	if len(s.Contact) == 0 {
		return "contact", errors.New("must name at least one, such as mailto:security@example.org")
	}
	for _, f := range s.fields() {
		for _, v := range f.values {
			if err := f.check(v); err != nil {
				return strings.ToLower(f.name), err
			}
		}
	}
	switch {
	case s.Expires.IsZero():
		return "expires", errors.New("must say until when it is to be relied on, such as 2027-01-31")
	case !s.Expires.After(now):
		return "expires", ErrExpired
	case s.Expires.After(now.AddDate(1, 0, 1)):
		return "expires", ErrFarExpiry
	}
	return "", nil
}

// Text returns the file.
func (s *SecurityTXT) Text() []byte {
	var b strings.Builder
	for i, f := range s.fields() {
		for _, v := range f.values {
			fmt.Fprintf(&b, "%s: %s\r\n", f.name, v)
		}
		if i == 0 {
			fmt.Fprintf(&b, "Expires: %s\r\n", s.Expires.UTC().Format(time.RFC3339))
		}
	}
	return []byte(b.String())
}

// securityField is a field with all its values.
type securityField struct {
	name   string
	values []string
	check  func(string) error
}

// fields returns all but Expires, Contact first.
func (s *SecurityTXT) fields() []securityField {
	var languages []string
	if len(s.Languages) > 0 {
		languages = []string{strings.Join(s.Languages, ", ")}
	}
	return []securityField{
		{"Contact", s.Contact, checkURI},
		{"Encryption", s.Encryption, checkURI},
		{"Acknowledgments", s.Acknowledgments, checkURI},
		{"Preferred-Languages", languages, checkLanguages},
		{"Canonical", s.Canonical, checkURI},
		{"Policy", s.Policy, checkURI},
		{"Hiring", s.Hiring, checkURI},
	}
}

func checkURI(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme == "" || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return fmt.Errorf("must be a URI, such as https://example.org/security or mailto:security@example.org, not %q", s)
	case u.Scheme == "http": // RFC 9116 section 2.4
		return fmt.Errorf("must be https, not %q", s)
	}
	return nil
}

func checkLanguages(s string) error {
	if strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-, ") != "" {
		return fmt.Errorf("must be language tags, such as en, not %q", s)
	}
	return nil
}
