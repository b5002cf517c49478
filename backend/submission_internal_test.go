package backend

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// lines hands out the lines of b as a connection would.
func lines(b []byte) func(limit int) (string, error) {
	return func(limit int) (string, error) {
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		if !ok || len(line) > limit {
			return "", io.ErrUnexpectedEOF
		}
		b = rest
		return string(line), nil
	}
}

// Whatever a server says, what goes on to go-smtp's client, to a client of the
// gateway and to the log is bounded and harmless, and says the same.
func FuzzSMTPReply(f *testing.F) {
	for _, s := range []string{
		"250 2.0.0 OK\r\n", "250-mail.test\r\n250-SIZE 1000\r\n250-size\r\n250 AUTH PLAIN\r\n", "550-5.7.1 a\r\n550 5.7.1 b\r\n",
		"550\r\n", "550-\r\n550\r\n", "55", "650 x\r\n", "250x\r\n", "550 5.7.1\r\n", "450 \x00\x1b[2J\xff\u00e9\t\r\n", "250-a\r\n550 b\r\n",
		"550 -1.-1.-1 x\r\n", "550 0.0.0 x\r\n", strings.Repeat("550-x\r\n", 200), "550 " + strings.Repeat("x", 990) + "\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := readSMTPReply(lines(in))
		if err != nil {
			return
		}
		wire := r.wire()
		again, err := readSMTPReply(lines(wire))
		if err != nil || again.code != r.code || !slices.Equal(again.lines, r.lines) || len(wire) > 110*maxReplyLine {
			t.Errorf("%q: %v is %v on the wire, %v", in, r, again, err)
		}
		for _, line := range r.lines {
			if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Errorf("%q: line %q", in, line)
			}
		}
		if o := parseSMTPOffer(r.upperKeywords().lines); o.submission() != parseSMTPOffer(r.lines).submission() || o.submission().MaxSize < 0 {
			t.Errorf("%q: offers %v", in, o)
		}
		shown, ok := verdict(r.err())
		if ok != (r.code >= 400) {
			t.Errorf("%q: verdict %v", in, shown)
		}
		if !ok {
			return
		}
		if shown.Code != r.code || strings.Count(shown.Message, "\n") >= maxShownLines || len(shown.Message) > maxShownLines*(maxShownLine+1) ||
			shown.EnhancedCode == smtp.EnhancedCodeNotSet {
			t.Errorf("%q: shown as %+v", in, shown)
		}
	})
}
