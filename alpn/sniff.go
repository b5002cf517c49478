package alpn

import "bytes"

// SniffLen is how many bytes Sniff needs at most.
const SniffLen = 64

// Sniff decides by a client's first bytes which protocol it speaks: EHLO or
// HELO is submission, an IMAP tag and command is IMAP, all else HTTP, silence
// included. more is true as long as b could still become something else; a
// decision without more never changes when bytes follow.
func Sniff(b []byte) (p Protocol, more bool) {
	full := len(b) >= SniffLen
	b = b[:min(len(b), SniffLen)]
	tag, rest := span(b, tagByte)
	switch {
	case len(rest) == 0:
		return HTTP1, !full
	case wordEnd(rest[0]) && (foldEqual(tag, "EHLO") || foldEqual(tag, "HELO")):
		return SMTP, false
	case len(tag) == 0 || rest[0] != ' ':
		return HTTP1, false
	}
	command, rest := span(rest[1:], letter)
	if len(rest) == 0 {
		return HTTP1, !full && beginsCommand(command)
	}
	if wordEnd(rest[0]) && isCommand(command) {
		return IMAP, false
	}
	return HTTP1, false
}

// span cuts b at the first byte that is not of a kind.
func span(b []byte, kind func(byte) bool) (head, tail []byte) {
	for i, c := range b {
		if !kind(c) {
			return b[:i], b[i:]
		}
	}
	return b, nil
}

// tagByte reports whether c can stand in an IMAP tag: 1*<any ASTRING-CHAR
// except "+"> (RFC 9051 section 9).
func tagByte(c byte) bool {
	return c > ' ' && c < 0x7f && bytes.IndexByte([]byte(`(){%*"\+`), c) < 0
}

func letter(c byte) bool  { return 'A' <= c&^0x20 && c&^0x20 <= 'Z' }
func wordEnd(c byte) bool { return c == ' ' || c == '\r' || c == '\n' }

func foldEqual(b []byte, s string) bool { return bytes.EqualFold(b, []byte(s)) }

// commands are those of RFC 9051 and RFC 3501, ID, and UNAUTHENTICATE. Most
// are refused before login, but by somebody who speaks IMAP. None of them can
// be the target of an HTTP request, which begins with "/", "*" or a scheme and
// a colon, or has a port.
var commands = [...]string{
	"CAPABILITY", "NOOP", "LOGOUT", "ID", "STARTTLS", "AUTHENTICATE", "LOGIN",
	"ENABLE", "SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE",
	"UNSUBSCRIBE", "LIST", "LSUB", "NAMESPACE", "STATUS", "APPEND", "IDLE",
	"CLOSE", "UNSELECT", "EXPUNGE", "SEARCH", "FETCH", "STORE", "COPY", "MOVE",
	"UID", "CHECK", "UNAUTHENTICATE",
}

func isCommand(b []byte) bool {
	for _, c := range commands {
		if foldEqual(b, c) {
			return true
		}
	}
	return false
}

func beginsCommand(b []byte) bool {
	for _, c := range commands {
		if len(b) <= len(c) && foldEqual(b, c[:len(b)]) {
			return true
		}
	}
	return false
}
