package https

import (
	"bytes"
	"strings"
)

// simple is a request of HTTP/1.1 that is as simple as can be: GET or HEAD of a
// path in which nothing is escaped, without a body, a condition or a range, on a
// connection that stays. Nobody can take it for another one.
type simple struct {
	head           bool   // HEAD, not GET
	host           string // as sent
	path           string
	acceptEncoding string // empty: none
}

// parse takes a request from the front of b, and returns its length; 0: it is not
// all there, or not simple. Nothing in r is b's, which may be used again.
func (r *simple) parse(b []byte) int {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0
	}
	text := string(b[:end+2])
	line, fields, _ := strings.Cut(text, "\r\n")
	if *r = (simple{}); !r.parseLine(line) {
		return 0
	}
	for len(fields) > 0 {
		if line, fields, _ = strings.Cut(fields, "\r\n"); !r.parseField(line) {
			return 0
		}
	}
	if r.host == "" {
		return 0
	}
	return end + len("\r\n\r\n")
}

// parseLine parses a request line (RFC 9112 section 3).
func (r *simple) parseLine(line string) bool {
	rest, ok := strings.CutPrefix(line, "GET /")
	if !ok {
		rest, r.head = strings.CutPrefix(line, "HEAD /")
		ok = r.head
	}
	target, isHTTP11 := strings.CutSuffix(rest, " HTTP/1.1")
	if !ok || !isHTTP11 {
		return false
	}
	last := byte('/')
	for _, c := range []byte(target) {
		// Not "//", "/.", an escape, a query or anything beyond RFC 3986's pchar.
		if !pathByte[c] || last == '/' && (c == '/' || c == '.') {
			return false
		}
		last = c
	}
	r.path = line[len(line)-len(rest)-1:][:len(target)+1]
	return true
}

// parseField parses a field line (RFC 9112 section 5).
func (r *simple) parseField(line string) bool {
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" {
		return false
	}
	for _, c := range []byte(name) {
		if !tokenByte[c] {
			return false
		}
	}
	for _, c := range []byte(value) {
		if (c < ' ' && c != '\t') || c >= 0x7f {
			return false
		}
	}
	value = strings.Trim(value, " \t")
	is := func(other string) bool { return len(name) == len(other) && strings.EqualFold(name, other) }
	switch name[0] | 0x20 {
	case 'h':
		if is("Host") {
			ok = r.host == "" && value != ""
			r.host = value
		}
		return ok && !is("HTTP2-Settings")
	case 'a':
		if is("Accept-Encoding") {
			ok = r.acceptEncoding == ""
			r.acceptEncoding = value
		}
		return ok
	case 'c':
		return !is("Content-Length") && (!is("Connection") || strings.EqualFold(value, "keep-alive"))
	case 'i':
		return len(name) < 3 || name[2] != '-' // If-…
	case 'r':
		return !is("Range")
	case 'e':
		return !is("Expect")
	case 't':
		return !is("Transfer-Encoding") && !is("Trailer") && !is("TE")
	case 'u':
		return !is("Upgrade")
	}
	return true
}

// byteSet is a set of bytes.
type byteSet [256]bool

func bytesOf(chars string) (s byteSet) {
	for _, c := range []byte(chars + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		s[c] = true
	}
	return s
}

var (
	tokenByte = bytesOf("!#$%&'*+-.^_`|~")   // RFC 9110 section 5.6.2
	pathByte  = bytesOf("-._~!$&'()*+,=:@/") // RFC 3986 section 3.3, without % and ;
)
