// Package backend is what stands behind the gateway: the embedded mailboxes,
// or real IMAP and submission servers. Handlers cannot tell which.
package backend

import (
	"context"
	"net"

	"github.com/emersion/go-smtp"

	"posthorn/accounts"
)

// Backend opens conversations on behalf of accounts that have logged in at the
// gateway.
type Backend interface {
	// OpenIMAP returns an IMAP conversation in the authenticated state. The
	// error is an *imap.Error when the backend itself answered; any other means
	// that it cannot serve now and may later: NO [UNAVAILABLE] (RFC 5530).
	OpenIMAP(ctx context.Context, l *accounts.Login) (IMAPSession, error)
	// OpenSubmission returns a submission conversation that is logged in. Its
	// errors are *smtp.SMTPError, fit to be shown to the client. Data returns
	// nil only when the message is durably taken. Addresses are already
	// checked for syntax; the sender is one of the account's.
	OpenSubmission(ctx context.Context, l *accounts.Login) (smtp.Session, error)
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
