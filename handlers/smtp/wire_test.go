package smtp

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"posthorn/mux"
)

// script is a link whose client says one thing for each Read, and which notes
// what is asked of it.
type script struct {
	pipe
	says   []string
	before func(says string) // a Read returns that
	events []string
}

func (s *script) Read(p []byte) (int, error) {
	s.events = append(s.events, "read")
	if len(s.says) == 0 {
		return 0, io.EOF
	}
	if s.before != nil {
		s.before(s.says[0])
	}
	n := copy(p, s.says[0])
	s.says = s.says[1:]
	return n, nil
}

func (s *script) SetReadDeadline(time.Time) error { return nil }

func (s *script) OwesData(owes bool) {
	s.events = append(s.events, map[bool]string{true: "owes", false: "free"}[owes])
}

const envelope = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"

// A client has to hurry with a message, and with nothing else. For the time
// that the Session took it is not blamed, not even when that read nothing.
func TestOwesData(t *testing.T) {
	for _, c := range []struct{ says, events string }{
		{"NOOP\r\n|NOOP\r\n", "read read read"},
		{envelope + "|RSET\r\n", "read read free read"},
		{envelope + "DATA\r\n|x\r\n|.\r\n", "read owes read read owes free read"},
		{envelope + "BDAT 2\r\nx|xBDAT 1 LAST\r\n|x|", "read owes read read owes free read read"},
		{strings.Replace(envelope, "c@", "no@", 1) + "DATA\r\nx|\r\n.\r\n", "read owes owes read free read"},
	} {
		s := &script{says: append([]string{"EHLO x\r\n"}, strings.Split(c.says, "|")...)}
		converse(t, newWire(context.Background(), s, 200), 1000)
		if got := strings.Join(s.events, " "); got != "read free "+c.events {
			t.Errorf("%q: got %s", c.says, got)
		}
	}
}

// What comes in while goodbye is said has no effect: the client has heard that
// it is not taken.
func TestNothingAfterGoodbye(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &script{says: []string{"EHLO x\r\n" + envelope + "DATA\r\n", "x\r\n", ".\r\n"}}
	w := newWire(ctx, s, 200)
	s.before = func(says string) {
		if says == ".\r\n" {
			cancel(mux.ErrRevoked)
			w.goodbye()
		}
	}
	messages := converse(t, w, 1000)
	replies := strings.Split(strings.TrimSuffix(s.out.String(), "\r\n"), "\r\n")
	if last := slices.Index(replies, "421 4.7.0 Access revoked"); last != len(replies)-1 || len(messages) != 0 {
		t.Errorf("%q, %q", replies, messages)
	}
}
