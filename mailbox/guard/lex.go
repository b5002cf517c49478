package guard

import (
	"bytes"
	"strconv"
)

// literal is the announcement of a literal at the end of a line (RFC 9051
// section 4.3). The zero value stands for none.
type literal struct {
	at      int // where it begins in the line; 0: there is no literal
	size    int64
	nonSync bool
	binary  bool // literal8 (RFC 3516)
}

// syntaxError is why a command is BAD.
type syntaxError string

func (e syntaxError) Error() string { return string(e) }

// lexer checks what the syntax of all commands has in common, over the lines
// of one command. The zero value is ready for a command.
type lexer struct{ depth int }

// line checks one line, without its CRLF, and returns the literal that it
// ends with, if any. Quoted strings are read as imapserver reads them.
func (l *lexer) line(b []byte) (literal, error) {
	quoted, escaped := false, false
	for i, ch := range b {
		switch {
		case ch < ' ' || ch == 0x7f:
			return literal{}, syntaxError("Control character")
		case escaped:
			escaped = false
		case quoted && ch == '\\':
			escaped = true
		case ch == '"':
			quoted = !quoted
		case quoted:
		case ch == '{':
			return parseLiteral(b, i)
		case ch == '(':
			if l.depth++; l.depth > maxDepth {
				return literal{}, syntaxError("Too many parentheses")
			}
		case ch == ')':
			if l.depth--; l.depth < 0 {
				return literal{}, syntaxError("Unbalanced parentheses")
			}
		}
	}
	switch {
	case quoted:
		return literal{}, syntaxError("Unterminated quoted string")
	case l.depth > 0:
		return literal{}, syntaxError("Unbalanced parentheses")
	}
	return literal{}, nil
}

// parseLiteral reads "{size}" or "{size+}" at b[i:], which must end b.
func parseLiteral(b []byte, i int) (literal, error) {
	const malformed = syntaxError("Malformed literal")
	lit := literal{at: i}
	digits, ok := bytes.CutSuffix(b[i+1:], []byte("}"))
	if !ok {
		return literal{}, malformed
	}
	digits, lit.nonSync = bytes.CutSuffix(digits, []byte("+"))
	for _, d := range digits {
		if d < '0' || d > '9' {
			return literal{}, malformed
		}
	}
	size, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return literal{}, malformed
	}
	lit.size = size
	if i > 0 && b[i-1] == '~' {
		lit.at, lit.binary = i-1, true
	}
	if lit.at == 0 {
		return literal{}, syntaxError("Literal in place of a tag")
	}
	return lit, nil
}

// cutTag splits a line behind its tag. ok is false when the tag is not one that
// can be repeated in an answer.
func cutTag(line []byte) (tag string, rest []byte, ok bool) {
	word, rest, _ := bytes.Cut(line, []byte(" "))
	if len(word) == 0 || len(word) > maxTag {
		return "", nil, false
	}
	for _, ch := range word {
		if !isAtomChar(ch) || ch == '+' || ch >= 0x80 {
			return "", nil, false
		}
	}
	return string(word), rest, true
}

// cutWord splits at the first space, and puts the word in upper case.
func cutWord(b []byte) (word string, rest []byte) {
	w, rest, _ := bytes.Cut(b, []byte(" "))
	return string(bytes.ToUpper(w)), rest
}

func isAtomChar(ch byte) bool {
	switch ch {
	case '(', ')', '{', ' ', '%', '*', '"', '\\', ']':
		return false
	}
	return ch > ' ' && ch != 0x7f
}
