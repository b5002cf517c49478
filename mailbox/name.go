package mailbox

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	delimiter    = '/' // between the components of a mailbox name
	maxName      = 255 // octets
	maxDepth     = 20  // components
	maxFolders   = 500 // so that a change to all of them fits in a transaction
	inbox        = "INBOX"
	delimiterStr = "/"
)

// canonicalName checks the name of a mailbox that a client gave, and returns
// the form in which it is stored: INBOX in upper case (RFC 9051 section 5.1),
// also as the parent of others.
func canonicalName(name string) (string, bool) {
	if len(name) > maxName || !utf8.ValidString(name) {
		return "", false
	}
	parts := strings.Split(name, delimiterStr)
	if len(parts) > maxDepth {
		return "", false
	}
	for _, part := range parts {
		if part == "" || part == "." || part == ".." || strings.TrimSpace(part) != part ||
			strings.ContainsFunc(part, badNameRune) {
			return "", false
		}
	}
	if strings.EqualFold(parts[0], inbox) {
		parts[0] = inbox
	}
	return strings.Join(parts, delimiterStr), true
}

// badNameRune refuses control and format characters, which look like nothing
// or like something else, and the wildcards of LIST.
func badNameRune(r rune) bool {
	return r == '*' || r == '%' || r == utf8.RuneError || unicode.Is(unicode.Cc, r) ||
		unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}

// parents are the names above name, the highest first.
func parents(name string) []string {
	var l []string
	for i, r := range name {
		if r == delimiter {
			l = append(l, name[:i])
		}
	}
	return l
}

// pattern is a LIST pattern (RFC 9051 section 6.3.9.1).
type pattern []byte

// maxPattern bounds the work of matching.
const maxPattern = 2 * maxName

// newPattern combines reference and mailbox name of a LIST command. Patterns
// that are longer than any name match nothing.
func newPattern(reference, p string) (pattern, bool) {
	if strings.HasPrefix(p, delimiterStr) {
		reference, p = "", p[1:]
	}
	if reference != "" && !strings.HasSuffix(reference, delimiterStr) {
		reference += delimiterStr
	}
	p = reference + p
	if len(p) >= len(inbox) && strings.EqualFold(p[:len(inbox)], inbox) &&
		(len(p) == len(inbox) || p[len(inbox)] == delimiter) {
		p = inbox + p[len(inbox):]
	}
	return pattern(p), len(p) <= maxPattern
}

// match says whether name matches: * stands for any octets, % for any but the
// delimiter. The work is the product of both lengths at most.
func (p pattern) match(name string) bool {
	at := make([]bool, len(name)+1) // the positions in name that p[:i] can reach
	at[0] = true
	for _, c := range p {
		if c == '*' || c == '%' {
			for j := range len(name) {
				if at[j] && (c == '*' || name[j] != delimiter) {
					at[j+1] = true
				}
			}
			continue
		}
		for j := len(name); j > 0; j-- {
			at[j] = at[j-1] && name[j-1] == c
		}
		at[0] = false
	}
	return at[len(name)]
}

// anyMatch says whether one of the patterns matches.
func anyMatch(patterns []pattern, name string) bool {
	for _, p := range patterns {
		if p.match(name) {
			return true
		}
	}
	return false
}
