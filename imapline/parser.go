// Package imapline reads the commands that clients send before login, who are not
// trusted: bounded lines, and of their arguments those that come up there.
package imapline

import (
	"bytes"
	"strconv"
	"strings"
)

// SyntaxError is why a command is BAD, fit for the answer.
type SyntaxError string

func (e SyntaxError) Error() string { return string(e) }

const (
	maxTag      = 128
	maxLiterals = 64 // in one command: ID has up to 60 strings
)

// Parser reads the arguments of one command. Literals are asked for and read when
// their turn comes, so that no client is asked for the literal of a command that
// is refused anyway. Its fields are set before use; its errors are SyntaxError,
// or those of In and Proceed.
type Parser struct {
	In         *Input
	MaxLine    int          // bytes of a line
	MaxLiteral int          // octets of a literal
	Proceed    func() error // sends a continuation request
	Line       []byte       // what is left of the present line

	literals int
}

// CutTag splits a command behind its tag. ok is false when the tag is not one
// that can be repeated in an answer.
func CutTag(line []byte) (tag string, rest []byte, ok bool) {
	word, rest, _ := bytes.Cut(line, []byte(" "))
	if len(word) == 0 || len(word) > maxTag {
		return "*", nil, false
	}
	for _, ch := range word {
		if ch != ']' && !isAtomChar(ch) || ch == '+' {
			return "*", nil, false
		}
	}
	return string(word), rest, true
}

// Announces reports whether the rest of the line may announce a literal that
// comes without being asked for.
func (p *Parser) Announces() bool { return bytes.HasSuffix(p.Line, []byte("+}")) }

// End reports whether the command ends here.
func (p *Parser) End() error {
	if len(p.Line) > 0 {
		return SyntaxError("Expected the end of the command")
	}
	return nil
}

// Take reads one byte, if it is there.
func (p *Parser) Take(ch byte) bool {
	ok := len(p.Line) > 0 && p.Line[0] == ch
	if ok {
		p.Line = p.Line[1:]
	}
	return ok
}

// Space reads the one space that separates arguments.
func (p *Parser) Space() error {
	if !p.Take(' ') {
		return SyntaxError("Expected a space")
	}
	return nil
}

// Atom reads an atom (RFC 9051 section 9).
func (p *Parser) Atom() (string, error) {
	n := 0
	for n < len(p.Line) && isAtomChar(p.Line[n]) {
		n++
	}
	if n == 0 {
		return "", SyntaxError("Expected an atom")
	}
	s := string(p.Line[:n])
	p.Line = p.Line[n:]
	return s, nil
}

// Astring reads an atom, which may contain "]", or a string.
func (p *Parser) Astring() (string, error) {
	if len(p.Line) == 0 || p.Line[0] == '"' || p.Line[0] == '{' {
		return p.str()
	}
	n := 0
	for n < len(p.Line) && (isAtomChar(p.Line[n]) || p.Line[n] == ']') {
		n++
	}
	if n == 0 {
		return "", SyntaxError("Expected a string")
	}
	s := string(p.Line[:n])
	p.Line = p.Line[n:]
	return s, nil
}

// str reads a quoted string or a literal.
func (p *Parser) str() (string, error) {
	switch {
	case p.Take('"'):
		return p.quoted()
	case p.Take('{'):
		return p.literal()
	}
	return "", SyntaxError("Expected a string")
}

// quoted reads a quoted string behind its first quote. Only quotes and
// backslashes can be escaped; UTF-8 is taken, as in IMAP4rev2.
func (p *Parser) quoted() (string, error) {
	var sb strings.Builder
	for i := 0; i < len(p.Line); i++ {
		ch := p.Line[i]
		switch {
		case ch == '"':
			p.Line = p.Line[i+1:]
			return sb.String(), nil
		case ch == '\\':
			if i++; i == len(p.Line) || p.Line[i] != '"' && p.Line[i] != '\\' {
				return "", SyntaxError("Malformed quoted string")
			}
			ch = p.Line[i]
		case ch < ' ' || ch == 0x7f:
			return "", SyntaxError("Control character in a quoted string")
		}
		sb.WriteByte(ch)
	}
	return "", SyntaxError("Unterminated quoted string")
}

// literal reads a literal behind its first brace (RFC 9051 section 4.3).
func (p *Parser) literal() (string, error) {
	digits, ok := bytes.CutSuffix(p.Line, []byte("}"))
	digits, nonSync := bytes.CutSuffix(digits, []byte("+"))
	size, err := strconv.ParseUint(string(digits), 10, 31)
	switch p.literals++; {
	case !ok || err != nil:
		return "", SyntaxError("Malformed literal")
	case int(size) > p.MaxLiteral || p.literals > maxLiterals:
		return "", SyntaxError("Literal too big before login")
	}
	p.Line = nil
	if !nonSync {
		if err := p.Proceed(); err != nil {
			return "", err
		}
	}
	b, err := p.In.Octets(int(size))
	if err != nil {
		return "", err
	}
	s := string(b)
	if p.Line, err = p.In.Line(p.MaxLine); err != nil {
		return "", err
	}
	if strings.ContainsRune(s, 0) {
		return "", SyntaxError("NUL in a literal")
	}
	return s, nil
}

// isAtomChar reports whether ch can stand in an atom.
func isAtomChar(ch byte) bool {
	switch ch {
	case '(', ')', '{', ' ', '%', '*', '"', '\\', ']':
		return false
	}
	return ch > ' ' && ch < 0x7f
}
