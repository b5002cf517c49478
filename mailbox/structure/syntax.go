package structure

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

const maxParams = 64

// parseParams reads "value; name=value; …" (RFC 2045 section 5.1) and forgives
// what it can: values without quotes that need them, comments, stray
// semicolons. Names come in lower case; of two equal ones the first counts.
func parseParams(s string) (value string, params []Param) {
	sc := scanner{s: s}
	value = strings.TrimSpace(sc.until(";"))
	for sc.skip(';') && len(params) < maxParams {
		name := strings.ToLower(strings.TrimSpace(sc.until("=;")))
		if !sc.skip('=') {
			continue
		}
		v := strings.TrimSpace(sc.until(";"))
		if isToken(name) && !hasParam(params, name) {
			params = append(params, Param{name, clean(v)})
		}
	}
	return value, params
}

func hasParam(params []Param, name string) bool {
	for _, p := range params {
		if p.Name == name {
			return true
		}
	}
	return false
}

// isToken says whether s is a token (RFC 2045 section 5.1).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != "" && len(s) <= maxBoundary
}

// parseAddresses reads an address list (RFC 5322 section 3.4) and forgives
// what it can. Groups are as imap.Address has them; what has no @ is left out.
func parseAddresses(s string) []imap.Address {
	var list []imap.Address
	inGroup := false
	sc := scanner{s: s}
	for sc.i < len(sc.s) {
		sc.comment = ""
		phrase := sc.until(",;:<")
		switch {
		case sc.skip('<'):
			spec := sc.until(">")
			sc.skip('>')
			sc.until(",;") // whatever follows the angle brackets
			list = appendAddress(list, phrase, spec)
		case sc.skip(':'):
			if name := DecodeText(strings.TrimSpace(phrase)); name != "" && !inGroup {
				list = append(list, imap.Address{Mailbox: name})
				inGroup = true
			}
			continue
		default:
			list = appendAddress(list, sc.comment, phrase)
		}
		if sc.skip(';') {
			if inGroup {
				list = append(list, imap.Address{})
			}
			inGroup = false
		} else {
			sc.skip(',')
		}
	}
	if inGroup {
		list = append(list, imap.Address{})
	}
	return list
}

func appendAddress(list []imap.Address, name, spec string) []imap.Address {
	spec = clean(spec)
	if strings.HasPrefix(spec, "@") { // a source route, RFC 5322 section 4.4
		_, spec, _ = strings.Cut(spec, ":")
	}
	i := strings.LastIndexByte(spec, '@')
	if i < 0 {
		return list
	}
	a := imap.Address{
		Name:    DecodeText(strings.TrimSpace(name)),
		Mailbox: strings.TrimSpace(spec[:i]),
		Host:    strings.TrimSpace(spec[i+1:]),
	}
	if a.Mailbox == "" || a.Host == "" {
		return list
	}
	return append(list, a)
}

// scanner reads structured header fields: quoted strings lose their quotes,
// comments are taken out.
type scanner struct {
	s       string
	i       int
	comment string // the last one
}

func (sc *scanner) skip(c byte) bool {
	if sc.i < len(sc.s) && sc.s[sc.i] == c {
		sc.i++
		return true
	}
	return false
}

// until returns the text up to one of the octets in stop, or to the end.
func (sc *scanner) until(stop string) string {
	var b strings.Builder
	for sc.i < len(sc.s) {
		switch c := sc.s[sc.i]; {
		case c == '"':
			sc.quoted(&b)
		case c == '(':
			sc.skipComment()
		case strings.IndexByte(stop, c) >= 0:
			return b.String()
		default:
			b.WriteByte(c)
			sc.i++
		}
	}
	return b.String()
}

// quoted appends the content of the quoted string at sc.i.
func (sc *scanner) quoted(b *strings.Builder) {
	for sc.i++; sc.i < len(sc.s); sc.i++ {
		switch c := sc.s[sc.i]; {
		case c == '"':
			sc.i++
			return
		case c == '\\' && sc.i+1 < len(sc.s):
			sc.i++
			b.WriteByte(sc.s[sc.i])
		default:
			b.WriteByte(c)
		}
	}
}

// skipComment passes the comment at sc.i, and those inside it.
func (sc *scanner) skipComment() {
	start, depth := sc.i+1, 0
	for ; sc.i < len(sc.s); sc.i++ {
		switch sc.s[sc.i] {
		case '\\':
			sc.i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				sc.comment = sc.s[start:sc.i]
				sc.i++
				return
			}
		}
	}
	sc.i = len(sc.s)
}
