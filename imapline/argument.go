package imapline

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// DecodeSASL decodes a response. The empty one is "=" or nothing; some clients
// write it as "".
func DecodeSASL(b []byte) ([]byte, error) {
	if len(b) == 0 || string(b) == "=" || string(b) == `""` {
		return []byte{}, nil
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	if err != nil {
		return nil, SyntaxError("Malformed base64")
	}
	return out[:n], nil
}

const maxIDField = 128 // bytes of a field or value that are kept

// ID reads the arguments of ID (RFC 2971): field and value in turn, made
// printable and cut.
//
//	SP ("(" [string SP nstring …] ")" / "NIL").
func (p *Parser) ID() (fields []string, err error) {
	if err := p.Space(); err != nil {
		return nil, err
	}
	if bytes.EqualFold(p.Line, []byte("NIL")) {
		p.Line = nil
		return nil, nil
	}
	if !p.Take('(') {
		return nil, SyntaxError("Expected a list")
	}
	for !p.Take(')') {
		if len(fields) > 0 {
			if err := p.Space(); err != nil {
				return nil, err
			}
		}
		s, err := p.Astring() // values may be NIL
		if err != nil {
			return nil, err
		}
		if fields = append(fields, Printable(s[:min(len(s), maxIDField)])); len(fields) > 60 {
			return nil, SyntaxError("Too many fields")
		}
	}
	if len(fields)%2 != 0 {
		return nil, SyntaxError("A field has no value")
	}
	return fields, p.End()
}

// IsForeign reports whether a line is of HTTP or SMTP: its sender is lost, or
// a browser that somebody makes talk to us.
func IsForeign(line []byte) bool {
	first, _, _ := bytes.Cut(line, []byte(" "))
	last := line[bytes.LastIndexByte(line, ' ')+1:]
	return bytes.EqualFold(first, []byte("EHLO")) || bytes.EqualFold(first, []byte("HELO")) ||
		len(last) == len("HTTP/1.1") && bytes.HasPrefix(last, []byte("HTTP/"))
}

// Printable makes a text fit for a response line.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
