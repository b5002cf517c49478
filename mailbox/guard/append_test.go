package guard_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"posthorn/mailbox/guard"
)

// messages is how many messages are in a served user's INBOX.
func (s *served) messages() int {
	s.t.Helper()
	data, err := s.user.Status("INBOX", &imap.StatusOptions{NumMessages: true})
	if err != nil {
		s.t.Fatal(err)
	}
	return int(*data.NumMessages)
}

func TestAppend(t *testing.T) {
	const date = `"01-Jan-2026 10:00:00 +0000"`
	big := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		name, send string
		want       []string // beginnings of lines
		messages   int
	}{
		{"synchronizing", "a APPEND INBOX {5}\r\nhello\r\n", []string{"+ ", "a OK [APPENDUID"}, 1},
		{"non-synchronizing", "a APPEND INBOX {5+}\r\nhello\r\n", []string{"a OK [APPENDUID"}, 1},
		{"one octet", "a APPEND INBOX {1+}\r\nx\r\n", []string{"a OK [APPENDUID"}, 1},
		{"flags and date", `a APPEND "INBOX" (\Seen $Work) ` + date + " {5+}\r\nhello\r\n", []string{"a OK"}, 1},
		{"no flags", `a APPEND INBOX () {5+}` + "\r\nhello\r\n", []string{"a OK"}, 1},
		{"mailbox as literal", "a APPEND {5}\r\nINBOX (\\Seen) {5}\r\nhello\r\n", []string{"+ ", "+ ", "a OK"}, 1},
		{"literal8", "a APPEND INBOX ~{5+}\r\nhello\r\n", []string{"a OK"}, 1},
		{"UTF8", "a APPEND INBOX UTF8 (~{5+}\r\nhello)\r\n", []string{"a OK"}, 1},
		{"big", "a APPEND INBOX {5000}\r\n" + big + "\r\n", []string{"+ ", "a OK"}, 1},
		{"of the greatest size", fmt.Sprintf("a APPEND INBOX {%d}\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20)), []string{"+ ", "a OK"}, 1},
		{"two commands", strings.Repeat("a APPEND INBOX {5+}\r\nhello\r\n", 2), []string{"a OK", "a OK"}, 2},

		{"too big: no continuation", fmt.Sprintf("a APPEND INBOX {%d}\r\n", 1<<20+1), []string{"a NO [TOOBIG]"}, 0},
		{"non-synchronizing over 4096 octets", "a APPEND INBOX {5000+}\r\n" + big + "\r\n", []string{"a BAD"}, 0},
		{"empty", "a APPEND INBOX {0}\r\n", []string{"a NO"}, 0},
		{"empty, non-synchronizing", "a APPEND INBOX {0+}\r\n\r\n", []string{"a NO"}, 0},
		{"no such mailbox", "a APPEND Nowhere {5+}\r\nhello\r\n", []string{"a NO [TRYCREATE]"}, 0},
		{"no such mailbox, synchronizing", "a APPEND Nowhere {5}\r\nhello\r\n", []string{"+ ", "a NO [TRYCREATE]"}, 0},
		{"mailbox name that imapserver refuses", "a APPEND \"&AP\" {20}\r\n", []string{"a BAD"}, 0},
		{"the same, non-synchronizing", "a APPEND \"&AP\" {8+}\r\nx NOOP\r\n (\\Seen) {8+}\r\ny NOOP\r\n\r\n", []string{"a BAD"}, 0},
		{"without a literal", "a APPEND INBOX \"hello\"\r\nb APPEND\r\nc APPEND INBOX\r\n", []string{"a BAD", "b BAD", "c BAD"}, 0},
		{"malformed date", "a APPEND INBOX \"yesterday\" {8+}\r\nx NOOP\r\n\r\n", []string{"a BAD"}, 0},
		{"malformed flags", "a APPEND INBOX (\\) {8+}\r\nx NOOP\r\n\r\nb APPEND INBOX (\"x\") {5}\r\n", []string{"a BAD", "b BAD"}, 0},
		{"unknown extension", "a APPEND INBOX CATENATE (URL \"x\" TEXT {8+}\r\nx NOOP\r\n)\r\n", []string{"a BAD"}, 0},
		{"UTF8 without literal8", "a APPEND INBOX UTF8 ({5+}\r\nhello)\r\n", []string{"a BAD"}, 0},
		{"mailbox as literal8", "a APPEND ~{5}\r\n", []string{"a BAD"}, 0},
		{"MULTIAPPEND", "a APPEND INBOX {5}\r\nhello (\\Seen) {5}\r\n", []string{"+ ", "a BAD MULTIAPPEND"}, 0},
		{"MULTIAPPEND, non-synchronizing", "a APPEND INBOX {5+}\r\nhello {8+}\r\nx NOOP\r\n {8+}\r\ny NOOP\r\n\r\n", []string{"a BAD MULTIAPPEND"}, 0},
		{"something behind the message", "a APPEND INBOX {5+}\r\nhello!\r\nb APPEND INBOX {5+}\r\nhello\r\n", []string{"a BAD", "b OK"}, 1},
		{"bare LF behind the message", "a APPEND INBOX {5+}\r\nhello\n", []string{"* BYE", "EOF"}, 0},
		{"UTF8 left open", "a APPEND INBOX UTF8 (~{5+}\r\nhello\r\n", []string{"a BAD"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, t.Context(), guard.Options{})
			talk(t, s, tt.send, tt.want...)
			if n := s.messages(); n != tt.messages {
				t.Errorf("%d messages, want %d", n, tt.messages)
			}
		})
		t.Run(tt.name+"/byte by byte", func(t *testing.T) {
			if len(tt.send) > 10000 {
				return
			}
			s := serve(t, t.Context(), guard.Options{})
			s.Conn = trickle{s.Conn}
			talk(t, s, tt.send, tt.want...)
			if n := s.messages(); n != tt.messages {
				t.Errorf("%d messages, want %d", n, tt.messages)
			}
		})
	}
}

// A message whose last octet, or whose command's end, does not come is not there.
func TestCutOffAppend(t *testing.T) {
	const whole = "a APPEND INBOX {5+}\r\nhello\r\n"
	for n := range len(whole) {
		s := serve(t, t.Context(), guard.Options{})
		io.WriteString(s, whole[:n])
		s.Close()
		select {
		case <-s.guard.Done():
		case <-time.After(5 * time.Second):
			t.Fatalf("after %q: imapserver goes on", whole[:n])
		}
		if n := s.messages(); n != 0 {
			t.Errorf("after %q: %d messages", whole[:n], n)
		}
	}
}
