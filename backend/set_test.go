package backend_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/backend"
)

// named is a Backend that is known by what it answers.
type named struct {
	name  string
	keeps bool
	offer backend.Submission
}

type askedError struct{ name string }

func (e askedError) Error() string { return e.name }

func (n *named) OpenIMAP(_ context.Context, _ *accounts.Login, _ *backend.Client) (backend.IMAPSession, error) {
	return nil, askedError{n.name}
}

func (n *named) OpenSubmission(context.Context, *accounts.Login, *backend.Client) (smtp.Session, error) {
	return nil, askedError{n.name}
}

func (n *named) Submission(*accounts.Login) backend.Submission { return n.offer }

func (n *named) Passwords(backend.Service, *backend.Client) accounts.Passwords {
	if !n.keeps {
		return nil
	}
	return n
}

func (n *named) Keeps(string, *accounts.Account) bool { return true }

func (n *named) Login(context.Context, string, *accounts.Account, string) (io.Closer, error) {
	return nil, askedError{n.name}
}

// closer counts how often it is closed.
type closer int

func (c *closer) Close() error { *c++; return nil }

func newSet(log io.Writer) *backend.Set {
	return &backend.Set{
		Backends: map[string]backend.Backend{
			"own":  &named{name: "own", offer: backend.Submission{MaxSize: 300, EightBitMIME: true, UTF8: true, AnySender: true}},
			"mail": &named{name: "mail", keeps: true, offer: backend.Submission{EightBitMIME: true, UTF8: true, DSN: true, AnySender: true}},
			"old":  &named{name: "old", offer: backend.Submission{MaxSize: 200, EightBitMIME: true}},
		},
		Domains: map[string]string{"example.org": "mail", "gone.example": "nowhere"},
		Default: "own",
		Log:     zerolog.New(log),
	}
}

func TestSetLeads(t *testing.T) {
	s := newSet(io.Discard)
	for _, tt := range []struct {
		address string
		account *accounts.Account // nil: none has the address
		want    string            // empty: there is no such backend
		keeps   bool
	}{
		{"a@example.org", nil, "mail", true},
		{"a@example.com", nil, "own", false},
		{"a@sub.example.org", nil, "own", false},
		{"a@gone.example", nil, "", true},
		{"", &accounts.Account{Addresses: []string{"a@example.org"}}, "mail", true},
		{"a@example.org", &accounts.Account{Addresses: []string{"a@example.com", "a@example.org"}}, "own", false},
		{"", &accounts.Account{Addresses: []string{"a@example.org"}, Backend: "old"}, "old", false},
		{"", &accounts.Account{Addresses: []string{"a@example.com"}, Backend: "mail"}, "mail", true},
		{"", &accounts.Account{Addresses: []string{"a@example.org"}, Backend: "lost"}, "", true},
	} {
		p := s.Passwords(backend.IMAP, clientOf())
		if got := p.Keeps(tt.address, tt.account); got != tt.keeps {
			t.Errorf("%q, %+v: keeps %v", tt.address, tt.account, got)
		}
		if tt.keeps {
			_, err := p.Login(t.Context(), tt.address, tt.account, "x")
			checkAsked(t, err, tt.want)
			if tt.want == "" && !errors.Is(err, accounts.ErrNotAsked) {
				t.Errorf("%+v", err)
			}
		}
		if tt.account == nil {
			continue
		}
		l := &accounts.Login{Account: tt.account}
		_, err := s.OpenIMAP(t.Context(), l, clientOf())
		checkAsked(t, err, tt.want)
		if tt.want != "" {
			_, err = s.OpenSubmission(t.Context(), l, clientOf())
			checkAsked(t, err, tt.want)
		}
	}
}

// checkAsked wants to hear from a backend, or that there is none.
func checkAsked(t *testing.T, err error, name string) {
	t.Helper()
	var asked askedError
	var unknown *backend.UnknownError
	switch {
	case name == "" && !errors.As(err, &unknown):
		t.Errorf("got %v, want no backend", err)
	case name != "" && (!errors.As(err, &asked) || asked.name != name):
		t.Errorf("got %v, want %s", err, name)
	}
}

// A backend that is not there is nobody's: what was opened is closed, the log
// says which one, and a client may try again.
func TestSetUnknown(t *testing.T) {
	var log bytes.Buffer
	s := newSet(&log)
	opened := new(closer)
	l := &accounts.Login{Account: &accounts.Account{ID: "1", Addresses: []string{alice}, Backend: "lost"}, Opened: opened}
	_, err := s.OpenSubmission(t.Context(), l, clientOf())
	if reply(err) != "451 4.3.0" || !strings.Contains(log.String(), `\"lost\"`) || *opened != 1 || l.Opened != nil {
		t.Errorf("got %v, log %q, closed %d times", err, log.String(), *opened)
	}
	l.Opened = opened
	if _, err := s.OpenIMAP(t.Context(), l, clientOf()); *opened != 2 {
		t.Errorf("got %v, closed %d times", err, *opened)
	}
	if got := s.Submission(l); got != (backend.Submission{}) {
		t.Errorf("it can do %+v", got)
	}
}

func TestSetSubmission(t *testing.T) {
	s := newSet(io.Discard)
	if got, want := s.Submission(nil), (backend.Submission{MaxSize: 200, EightBitMIME: true}); got != want {
		t.Errorf("all can do %+v, want %+v", got, want)
	}
	l := &accounts.Login{Account: &accounts.Account{Addresses: []string{alice}}}
	if got := s.Submission(l); !got.DSN || got.MaxSize != 0 {
		t.Errorf("mail can do %+v", got)
	}
	delete(s.Backends, "mail")
	if s.Passwords(backend.IMAP, clientOf()) != nil {
		t.Error("somebody keeps passwords")
	}
}
