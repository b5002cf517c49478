package backend

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/mailbox"
)

// Embedded is the Backend with mailboxes of the gateway's own: IMAP sessions
// read them, and submission delivers to local accounts and nowhere else.
type Embedded struct {
	Mail     *mailbox.Store
	Accounts *accounts.Store
	// Domains are the local ones, in lower case: an unknown address in one of
	// them does not exist; in any other domain it would have to be relayed to.
	Domains []string
	// Has reports whether an account's mailbox is here; nil: all are. To others
	// mail would have to be relayed.
	Has func(*accounts.Account) bool
	// Log is told why a delivery failed; the client only hears that it did.
	Log zerolog.Logger
}

// OpenIMAP implements Backend.
func (e *Embedded) OpenIMAP(_ context.Context, l *accounts.Login, _ *Client) (IMAPSession, error) {
	closeOpened(l)
	return &embeddedIMAP{mail: e.Mail, user: l.Account.ID}, nil
}

// OpenSubmission implements Backend.
func (e *Embedded) OpenSubmission(ctx context.Context, l *accounts.Login, _ *Client) (smtp.Session, error) {
	closeOpened(l)
	return &embeddedSubmission{ctx: ctx, backend: e}, nil
}

// Submission implements Backend.
func (e *Embedded) Submission(*accounts.Login) Submission {
	return Submission{EightBitMIME: true, UTF8: true}
}

// Passwords implements Backend: all are kept in the accounts.
func (e *Embedded) Passwords(Service, *Client) accounts.Passwords { return nil }

type embeddedIMAP struct {
	mail *mailbox.Store
	user string
}

func (s *embeddedIMAP) Capabilities() string { return s.mail.Capabilities() }

func (s *embeddedIMAP) Serve(ctx context.Context, client net.Conn) error {
	return s.mail.ServeIMAP(ctx, client, s.user)
}

func (s *embeddedIMAP) Close() error { return nil }

// embeddedSubmission collects a message's recipients, each account once.
type embeddedSubmission struct {
	ctx     context.Context
	backend *Embedded
	users   []string // account IDs
}

func (s *embeddedSubmission) Reset()        { s.users = nil }
func (s *embeddedSubmission) Logout() error { return nil }

func (s *embeddedSubmission) Mail(string, *smtp.MailOptions) error {
	s.users = nil
	return nil
}

func (s *embeddedSubmission) Rcpt(to string, _ *smtp.RcptOptions) error {
	address, err := accounts.ParseAddress(to)
	if err != nil {
		return &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 1, 3}, Message: "Bad recipient address syntax"}
	}
	account, err := s.backend.Accounts.ByAddress(s.ctx, address)
	switch {
	case errors.Is(err, accounts.ErrNoAccount) && s.backend.local(address):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user here"}
	case errors.Is(err, accounts.ErrNoAccount):
		return relayingDenied
	case err != nil:
		return s.backend.unavailable(err, "looking up a recipient")
	case s.backend.Has != nil && !s.backend.Has(account):
		return relayingDenied
	}
	if !slices.Contains(s.users, account.ID) {
		s.users = append(s.users, account.ID)
	}
	return nil
}

func (s *embeddedSubmission) Data(r io.Reader) error {
	in := &source{Reader: r}
	err := s.backend.Mail.Deliver(s.ctx, s.users, in)
	switch {
	case err == nil:
		return nil
	case in.err != nil: // the client's doing, and the handler knows what to say
		return later
	case errors.Is(err, mailbox.ErrFull):
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "Insufficient system storage"}
	case errors.Is(err, mailbox.ErrOverQuota):
		// RFC 5321 section 4.2.3: 552 is "exceeded storage allocation". The
		// sender is here and can tell the recipient; a retry helps nobody.
		return &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 2, 2}, Message: "A recipient's mailbox is full"}
	case errors.Is(err, mailbox.ErrTooBig):
		return &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "Message too big"}
	}
	return s.backend.unavailable(err, "delivering")
}

// local reports whether a normalized address is in one of e's domains.
func (e *Embedded) local(address string) bool {
	_, domain, _ := strings.Cut(address, "@")
	return slices.Contains(e.Domains, domain)
}

// unavailable is what the client hears of an error that may pass by itself.
func (e *Embedded) unavailable(err error, operation string) error {
	e.Log.Warn().Err(err).Str("operation", operation).Msg("embedded backend")
	return later
}

var relayingDenied = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "Relaying denied"}

var later = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Try again later"}

// source remembers why a message could not be read.
type source struct {
	io.Reader
	err error // not io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
