package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"posthorn/accounts"
)

var (
	// ErrSignupToken says that a sign-up shows no token, or a wrong one.
	ErrSignupToken = errors.New("an invitation is needed to sign up")
	// ErrSignupElsewhere says that accounts of a domain are another mail system's
	// to create.
	ErrSignupElsewhere = errors.New("accounts of this domain are not created here")
)

// SignupLimitError says that there have been too many sign-ups of one source, or
// of all.
type SignupLimitError struct{ After time.Duration } // when the next one may come

func (e *SignupLimitError) Error() string { return "too many new accounts" }

// SignupRules say what accounts look like that people create for themselves, and
// how many there may be. All fields but Token are needed.
type SignupRules struct {
	Domains        []string // whose accounts they are
	NameLength     int      // of local parts, in characters
	NameAlphabet   string   // of local parts: lower-case letters and digits
	PasswordLength int      // in characters
	// Token is what everybody has to know who signs up; empty: nothing.
	Token string
	// PerSource is how many accounts one IPv4 address or IPv6 /64 may create
	// within Window, and Total how many all of them together.
	PerSource, Total int
	Window           time.Duration
}

// Signups lets people create accounts for themselves. It is made by
// Service.Signups; its methods may be called concurrently.
type Signups struct {
	service *Service
	rules   SignupRules
	limit   *signupLimit
}

// Signups returns the operation that creates accounts by rules. No operator has
// to ask for it: having made it says that everybody may.
func (s *Service) Signups(rules SignupRules) *Signups {
	return &Signups{service: s, rules: rules, limit: newSignupLimit(rules)}
}

// Signup is somebody's wish for an account.
type Signup struct {
	Domain string
	Token  string
	Source netip.Addr // where the wish came from; the zero Addr is a source too
}

// SignedUp is a new account and its password, which nobody sees again.
type SignedUp struct{ Address, Password string }

// signupNames is how many names are tried. That even two are taken is rare
// where names are long enough to be given out at random.
const signupNames = 8

// Create creates an account with a random name and password, in one step: there
// is never one without the other. Errors are accounts.ErrDomain, ErrSignupToken,
// ErrSignupElsewhere, *SignupLimitError and those of the store.
func (s *Signups) Create(ctx context.Context, req Signup) (*SignedUp, error) {
	const action = "signup"
	if !slices.Contains(s.rules.Domains, req.Domain) {
		return nil, fmt.Errorf("%s: %w", action, accounts.ErrDomain)
	}
	if !s.knows(req.Token) {
		return nil, fmt.Errorf("%s: %w", action, ErrSignupToken)
	}
	created := &SignedUp{Address: s.name(req.Domain), Password: random(passwordCharacters, s.rules.PasswordLength)}
	if home := s.service.home(&accounts.Account{Addresses: []string{created.Address}}); !home.Embedded {
		return nil, fmt.Errorf("%s: %w", action, ErrSignupElsewhere)
	}
	if after := s.limit.take(req.Source); after > 0 {
		return nil, fmt.Errorf("%s: %w", action, &SignupLimitError{after})
	}
	ev := Event{Action: action, Address: created.Address}
	who := Actor{Name: action, From: s.service.From(req.Source)}
	err := s.service.do(ctx, who, &ev, func() error {
		for range signupNames {
			a, err := s.service.Accounts.Create(ctx, accounts.NewAccount{Address: created.Address, Password: created.Password})
			if err == nil {
				ev.Account, ev.Address = a.ID, created.Address
				ev.after(a)
				return nil
			}
			if !errors.Is(err, accounts.ErrTaken) {
				return err
			}
			created.Address = s.name(req.Domain)
		}
		return accounts.ErrTaken
	})
	if err != nil {
		return nil, err
	}
	return created, nil
}

// Domains are those whose accounts can be created.
func (s *Signups) Domains() []string { return slices.Clone(s.rules.Domains) }

// knows reports whether token is the one that is wanted, in a time that does
// not tell how much of it is right.
func (s *Signups) knows(token string) bool {
	if s.rules.Token == "" {
		return true
	}
	want, got := sha256.Sum256([]byte(s.rules.Token)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

func (s *Signups) name(domain string) string {
	return random(s.rules.NameAlphabet, s.rules.NameLength) + "@" + domain
}

// passwordCharacters can be typed, selected and quoted anywhere.
const passwordCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// random returns n characters out of an alphabet of up to 256, each as likely.
func random(alphabet string, n int) string {
	fair := 256 - 256%len(alphabet)
	text := make([]byte, 0, n)
	for buf := make([]byte, 2*n); ; {
		rand.Read(buf) // never fails
		for _, b := range buf {
			if int(b) >= fair {
				continue
			}
			if text = append(text, alphabet[int(b)%len(alphabet)]); len(text) == n {
				return string(text)
			}
		}
	}
}
