package mailbox

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-message/charset"

	"posthorn/mailbox/structure"
)

// matchHeader looks for a text in the fields of a name; an empty text asks
// for the field as such.
func (m *candidate) matchHeader(c imap.SearchCriteriaHeaderField) (bool, error) {
	if err := m.open(); err != nil {
		return false, err
	}
	f := &fieldFinder{name: c.Key, text: c.Value}
	err := m.findFields(f, m.content.root)
	return f.found, err
}

// contains looks for a text in the body, and in the headers too if asked to.
func (m *candidate) contains(text string, headers bool) (bool, error) {
	if err := m.open(); err != nil {
		return false, err
	}
	return m.partContains(m.content.root, text, headers, true)
}

func (m *candidate) partContains(p *structure.Part, text string, headers, message bool) (bool, error) {
	if m.search.late() {
		return false, errSearchLimit
	}
	if headers || !message {
		f := &fieldFinder{text: text}
		if err := m.findFields(f, p); f.found || err != nil {
			return f.found, err
		}
	}
	switch {
	case p.Message != nil: // its header is part of the body (RFC 9051 section 6.4.4)
		return m.partContains(p.Message, text, headers, false)
	case p.Multipart():
		for _, child := range p.Children {
			ok, err := m.partContains(child, text, headers, true)
			if ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	case !p.Text():
		return text == "", nil
	}
	return m.textContains(p, text)
}

// textContains looks for a text in a part that is text, decoded to UTF-8.
func (m *candidate) textContains(p *structure.Part, text string) (bool, error) {
	r, err := decodeTransfer(m.content.reader(p.Body, p.End), p.Encoding)
	if err != nil {
		return false, nil // nobody can read it
	}
	if cs := p.Charset(); cs != "" && cs != "us-ascii" && cs != "utf-8" {
		if decoded, err := charset.Reader(cs, r); err == nil {
			r = decoded
		}
	}
	return m.search.readerContains(untilBroken{r}, text)
}

// readerContains looks for a text, which is in lower case, in what r reads.
func (s *search) readerContains(r io.Reader, text string) (bool, error) {
	want := []byte(text)
	buf := make([]byte, 32<<10)
	var window []byte // lower case; the end of what was read before, and what follows
	have := 0         // of buf: the start of a rune that is not complete
	for {
		n, err := r.Read(buf[have:])
		have += n
		whole := have
		if err == nil {
			whole -= incompleteRune(buf[:have])
		}
		window = append(window, bytes.ToLower(buf[:whole])...)
		if bytes.Contains(window, want) {
			return true, nil
		}
		have = copy(buf, buf[whole:have])
		window = append(window[:0], window[max(0, len(window)-len(want)):]...)
		switch {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		case s.late():
			return false, errSearchLimit
		}
	}
}

// incompleteRune returns how many octets at the end of b begin a rune that is
// not complete.
func incompleteRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if utf8.RuneStart(b[len(b)-n]) {
			if utf8.FullRune(b[len(b)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

// findFields passes the header of p to f until it has found its text.
func (m *candidate) findFields(f *fieldFinder, p *structure.Part) error {
	err := m.content.copy(f, p.Header, p.Body)
	if err == nil {
		err = f.endField()
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// fieldFinder looks for a text in the header fields written to it.
type fieldFinder struct {
	name  string // empty: any
	text  string // in lower case
	found bool

	line  []byte // a line that is not complete
	field []byte // the field so far
}

// Write returns errEnough once the text is found.
func (f *fieldFinder) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		complete := end > 0
		if !complete {
			end = len(b)
		}
		if room := maxTextField - len(f.line); room > 0 {
			f.line = append(f.line, b[:min(room, end)]...)
		}
		b = b[end:]
		if complete {
			if err := f.endLine(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (f *fieldFinder) endLine() error {
	if len(f.line) > 0 && f.line[0] != ' ' && f.line[0] != '\t' {
		if err := f.endField(); err != nil {
			return err
		}
	}
	if room := maxTextField - len(f.field); room > 0 {
		f.field = append(f.field, f.line[:min(room, len(f.line))]...)
	}
	f.line = f.line[:0]
	return nil
}

func (f *fieldFinder) endField() error {
	f.field = append(f.field, f.line...)
	name, value, ok := bytes.Cut(f.field, []byte{':'})
	if f.name == "" {
		value = f.field
	}
	if (f.name == "" || ok && strings.EqualFold(string(bytes.TrimSpace(name)), f.name)) && len(f.field) > 0 {
		f.found = strings.Contains(strings.ToLower(structure.DecodeText(string(value))), f.text)
	}
	f.field = f.field[:0]
	if f.found {
		return errEnough
	}
	return nil
}
