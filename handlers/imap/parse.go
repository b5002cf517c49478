package imap

import (
	"bytes"
	"strconv"
	"strings"
)

// syntaxError is why a command is BAD.
type syntaxError string

func (e syntaxError) Error() string { return string(e) }

const (
	maxTag      = 128
	maxLiterals = 64 // in one command: ID has up to 60 strings
)

// parser reads one command. Literals are asked for and read when their turn
// comes, so that no client is asked for the literal of a command that is
// refused anyway.
type parser struct {
	in       *input
	limits   Limits
	proceed  func() error // sends a continuation request
	line     []byte       // what is left of the present line
	literals int
}

// cutTag splits a command behind its tag. ok is false when the tag is not one
// that can be repeated in an answer.
func cutTag(line []byte) (tag string, rest []byte, ok bool) {
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

// announces reports whether the rest of the line may announce a literal that
// comes without being asked for.
func (p *parser) announces() bool { return bytes.HasSuffix(p.line, []byte("+}")) }

// end reports whether the command ends here.
func (p *parser) end() error {
	if len(p.line) > 0 {
		return syntaxError("Expected the end of the command")
	}
	return nil
}

// take reads one byte, if it is there.
func (p *parser) take(ch byte) bool {
	ok := len(p.line) > 0 && p.line[0] == ch
	if ok {
		p.line = p.line[1:]
	}
	return ok
}

// space reads the one space that separates arguments.
func (p *parser) space() error {
	if !p.take(' ') {
		return syntaxError("Expected a space")
	}
	return nil
}

// atom reads an atom (RFC 9051 section 9).
func (p *parser) atom() (string, error) {
	n := 0
	for n < len(p.line) && isAtomChar(p.line[n]) {
		n++
	}
	if n == 0 {
		return "", syntaxError("Expected an atom")
	}
	s := string(p.line[:n])
	p.line = p.line[n:]
	return s, nil
}

// astring reads an atom, which may contain "]", or a string.
func (p *parser) astring() (string, error) {
	if len(p.line) == 0 || p.line[0] == '"' || p.line[0] == '{' {
		return p.str()
	}
	n := 0
	for n < len(p.line) && (isAtomChar(p.line[n]) || p.line[n] == ']') {
		n++
	}
	if n == 0 {
		return "", syntaxError("Expected a string")
	}
	s := string(p.line[:n])
	p.line = p.line[n:]
	return s, nil
}

// str reads a quoted string or a literal.
func (p *parser) str() (string, error) {
	switch {
	case p.take('"'):
		return p.quoted()
	case p.take('{'):
		return p.literal()
	}
	return "", syntaxError("Expected a string")
}

// quoted reads a quoted string behind its first quote. Only quotes and
// backslashes can be escaped; UTF-8 is taken, as in IMAP4rev2.
func (p *parser) quoted() (string, error) {
	var sb strings.Builder
	for i := 0; i < len(p.line); i++ {
		ch := p.line[i]
		switch {
		case ch == '"':
			p.line = p.line[i+1:]
			return sb.String(), nil
		case ch == '\\':
			if i++; i == len(p.line) || p.line[i] != '"' && p.line[i] != '\\' {
				return "", syntaxError("Malformed quoted string")
			}
			ch = p.line[i]
		case ch < ' ' || ch == 0x7f:
			return "", syntaxError("Control character in a quoted string")
		}
		sb.WriteByte(ch)
	}
	return "", syntaxError("Unterminated quoted string")
}

// literal reads a literal behind its first brace (RFC 9051 section 4.3).
func (p *parser) literal() (string, error) {
	digits, ok := bytes.CutSuffix(p.line, []byte("}"))
	digits, nonSync := bytes.CutSuffix(digits, []byte("+"))
	size, err := strconv.ParseUint(string(digits), 10, 31)
	switch p.literals++; {
	case !ok || err != nil:
		return "", syntaxError("Malformed literal")
	case int(size) > p.limits.Literal || p.literals > maxLiterals:
		return "", syntaxError("Literal too big before login")
	}
	p.line = nil
	if !nonSync {
		if err := p.proceed(); err != nil {
			return "", err
		}
	}
	b, err := p.in.octets(int(size))
	if err != nil {
		return "", err
	}
	s := string(b)
	if p.line, err = p.in.line(p.limits.Line); err != nil {
		return "", err
	}
	if strings.ContainsRune(s, 0) {
		return "", syntaxError("NUL in a literal")
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
