package mailbox

import (
	"errors"

	"github.com/emersion/go-imap/v2"
)

var errBadName = errors.New("mailbox: bad mailbox name")

func no(code imap.ResponseCode, text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

func clientBug(text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Code: imap.ResponseCodeClientBug, Text: text}
}

// replies are what clients hear of our errors (RFC 5530).
var replies = []struct {
	err  error
	code imap.ResponseCode
	text string
}{
	{ErrOverQuota, imap.ResponseCodeOverQuota, "Quota exceeded"},
	{ErrTooBig, imap.ResponseCodeTooBig, "Message too big"},
	{ErrFull, imap.ResponseCodeUnavailable, "No space left, try later"},
	{ErrClosed, imap.ResponseCodeUnavailable, "Server is shutting down"},
	{errNoFolder, imap.ResponseCodeNonExistent, "No such mailbox"},
	{errFolderExists, imap.ResponseCodeAlreadyExists, "Mailbox already exists"},
	{errHasChildren, "HASCHILDREN", "Mailbox has children; delete them first"},
	{errTooMany, imap.ResponseCodeLimit, "Too many mailboxes"},
	{errUseTaken, "USEATTR", "Another mailbox has that special use"},
	{errTooManyKeywords, imap.ResponseCodeLimit, "Too many or too long keywords"},
	{errFolderFull, imap.ResponseCodeLimit, "Mailbox is full"},
	{errBadName, imap.ResponseCodeCannot, "Bad mailbox name"},
	{errSearchLimit, imap.ResponseCodeLimit, "Search takes too long, ask for less"},
}

// connError is a failure to tell the client something: the connection is gone,
// which others will notice, and nobody hears the reply.
type connError struct{ err error }

func (e connError) Error() string { return e.err.Error() }
func (e connError) Unwrap() error { return e.err }

// told makes a connError of what writing to a client returned.
func told(err error) error {
	if err == nil {
		return nil
	}
	return connError{err}
}

// reply turns errors into replies, which is all that imapserver may be given.
// What is neither the client's nor the connection's doing is logged.
func (s *session) reply(err error) error {
	if err == nil {
		return nil
	}
	var reply *imap.Error
	if errors.As(err, &reply) {
		return reply
	}
	for _, r := range replies {
		if errors.Is(err, r.err) {
			return no(r.code, r.text)
		}
	}
	if !errors.As(err, new(connError)) {
		s.store.options.Log.Warn().Err(err).Msg("IMAP command failed")
	}
	return no(imap.ResponseCodeServerBug, "Internal error")
}

// tryCreate is reply for a destination that APPEND, COPY or MOVE named
// (RFC 9051 section 7.1).
func (s *session) tryCreate(err error) error {
	if errors.Is(err, errNoFolder) {
		return no(imap.ResponseCodeTryCreate, "No such mailbox")
	}
	return s.reply(err)
}
