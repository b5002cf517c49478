package imapline_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"posthorn/imapline"
)

const maxLine, maxLiteral = 64, 16

// read reads commands of strings up to the first error, and returns the strings.
func read(in io.Reader) (words []string, asked int, err error) {
	input := &imapline.Input{Reader: in}
	for {
		line, err := input.Line(maxLine)
		if err != nil {
			return words, asked, err
		}
		_, rest, ok := imapline.CutTag(line)
		if !ok {
			return words, asked, imapline.SyntaxError("tag")
		}
		p := &imapline.Parser{In: input, MaxLine: maxLine, MaxLiteral: maxLiteral, Line: rest, Proceed: func() error { asked++; return nil }}
		for first := true; len(p.Line) > 0; first = false {
			if !first {
				if err := p.Space(); err != nil {
					return words, asked, err
				}
			}
			word, err := p.Astring()
			if err != nil {
				return words, asked, err
			}
			words = append(words, word)
		}
	}
}

func TestStrings(t *testing.T) {
	for _, tt := range []struct {
		in    string
		want  string // joined with |
		asked int
		err   error
	}{
		{"a x y]\r\n", "x|y]", 0, io.EOF},
		{`a "q \"\\ q" ""` + "\r\n", `q "\ q|`, 0, io.EOF},
		{"a {3}\r\nx\r\n {2+}\r\nyz {0}\r\n\r\n", "x\r\n|yz|", 2, io.ErrUnexpectedEOF},
		{"a {17}\r\n", "", 0, imapline.SyntaxError("Literal too big before login")},
		{"a {16+}\r\nx\x00", "", 0, io.EOF},
		{"a {2+}\r\nx\x00\r\n", "", 0, imapline.SyntaxError("NUL in a literal")},
		{"a " + strings.Repeat("x", 63) + "\r\n", "", 0, imapline.ErrLong},
		{"a x\nb y\r\n", "", 0, imapline.ErrLineEnd},
		{"a x\ry\r\n", "", 0, imapline.ErrLineEnd},
		{"a \"x\r\n", "", 0, imapline.SyntaxError("Unterminated quoted string")},
		{"a (\r\n", "", 0, imapline.SyntaxError("Expected a string")},
	} {
		for _, in := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in))} {
			words, asked, err := read(in)
			if tt.err == io.ErrUnexpectedEOF {
				tt.err = io.EOF
			}
			if strings.Join(words, "|") != tt.want || asked != tt.asked || !errors.Is(err, tt.err) {
				t.Errorf("%q: %q, asked %d times, %v", tt.in, words, asked, err)
			}
		}
	}
}

// FuzzStrings: what is read does not depend on how it comes in, and stays in
// bounds.
func FuzzStrings(f *testing.F) {
	for _, seed := range []string{"a x y\r\n", "a {3+}\r\nabc \"d\"\r\n", "a {3}\r\nabc\r\nb {17+}\r\n", "\r\r\n", "a \"\\\"\r\n", "a {5++}\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		whole, asked, err := read(strings.NewReader(in))
		again, askedAgain, errAgain := read(iotest.OneByteReader(strings.NewReader(in)))
		if strings.Join(whole, "\x00") != strings.Join(again, "\x00") || asked != askedAgain || !errors.Is(errAgain, err) {
			t.Errorf("%q, %d, %v; octet by octet %q, %d, %v", whole, asked, err, again, askedAgain, errAgain)
		}
		for _, w := range whole {
			if len(w) > maxLine {
				t.Errorf("a string of %d octets", len(w))
			}
		}
	})
}
