package guard_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"posthorn/mailbox/guard"
)

// FuzzGuard sends arbitrary bytes to a real imapserver behind the guard. What
// comes on a fresh line behind them is answered, or the connection is closed.
func FuzzGuard(f *testing.F) {
	for _, seed := range []string{
		"a NOOP\r\n",
		"a SELECT INBOX\r\nb IDLE\r\nDONE\r\n",
		"a IDLE\r\nb NOOP\r\n",
		"a APPEND INBOX (\\Seen) \"01-Jan-2026 10:00:00 +0000\" {5}\r\nhello\r\n",
		"a APPEND INBOX {5+}\r\nhello {5+}\r\nhello\r\n",
		"a APPEND {5+}\r\nINBOX UTF8 (~{5+}\r\nhello)\r\n",
		"a APPEND \"&AP\" {8+}\r\nx NOOP\r\n\r\n",
		"a CREATE {3+}\r\na\"b\r\nb LIST \"\" {1}\r\n*\r\n",
		"a SEARCH CHARSET UTF-8 OR (TEXT {3}\r\nabc) NOT 1:*\r\n",
		"a UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS ({4+}\r\nDate)]<0.10>)\r\n",
		"a XYZZY {5000+}\r\n", "a CREATE {5++}\r\n", "a CREATE \"{5+}\r\n", "{5+}\r\n",
		"a ID (\"name\" {3+}\r\nx y NIL NIL)\r\n",
		"a GETQUOTAROOT \"&AOQ-\"\r\n", "a GETQUOTA {0+}\r\n\r\n",
		"a STORE 1 +FLAGS.SILENT (\\Deleted)\r\nb EXPUNGE\r\nc CLOSE\r\n",
		"a LOGIN {3}\r\nb AUTHENTICATE PLAIN {3+}\r\nabc\r\n",
		"a NOOP\nb NOOP\r\n", "\x00\r\n", "a NOOP\r",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input string) {
		if strings.Contains(strings.ToUpper(input), "LOGOUT") {
			return
		}
		var w waker
		s := serve(t, t.Context(), guard.Options{AppendLimit: 2000, Idle: w.idle})
		s.send(input)
		// Enough of them to fill the greatest literal that may be pending.
		s.send(strings.Repeat("\r\nmarker NOOP\r\n", 70000/15))
		s.SetReadDeadline(time.Now().Add(5 * time.Second))
		for {
			line, err := s.r.ReadString('\n')
			switch {
			case strings.HasPrefix(line, "marker OK"), err == io.EOF:
				return
			case err != nil:
				t.Fatalf("neither an answer nor the end: %v", err)
			}
		}
	})
}
