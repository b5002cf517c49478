package sendmail

import (
	"io"
)

// Envelope is what is said of a message besides its text (RFC 5321 section 2.3.1).
type Envelope struct {
	Sender     string   `json:"sender"` // empty: nobody, for reports
	Recipients []string `json:"recipients"`
	// EightBit says that the message needs 8BITMIME (RFC 6152), UTF8 that it needs
	// SMTPUTF8 (RFC 6531).
	EightBit bool `json:"eight_bit,omitempty"`
	UTF8     bool `json:"utf8,omitempty"`
	Reports
}

// Reports is what is asked for about delivery (RFC 3461): when to be notified,
// what to be sent back, and under which name.
type Reports struct {
	Notify []string `json:"notify,omitempty"` // NEVER, or some of SUCCESS, FAILURE, DELAY
	Return string   `json:"return,omitempty"` // FULL or HDRS
	ID     string   `json:"envelope_id,omitempty"`
}

// wanted reports whether anything is asked for that a gateway may not offer.
func (r *Reports) wanted() bool { return len(r.Notify) > 0 || r.Return != "" || r.ID != "" }

// Message is a message that can be submitted. Its lines end in CRLF, and there is
// no other CR or LF in it, and no NUL.
type Message struct {
	Envelope
	Text io.ReaderAt
	Size int64
}

// reader returns the message from its beginning.
func (m *Message) reader() io.Reader { return io.NewSectionReader(m.Text, 0, m.Size) }
