// Package mailbox is the embedded message store and its IMAP sessions: the
// backend that runs with no set-up. It keeps mail in a Badger database of its
// own, knows users only by an opaque ID, and never sees a password or a key.
package mailbox

import (
	"context"
	"errors"
	"io"
	"net"
)

var (
	// ErrOverQuota says that a message does not fit in a user's quota.
	ErrOverQuota = errors.New("mailbox: over quota")
	// ErrTooBig says that a message is larger than Options.MaxMessageSize.
	ErrTooBig = errors.New("mailbox: message too big")
	// ErrFull says that the disk is: nothing was stored, try later.
	ErrFull = errors.New("mailbox: no space")
)

// Options are the settings of a Store. Zero fields take the defaults.
type Options struct {
	MaxMessageSize int64 // bytes; default 50 MiB
	Quota          int64 // bytes of messages for each user; default 0: none
}

// Store keeps the mail of all users. Its methods may be called concurrently.
type Store struct{}

// Open opens or creates the store in dir, which it locks, and removes what
// unfinished deliveries left behind.
func Open(dir string, o Options) (*Store, error) { panic("unbuilt") }

// Run does the store's background work until ctx ends.
func (s *Store) Run(ctx context.Context) error { panic("unbuilt") }

// Deliver streams one message (CRLF line ends, RFC 5322) into the INBOX of
// each user, of all or none. When it returns nil the message is on disk and
// sessions in IDLE are being told; when it returns an error (also one of r),
// nobody will ever see it. Memory use does not depend on the message's size.
func (s *Store) Deliver(ctx context.Context, users []string, r io.Reader) error { panic("unbuilt") }

// Capabilities is what sessions offer, as it stands in a CAPABILITY response
// code: "IMAP4rev1 IMAP4rev2 IDLE …".
func (s *Store) Capabilities() string { panic("unbuilt") }

// ServeIMAP speaks IMAP in the authenticated state with client on behalf of
// user, without a greeting (the caller has sent one), until LOGOUT, the end of
// either side, or the end of ctx: then it says BYE with the text of
// context.Cause(ctx). It does not close client.
func (s *Store) ServeIMAP(ctx context.Context, client net.Conn, user string) error {
	panic("unbuilt")
}

// Usage returns how much a user's messages take, in bytes and messages.
func (s *Store) Usage(ctx context.Context, user string) (bytes int64, messages int, err error) {
	panic("unbuilt")
}

// RemoveUser deletes all mail of a user; sessions of the user end.
func (s *Store) RemoveUser(ctx context.Context, user string) error { panic("unbuilt") }

// Backup writes a consistent copy of all mail while the store is in use.
func (s *Store) Backup(ctx context.Context, w io.Writer) error { panic("unbuilt") }

// Restore fills an empty store from such a copy.
func (s *Store) Restore(ctx context.Context, r io.Reader) error { panic("unbuilt") }

// Close waits for running deliveries and closes the database.
func (s *Store) Close() error { panic("unbuilt") }
