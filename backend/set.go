package backend

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/rs/zerolog"

	"posthorn/accounts"
)

// Set is the Backend that leads every account to its own: the one that its
// record names, else that of its primary address's domain, else Default. An
// account whose backend is not there is not served by another one. Its fields
// are set before use.
type Set struct {
	Backends map[string]Backend // by name
	Domains  map[string]string  // names by domain, in lower case
	Default  string
	// Log is told of accounts whose backend is not there, where the client
	// hears a fixed text.
	Log zerolog.Logger
}

// UnknownError says that a backend is named and not configured.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string { return fmt.Sprintf("no backend %q is configured", e.Name) }

// Of returns the name of an account's backend, which need not be there.
func (s *Set) Of(a *accounts.Account) string { return s.name("", a) }

// name returns that of the backend for an account, or for an address
// (normalized) that no account has.
func (s *Set) name(address string, a *accounts.Account) string {
	name := ""
	if a != nil {
		name, address = a.Backend, a.Primary()
	}
	if name == "" {
		name = s.Domains[address[strings.LastIndexByte(address, '@')+1:]]
	}
	if name == "" {
		name = s.Default
	}
	return name
}

// find returns the backend that name names.
func (s *Set) find(address string, a *accounts.Account) (Backend, error) {
	name := s.name(address, a)
	if b, ok := s.Backends[name]; ok {
		return b, nil
	}
	return nil, &UnknownError{name}
}

// OpenIMAP implements Backend.
func (s *Set) OpenIMAP(ctx context.Context, l *accounts.Login, c *Client) (IMAPSession, error) {
	b, err := s.find("", l.Account)
	if err != nil {
		closeOpened(l)
		return nil, err
	}
	return b.OpenIMAP(ctx, l, c)
}

// OpenSubmission implements Backend.
func (s *Set) OpenSubmission(ctx context.Context, l *accounts.Login, c *Client) (smtp.Session, error) {
	b, err := s.find("", l.Account)
	if err != nil {
		closeOpened(l)
		s.Log.Error().Uint64("id", c.ID).Str("account", l.Account.ID).Err(err).Msg("no submission")
		return nil, later
	}
	return b.OpenSubmission(ctx, l, c)
}

// Submission implements Backend: for nobody in particular it is what all
// backends can do.
func (s *Set) Submission(l *accounts.Login) Submission {
	if l != nil {
		b, err := s.find("", l.Account)
		if err != nil {
			return Submission{}
		}
		return b.Submission(l)
	}
	all := Submission{EightBitMIME: true, UTF8: true, DSN: true, AnySender: true}
	for _, b := range s.Backends {
		all = all.and(b.Submission(nil))
	}
	return all
}

// Passwords implements Backend.
func (s *Set) Passwords(service Service, c *Client) accounts.Passwords {
	for _, b := range s.Backends {
		if b.Passwords(service, c) != nil {
			return &setPasswords{s, service, c}
		}
	}
	return nil
}

// setPasswords asks the backend that each login belongs to.
type setPasswords struct {
	set     *Set
	service Service
	client  *Client
}

// Keeps implements accounts.Passwords. What belongs to a backend that is not
// there cannot be decided here: Login says so.
func (p *setPasswords) Keeps(address string, a *accounts.Account) bool {
	b, err := p.set.find(address, a)
	if err != nil {
		return true
	}
	one := b.Passwords(p.service, p.client)
	return one != nil && one.Keeps(address, a)
}

// Login implements accounts.Passwords.
func (p *setPasswords) Login(ctx context.Context, address string, a *accounts.Account, password string) (io.Closer, error) {
	b, err := p.set.find(address, a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", accounts.ErrNotAsked, err)
	}
	one := b.Passwords(p.service, p.client)
	if one == nil {
		return nil, fmt.Errorf("%w: it keeps no passwords", accounts.ErrNotAsked)
	}
	return one.Login(ctx, address, a, password)
}
