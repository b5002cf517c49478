package backend

import (
	"errors"
	"strconv"
	"strings"
)

// imapReply is a line from an IMAP server, as far as it matters before login
// (RFC 9051 section 7).
type imapReply struct {
	tag    string // "*", "+", or a command's
	status string // OK, NO, BAD, BYE or PREAUTH; empty: something else
	code   string // the response code without its brackets
	text   string // what is behind tag, status and code
	line   string // all of it, with its literals
}

var errIMAPGarbled = errors.New("not an IMAP response")

// parseIMAPReply parses a line without its CRLF.
func parseIMAPReply(line string) (imapReply, error) {
	if strings.ContainsAny(line, "\r\n\x00") {
		return imapReply{}, errIMAPGarbled
	}
	tag, rest, found := strings.Cut(line, " ")
	if tag == "+" {
		return imapReply{tag: tag, text: rest, line: line}, nil
	}
	if tag == "" || !found {
		return imapReply{}, errIMAPGarbled
	}
	word, text, _ := strings.Cut(rest, " ")
	status := imapStatus(word)
	switch {
	case status == "" && tag == "*":
		return imapReply{tag: tag, text: rest, line: line}, nil
	case status == "":
		return imapReply{}, errIMAPGarbled
	case !strings.HasPrefix(text, "["):
		return imapReply{tag: tag, status: status, text: text, line: line}, nil
	}
	code, text, closed := strings.Cut(text[1:], "]")
	if !closed {
		return imapReply{}, errIMAPGarbled
	}
	return imapReply{tag, status, code, strings.TrimPrefix(text, " "), line}, nil
}

// imapStatus is a status in upper case; empty: word is none.
func imapStatus(word string) string {
	for _, status := range [...]string{"OK", "NO", "BAD", "BYE", "PREAUTH"} {
		if strings.EqualFold(status, word) {
			return status
		}
	}
	return ""
}

// codeIs reports whether r has one of some response codes.
func (r *imapReply) codeIs(codes ...string) bool {
	word, _, _ := strings.Cut(r.code, " ")
	for _, code := range codes {
		if strings.EqualFold(word, code) {
			return true
		}
	}
	return false
}

// capabilities returns the list in an untagged CAPABILITY, or in a response
// code; false when there is none.
func (r *imapReply) capabilities() (string, bool) {
	data := r.code
	if r.status == "" && r.tag == "*" {
		data = r.text
	}
	word, list, _ := strings.Cut(data, " ")
	return list, strings.EqualFold(word, "CAPABILITY")
}

// literal returns the size of the literal that r announces at its end; negative:
// none. There is none in the free text of a status.
func (r *imapReply) literal() (int, error) {
	if r.status != "" || r.tag != "*" {
		return -1, nil
	}
	return announcedLiteral(r.text)
}

// announcedLiteral returns the size of the literal that begins behind a line;
// negative: none does.
func announcedLiteral(line string) (int, error) {
	digits, closed := strings.CutSuffix(line, "}")
	open := strings.LastIndexByte(digits, '{')
	if !closed || open < 0 {
		return -1, nil
	}
	n, err := strconv.ParseUint(digits[open+1:], 10, 31)
	if err != nil || n > maxIMAPLiteral {
		return 0, errors.New("a literal that is too long before login")
	}
	return int(n), nil
}

// cut shortens what a server says to what is worth repeating.
func cut(s string) string { return s[:min(len(s), 200)] }
