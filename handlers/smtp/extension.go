package smtp

import (
	"fmt"
	"strings"

	"posthorn/backend"
)

// extensions takes the lines of a reply to EHLO that are extensions out of it.
func extensions(reply string) []string {
	lines := strings.Split(strings.TrimSuffix(reply, "\r\n"), "\r\n")[1:]
	for i, line := range lines {
		lines[i] = line[len("250-"):]
	}
	return lines
}

// greeted is the reply to EHLO or HELO of a server that has some extensions, as
// far as the backend has them too. RFC 5321 section 4.1.1.1: it names itself.
func greeted(hostname string, extensions []string, can backend.Submission) string {
	missing := map[string]bool{"8BITMIME": !can.EightBitMIME, "SMTPUTF8": !can.UTF8, "DSN": !can.DSN}
	var b strings.Builder
	last := hostname
	for _, extension := range extensions {
		keyword, _, _ := strings.Cut(extension, " ")
		switch {
		case missing[keyword]:
			continue
		case keyword == "SIZE":
			extension = fmt.Sprintf("SIZE %d", can.MaxSize)
		}
		fmt.Fprintf(&b, "250-%s\r\n", last)
		last = extension
	}
	fmt.Fprintf(&b, "250 %s\r\n", last)
	return b.String()
}

// Lengths of DSN parameters: RFC 3461 sections 4.2 and 4.4.
const (
	maxEnvelopeID = 100
	maxOriginal   = 500
)

// dsnParameter checks a parameter of MAIL or RCPT as far as go-smtp does not: it
// lets through what is too long, or no xtext.
func (g *guard) dsnParameter(key, value string) (refusal string) {
	ok := true
	switch key {
	case "ENVID":
		ok = len(value) <= maxEnvelopeID && isXtext(value)
	case "ORCPT":
		kind, address, _ := strings.Cut(value, ";")
		ok = len(value) <= maxOriginal && (strings.EqualFold(kind, "utf-8") || isXtext(address))
	}
	switch {
	case !g.offer().DSN:
		return replyParameter
	case !ok:
		return replyBadParameter
	}
	return ""
}

// isXtext reports whether s is in the encoding of RFC 3461 section 4.
func isXtext(s string) bool {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			if i+2 >= len(s) || !strings.Contains(hex, s[i+1:i+2]) || !strings.Contains(hex, s[i+2:i+3]) {
				return false
			}
			i += 2
		case c <= ' ', c > '~', c == '=':
			return false
		}
	}
	return s != ""
}
