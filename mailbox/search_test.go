package mailbox_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"posthorn/mailbox"
)

func TestSearch(t *testing.T) {
	s := open(t, mailbox.Options{})
	c := newTalk(t, s, "a")
	for _, m := range []struct{ options, message string }{
		{`(\Seen) "01-Oct-2026 23:30:00 -0800" `, hello},
		{`(\Flagged kw) "02-Oct-2026 00:30:00 +0800" `, nested},
		{`"03-Oct-2026 12:00:00 +0000" `, "Date: Fri, 2 Oct 2026 01:00:00 -0300\r\nSubject: =?utf-8?b?w4RwZmVs?=\r\n =?utf-8?q?_und_Birnen?=\r\n" +
			"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nw4RQRkVMIHVuZCBaaXRyb25lbg==\r\n"},
		{`(\Deleted \Draft \Answered) "04-Oct-2026 12:00:00 +0000" `, "X-Empty:\r\nCc: x@example.org\r\nBcc: y@example.org\r\n" +
			"Content-Type: text/plain; charset=koi8-r\r\n\r\n\xf0\xd2\xc9\xd7\xc5\xd4\r\n" + strings.Repeat("filler ", 20000) + "needle\r\n"},
	} {
		if got := c.append("INBOX", m.options, m.message); got != "OK APPENDUID" {
			t.Fatal(got)
		}
	}
	if err := s.Deliver(t.Context(), []string{"a"}, newMessage(1<<20, io.EOF)); err != nil {
		t.Fatal(err)
	}
	c.do("SELECT INBOX")
	for _, tc := range []struct{ key, want string }{
		{"ALL", "1 2 3 4 5"},
		{"1:2,*", "1 2 5"},
		{"UID 2:3", "2 3"},
		{"UID 99:*", "5"},
		{"99", ""},
		{"SEEN", "1"}, {"UNSEEN", "2 3 4 5"}, {"FLAGGED", "2"}, {"DELETED", "4"}, {"DRAFT", "4"}, {"ANSWERED", "4"},
		{"UNANSWERED UNDELETED UNDRAFT UNFLAGGED", "1 3 5"},
		{"KEYWORD KW", "2"}, {"UNKEYWORD kw", "1 3 4 5"},
		{"RECENT", "1 2 3 4 5"}, {"NEW", "2 3 4 5"}, {"OLD", ""},
		{"ON 1-Oct-2026", "1"}, {"SINCE 2-Oct-2026 BEFORE 4-Oct-2026", "2 3"},
		{"SENTON 2-Oct-2026", "3"}, {"SENTBEFORE 2-Oct-2026", "1 5"}, {"SENTSINCE 2-Oct-2026", "3"},
		{"LARGER 100000", "4 5"}, {"SMALLER 300", "1 3"},
		{`SUBJECT "hello"`, "1 5"}, {`SUBJECT "OUTER"`, "2"}, {`SUBJECT "inner"`, ""},
		{`SUBJECT "äpfel und b"`, "3"}, {`HEADER Subject ""`, "1 2 3 5"}, {`HEADER X-Empty ""`, "4"}, {`HEADER X-Long "one two"`, "2"},
		{`FROM "alice"`, "1 5"}, {`TO "B@Y.example"`, "2"}, {`CC "x@"`, "4"}, {`BCC "y@"`, "4"},
		{`BODY "world"`, "1 5"}, {`BODY "hello"`, "1 5"}, {`BODY "subject: hello"`, ""},
		{`BODY "grüße!"`, "2"}, {`BODY "inner body"`, "2"}, {`BODY "subject: inner"`, "2"}, {`BODY "ABCDEF"`, ""},
		{`BODY "äpfel UND zitronen"`, "3"}, {`BODY "привет"`, "4"}, {`BODY "filler needle"`, "4"},
		{`TEXT "subject: outer"`, "2"}, {`TEXT "example.org"`, "1 4 5"}, {`TEXT "äpfel"`, "3"}, {`TEXT "application/y"`, "2"},
		{`TEXT "xyz0123"`, ""},
		{`NOT SEEN NOT (FLAGGED)`, "3 4 5"}, {`OR SEEN OR FLAGGED DELETED`, "1 2 4"},
		{`NOT OR (SEEN UID 1) (NOT BODY "needle")`, "4"}, {`NOT TEXT "e"`, ""},
	} {
		want := []string{strings.TrimSpace("* SEARCH " + tc.want), "OK"}
		key := strings.ReplaceAll(tc.key, `"`, `"`)
		c.want("SEARCH CHARSET UTF-8 "+key, want...)
	}
	c.want("SEARCH RETURN (MIN MAX COUNT) 2:4", `* ESEARCH (TAG "`+fmt.Sprintf("t%d", c.n+1)+`") MIN 2 MAX 4 COUNT 3`, "OK")
	c.want("UID SEARCH RETURN () NOT ALL", `* ESEARCH (TAG "`+fmt.Sprintf("t%d", c.n+1)+`") UID`, "OK")
	c.tagged("SEARCH CHARSET KOI8-R ALL", "NO [BADCHARSET]")

	c.do("SEARCH RETURN (SAVE) UNSEEN SMALLER 1000")
	c.want("FETCH $ UID", "* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)", "OK")
	c.want("SEARCH $ FLAGGED", "* SEARCH 2", "OK")
	c.want("UID STORE $ +FLAGS.SILENT (\\Deleted)", "OK")
	c.want("UID EXPUNGE $", "* 3 EXPUNGE", "* 2 EXPUNGE", "OK")
	c.want("FETCH $ UID", "OK")
	c.do("SEARCH RETURN (SAVE MIN) ALL")
	c.want("FETCH $ UID", "* 1 FETCH (UID 1)", "OK")
	c.do("SELECT INBOX")
	c.want("FETCH $ UID", "OK")
}

// TestSearchBombs asks for more than a search may cost.
func TestSearchBombs(t *testing.T) {
	s := open(t, mailbox.Options{})
	for range 20 {
		deliver(t, s, nested, "a")
	}
	for range 4 {
		if err := s.Deliver(t.Context(), []string{"a"}, newMessage(40<<20, io.EOF)); err != nil {
			t.Fatal(err)
		}
	}
	c := newTalk(t, s, "a")
	c.do("SELECT INBOX")
	c.do("SEARCH RETURN (SAVE) 1,3,5,7,9,11,13,15")
	for name, key := range map[string]string{
		"not not not": strings.Repeat("NOT ", 10000) + "ALL",
		"or or or":    strings.Repeat("OR ALL ", 5000) + "ALL",
		"parentheses": strings.Repeat("(", 60) + "ALL" + strings.Repeat(")", 60),
		"sets":        strings.Repeat("1:* UID 1:* ", 3500) + "ALL",
		"saved":       strings.Repeat("NOT $ $ ", 5000) + "ALL",
		"ranges":      strings.Repeat("1:4294967295,", 3500) + "*",
		"texts":       strings.Repeat("NOT TEXT zz ", 3500) + "ALL",
		"headers":     strings.Repeat("NOT HEADER a b ", 3000) + "ALL",
	} {
		start := time.Now()
		lines := c.do("SEARCH " + key)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: %v", name, took)
		}
		switch last := lines[len(lines)-1]; last {
		case "OK", "NO [LIMIT]", "BAD", "BAD [CLIENTBUG]":
		default:
			t.Errorf("%s: %q", name, last)
		}
	}
	c.want("NOOP", "OK")
}
