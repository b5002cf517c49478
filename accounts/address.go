package accounts

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// ErrAddress says that a text is no address for mail here; the error that
// wraps it names what is wrong and does not repeat the text.
var ErrAddress = errors.New("not an acceptable address")

// RFC 5321 section 4.5.3.1.
const (
	maxLocal  = 64
	maxDomain = 255
)

// ParseAddress checks an e-mail address and returns its normalized form:
// dot-atom or UTF-8 local part (RFC 5321, RFC 6531; no quoted strings) in
// lower case and NFC, "@", and the domain in lower-case A-labels. Its error is
// ErrAddress and names what is wrong.
func ParseAddress(s string) (string, error) {
	n, err := parseAddress(s)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return n, nil
}

func parseAddress(s string) (string, error) {
	// Nothing acceptable shrinks to a quarter, and what is longer is not worth
	// the work of normalizing it.
	if len(s) > 4*(maxLocal+1+maxDomain) {
		return "", errors.New("too long")
	}
	if !utf8.ValidString(s) {
		return "", errors.New("not UTF-8")
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return "", errors.New("no @")
	}
	local, err := parseLocal(s[:at])
	if err != nil {
		return "", fmt.Errorf("local part: %w", err)
	}
	domain, err := parseDomain(s[at+1:])
	if err != nil {
		return "", fmt.Errorf("domain: %w", err)
	}
	return local + "@" + domain, nil
}

// domainOf returns the domain of a normalized address.
func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

func parseLocal(s string) (string, error) {
	if strings.HasPrefix(s, `"`) {
		return "", errors.New("quoted strings are not accepted")
	}
	// Composed first, because lower case is defined on composed letters, and
	// again after it, because there are letters that are composed in lower case only.
	s = norm.NFC.String(strings.ToLower(norm.NFC.String(s)))
	switch {
	case s == "":
		return "", errors.New("empty")
	case len(s) > maxLocal:
		return "", fmt.Errorf("longer than %d octets", maxLocal)
	case s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, ".."):
		return "", errors.New("a dot at an end, or two in a row")
	}
	for _, r := range s {
		if !isAtomText(r) {
			return "", fmt.Errorf("character %+q is not accepted", r)
		}
	}
	return s, nil
}

// isAtomText reports whether r can stand in a dot-atom: a dot, atext of RFC
// 5322, or what RFC 6532 adds to it, of which only visible characters are
// taken: invisible ones make two names that look the same. Among those are
// letters (the Hangul fillers), marks (variation selectors) and a symbol (the
// Braille pattern without a dot).
func isAtomText(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune(".!#$%&'*+-/=?^_`{|}~", r)
	}
	return unicode.IsPrint(r) && r != utf8.RuneError && r != '\u2800' &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// domains maps names to A-labels as browsers do. It is not strict about ASCII
// because some mail domains begin with an underscore; parseDomain looks at the
// characters itself.
var domains = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(true),
	idna.BidiRule(),
	idna.VerifyDNSLength(true),
)

// isPlainDomain reports whether domains would leave s as it is. That is so for
// nearly all, and every login has to know it several times.
func isPlainDomain(s string) bool {
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.' && label > 0:
			label = 0
			continue
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-' && label > 0 && s[i-1] != '-':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0 && len(s) <= 253 && !strings.Contains(s, "-.") && s[len(s)-1] != '-'
}

func parseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return "", errors.New("IP addresses are not accepted")
	}
	d := s
	if !isPlainDomain(s) {
		var err error
		if d, err = domains.ToASCII(s); err != nil {
			return "", errors.New("not a domain name")
		}
		d = strings.ToLower(d)
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return "", errors.New("a label is empty or has a hyphen at an end")
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return "", fmt.Errorf("character %+q is not accepted", rune(c))
			}
		}
	}
	if _, err := netip.ParseAddr(d); err == nil {
		return "", errors.New("IP addresses are not accepted")
	}
	return d, nil
}
