package smtp

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// go-smtp looks at a command's parameters in no order. So that whoever sends
// several bad ones hears the same each time, they are checked here, as they stand;
// what go-smtp may still refuse is one of each command: ENVID and ORCPT.

// mailParameter checks a parameter of MAIL.
func (g *guard) mailParameter(key, value string) (refusal string) {
	switch key {
	case "SIZE": // RFC 1870: up to 20 digits, of which go-smtp reads 32 bits
		size, err := strconv.ParseUint(value, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrRange), err == nil && size > uint64(g.limit):
			return replyTooBig
		case err != nil:
			return replyBadParameter
		}
	case "BODY": // RFC 6152
		if !strings.EqualFold(value, "7BIT") && !strings.EqualFold(value, "8BITMIME") {
			return replyBody
		}
	case "AUTH": // RFC 4954 section 5
		if !isXtext(value) {
			return replyBadParameter
		}
	case "SMTPUTF8": // RFC 6531 section 3.4
		if value != "" {
			return replyBadParameter
		}
	case "RET": // RFC 3461 section 4.3
		return g.dsnParameter(strings.EqualFold(value, "FULL") || strings.EqualFold(value, "HDRS"))
	case "ENVID": // RFC 3461 section 4.4
		return g.dsnParameter(len(value) <= maxEnvelopeID && isXtext(value))
	default:
		return replyParameter
	}
	return ""
}

// rcptParameter checks a parameter of RCPT.
func (g *guard) rcptParameter(key, value string) (refusal string) {
	switch key {
	case "NOTIFY":
		return g.dsnParameter(isNotify(value))
	case "ORCPT": // RFC 3461 section 4.2, RFC 6533 section 3
		kind, address, _ := strings.Cut(value, ";")
		return g.dsnParameter(len(value) <= maxOriginal && (strings.EqualFold(kind, "utf-8") || isXtext(address)))
	}
	return replyParameter
}

// Lengths of DSN parameters: RFC 3461 sections 4.2 and 4.4.
const (
	maxEnvelopeID = 100
	maxOriginal   = 500
)

// dsnParameter refuses a parameter that is not offered, or whose value is bad.
func (g *guard) dsnParameter(ok bool) (refusal string) {
	switch {
	case !g.offer().DSN:
		return replyParameter
	case !ok:
		return replyBadParameter
	}
	return ""
}

// isNotify reports whether s is a value of NOTIFY: RFC 3461 section 4.1.
func isNotify(s string) bool {
	when := strings.Split(strings.ToUpper(s), ",")
	slices.Sort(when)
	if len(slices.Compact(when)) < len(when) {
		return false
	}
	for _, w := range when {
		switch w {
		case "SUCCESS", "FAILURE", "DELAY":
		case "NEVER":
			return len(when) == 1
		default:
			return false
		}
	}
	return true
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
