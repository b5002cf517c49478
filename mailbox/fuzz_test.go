package mailbox_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"posthorn/mailbox"
)

func FuzzMailboxName(f *testing.F) {
	for _, name := range []string{"INBOX", "inbox/x", "a/b", "..", "a//b", "\x00", "ü", "a\u202eb", strings.Repeat("x", 300)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, ok := mailbox.CanonicalName(name)
		if !ok {
			return
		}
		if again, ok := mailbox.CanonicalName(got); !ok || again != got {
			t.Errorf("%q becomes %q becomes %q", name, got, again)
		}
		if len(got) > 255 || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) || strings.ContainsAny(got, "*%") {
			t.Errorf("%q is accepted", got)
		}
		for part := range strings.SplitSeq(got, "/") {
			if part == "" || part == "." || part == ".." {
				t.Errorf("%q is accepted", got)
			}
		}
	})
}

// matches is what LIST patterns mean, said as simply as can be.
func matches(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	if c := pattern[0]; c == '*' || c == '%' {
		return matches(pattern[1:], name) ||
			name != "" && (c == '*' || name[0] != '/') && matches(pattern, name[1:])
	}
	return name != "" && pattern[0] == name[0] && matches(pattern[1:], name[1:])
}

func FuzzListPattern(f *testing.F) {
	f.Add("*", "a/b")
	f.Add("%/b", "a/b")
	f.Add("a*%b", "a/x/b")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 12 || len(name) > 12 || strings.HasPrefix(pattern, "/") || strings.HasPrefix(strings.ToUpper(pattern), "INBOX") {
			return
		}
		if got, want := mailbox.MatchPattern(pattern, name), matches(pattern, name); got != want {
			t.Errorf("%q and %q: %v", pattern, name, got)
		}
	})
}

// FuzzRecords reads anything as records; what it can read, it can write so that
// it is read as the same again.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 1, 2, 3, 4, 5, 6, 1, 'k'})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, record := range mailbox.DecodeRecords(b) {
			if record == nil {
				continue
			}
			found := false
			for _, again := range mailbox.DecodeRecords(record) {
				found = found || bytes.Equal(again, record)
			}
			if !found {
				t.Errorf("%x becomes %x becomes something else", b, record)
			}
		}
	})
}

// FuzzSearch searches for anything: a session answers, in time, and lives on.
func FuzzSearch(f *testing.F) {
	s := open(f, mailbox.Options{})
	deliver(f, s, hello, "a")
	deliver(f, s, nested, "a")
	for _, key := range []string{
		"ALL", "1:*", "UID 1,*", `OR NOT SEEN (BODY "x" TEXT "y")`, "HEADER a b", "SENTON 1-Oct-2026", "$", "LARGER 5",
		"NOT NOT NOT 1", "KEYWORD k", "RETURN (SAVE) ALL", "CHARSET UTF-8 SUBJECT \"ü\"",
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if strings.ContainsAny(key, "\r\n\x00{") || len(key) > 2000 {
			return
		}
		c := newTalk(t, s, "a")
		c.do("SELECT INBOX")
		c.do("SEARCH " + key)
		if got := c.do("FETCH 1 UID"); fmt.Sprint(got) != "[* 1 FETCH (UID 1) OK]" {
			t.Errorf("then %q", got)
		}
	})
}
