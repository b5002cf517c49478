// Package backend is what stands behind the gateway: the embedded mailboxes,
// or real IMAP and submission servers. Handlers cannot tell which.
package backend

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"github.com/emersion/go-smtp"

	"posthorn/accounts"
)

// Backend opens conversations on behalf of accounts that have logged in at the
// gateway. Its methods may be called concurrently.
type Backend interface {
	// OpenIMAP returns an IMAP conversation in the authenticated state. The
	// error is an *imap.Error when the backend itself answered; any other means
	// that it cannot serve now and may later: NO [UNAVAILABLE] (RFC 5530).
	// It takes over l.Opened, if there is one, in any case.
	OpenIMAP(ctx context.Context, l *accounts.Login, c *Client) (IMAPSession, error)
	// OpenSubmission returns a submission conversation that is logged in. Its
	// errors are *smtp.SMTPError, fit to be shown to the client. Data returns
	// nil only when the message is durably taken. Addresses are already
	// checked for syntax. It takes over l.Opened, as OpenIMAP does.
	OpenSubmission(ctx context.Context, l *accounts.Login, c *Client) (smtp.Session, error)
	// Submission says what the submission server of an account can do; with
	// nil, what those of all accounts can: it is asked before login too.
	Submission(l *accounts.Login) Submission
	// Passwords returns who checks the passwords that backends keep, for
	// logins over c to the IMAP server or the submission server; nil when no
	// backend keeps any.
	Passwords(s Service, c *Client) accounts.Passwords
}

// Service is one of the two parts of a backend.
type Service uint8

const (
	IMAP Service = iota
	SMTP
)

func (s Service) String() string {
	if s == SMTP {
		return "submission"
	}
	return "imap"
}

// Client is a client's connection, as far as a server behind is told of it.
type Client struct {
	ID            uint64 // mux.Conn's, for logs
	Remote, Local netip.AddrPort
	ServerName    string
	TLS           *tls.ConnectionState
	// Names is what an IMAP client said of itself with ID (RFC 2971), as field
	// and value in turn. It is not a source of trust.
	Names []string
}

// Submission is what a submission server can do.
type Submission struct {
	// MaxSize is the largest message in octets; 0: it does not say.
	MaxSize                 int64
	EightBitMIME, UTF8, DSN bool // RFC 6152, RFC 6531, RFC 3461
	// AnySender says that the server decides which sender addresses an account
	// may use, in the envelope and in the message; else they are the account's
	// own.
	AnySender bool
}

// IMAPSession is a conversation in the authenticated state that waits for its
// client. Exactly one of Serve and Close is called.
type IMAPSession interface {
	// Capabilities is the space-separated list of what may be used after
	// login, as it stands in a CAPABILITY response code.
	Capabilities() string
	// Serve carries the conversation over client, which has read the greeting
	// or the tagged OK, until either side ends it; it does not close client.
	// When ctx ends, the session tells the client BYE with the text of
	// context.Cause, as soon as that fits between two responses, and returns.
	// The error is io.EOF when the client hung up without LOGOUT.
	Serve(ctx context.Context, client net.Conn) error
	Close() error
}

// IMAPStarter is an IMAPSession that can go on without a goroutine of its own:
// one behind which a server does the work. Start is called in place of Serve.
type IMAPStarter interface {
	IMAPSession
	// Start does what Serve does, and returns at once. done is called once, with
	// what Serve would return, when nothing uses client any more.
	Start(ctx context.Context, client net.Conn, done func(error))
}
