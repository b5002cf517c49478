package guard

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decodeMailbox reads a mailbox name in modified UTF-7 (RFC 3501 section 5.1.3)
// or in UTF-8 (RFC 9051 section 5.1).
func decodeMailbox(s string) (string, bool) {
	if strings.EqualFold(s, "INBOX") {
		return "INBOX", true
	}
	var sb strings.Builder
	for {
		plain, rest, shifted := strings.Cut(s, "&")
		sb.WriteString(plain)
		if !shifted {
			return sb.String(), utf8.ValidString(sb.String())
		}
		coded, after, ok := strings.Cut(rest, "-")
		if !ok {
			return "", false
		}
		if s = after; coded == "" {
			sb.WriteByte('&')
			continue
		}
		b, err := base64.RawStdEncoding.DecodeString(strings.ReplaceAll(coded, ",", "/"))
		if err != nil || len(b)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
		}
		sb.WriteString(string(utf16.Decode(units)))
	}
}
