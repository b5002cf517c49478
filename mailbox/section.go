package mailbox

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/quotedprintable"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// section is one BODY[…], BINARY[…] or BINARY.SIZE[…] of a FETCH, ready to be
// written.
type section struct {
	open   func(r *imapserver.FetchResponseWriter, size int64) io.WriteCloser // nil: size only
	report func(r *imapserver.FetchResponseWriter, size int64)
	copy   func(w io.Writer) error // writes the section without regard to partial
	window window
}

// window is the part of a section that the client asked for.
type window struct{ offset, size int64 }

func newWindow(p *imap.SectionPartial, size int64) window {
	w := window{0, size}
	if p != nil {
		w.offset = min(p.Offset, size)
		w.size = min(p.Size, size-w.offset)
	}
	return w
}

func (s *section) write(r *imapserver.FetchResponseWriter) error {
	if s.open == nil {
		s.report(r, s.window.size)
		return nil
	}
	lit := s.open(r, s.window.size)
	err := s.copy(&windowWriter{w: lit, skip: s.window.offset, left: s.window.size})
	if closeErr := lit.Close(); err == nil {
		err = closeErr
	}
	return err
}

// windowWriter passes on what lies in a window.
type windowWriter struct {
	w          io.Writer
	skip, left int64
}

func (w *windowWriter) Write(b []byte) (int, error) {
	n := len(b)
	skip := min(w.skip, int64(len(b)))
	w.skip -= skip
	b = b[skip:]
	b = b[:min(w.left, int64(len(b)))]
	w.left -= int64(len(b))
	if len(b) > 0 {
		if _, err := w.w.Write(b); err != nil {
			return 0, told(err)
		}
	}
	return n, nil
}

// countWriter counts what is written.
type countWriter int64

func (w *countWriter) Write(b []byte) (int, error) {
	*w += countWriter(len(b))
	return len(b), nil
}

// sections finds the sections of a message.
func (f *fetch) sections(c *content) ([]section, error) {
	var all []section
	for _, item := range f.options.BodySection {
		s, err := bodySection(c, item)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	for _, item := range f.options.BinarySection {
		s, err := binarySection(c, item.Part, item.Partial)
		if err != nil {
			return nil, err
		}
		s.open = func(r *imapserver.FetchResponseWriter, size int64) io.WriteCloser {
			return r.WriteBinarySection(item, size)
		}
		all = append(all, s)
	}
	for _, item := range f.options.BinarySectionSize {
		s, err := binarySection(c, item.Part, nil)
		if err != nil {
			return nil, err
		}
		s.report = func(r *imapserver.FetchResponseWriter, size int64) {
			r.WriteBinarySectionSize(item, clampUint32(size))
		}
		all = append(all, s)
	}
	return all, nil
}

// bodySection locates a section (RFC 9051 section 6.4.5.1) by the offsets in
// the structure. One that does not exist is empty.
func bodySection(c *content, item *imap.FetchItemBodySection) (section, error) {
	start, end := locate(c, item)
	s := section{
		open: func(r *imapserver.FetchResponseWriter, size int64) io.WriteCloser {
			return r.WriteBodySection(item, size)
		},
		copy:   func(w io.Writer) error { return c.copy(w, start, end) },
		window: newWindow(item.Partial, end-start),
	}
	if len(item.HeaderFields)+len(item.HeaderFieldsNot) == 0 || start == end {
		return s, nil
	}
	s.copy = func(w io.Writer) error {
		filter := newFieldFilter(w, item)
		if err := c.copy(filter, start, end); err != nil {
			return err
		}
		return filter.finish()
	}
	var size countWriter
	if err := s.copy(&size); err != nil {
		return s, err
	}
	s.window = newWindow(item.Partial, int64(size))
	return s, nil
}

func locate(c *content, item *imap.FetchItemBodySection) (start, end int64) {
	part := c.root.Find(item.Part)
	whole := len(item.Part) == 0
	if part == nil {
		return 0, 0
	}
	switch item.Specifier {
	case imap.PartSpecifierNone:
		if whole {
			return 0, c.size
		}
		return part.Body, part.End
	case imap.PartSpecifierMIME:
		return part.Header, part.Body
	}
	if !whole { // HEADER and TEXT are those of an embedded message
		if part = part.Message; part == nil {
			return 0, 0
		}
	}
	if item.Specifier == imap.PartSpecifierText {
		return part.Body, part.End
	}
	return part.Header, part.Body
}

// fieldFilter passes on the header fields of a HEADER.FIELDS or
// HEADER.FIELDS.NOT section, and the empty line after them.
type fieldFilter struct {
	w     io.Writer
	names map[string]bool
	not   bool

	keep    bool   // the field being read
	inLine  bool   // not at the start of a line
	pending []byte // the start of a line, until its name is known
}

// longestName is how much of a line may be the name of a field.
const longestName = 256

func newFieldFilter(w io.Writer, item *imap.FetchItemBodySection) *fieldFilter {
	list := item.HeaderFields
	f := &fieldFilter{w: w, names: make(map[string]bool), not: len(list) == 0}
	if f.not {
		list = item.HeaderFieldsNot
	}
	for _, name := range list {
		f.names[strings.ToLower(name)] = true
	}
	return f
}

func (f *fieldFilter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		complete := end > 0
		if !complete {
			end = len(b)
		}
		if err := f.line(b[:end], complete); err != nil {
			return 0, err
		}
		b = b[end:]
	}
	return n, nil
}

// line takes a piece of a line, the last one if it is complete.
func (f *fieldFilter) line(b []byte, complete bool) error {
	if !f.inLine {
		f.pending = append(f.pending, b...)
		if !complete && len(f.pending) < longestName && bytes.IndexByte(f.pending, ':') < 0 {
			return nil
		}
		b = f.pending
		f.pending = f.pending[:0]
		f.begin(b)
	}
	f.inLine = !complete
	if !f.keep {
		return nil
	}
	_, err := f.w.Write(b)
	return err
}

// begin decides about a line by how it begins.
func (f *fieldFilter) begin(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		return // a folded field
	}
	name, _, ok := bytes.Cut(line, []byte{':'})
	f.keep = ok && f.names[strings.ToLower(string(bytes.TrimRight(name, " \t")))] != f.not
}

func (f *fieldFilter) finish() error {
	if len(f.pending) > 0 {
		f.begin(f.pending)
		if f.keep {
			if _, err := f.w.Write(f.pending); err != nil {
				return err
			}
		}
	}
	_, err := io.WriteString(f.w, "\r\n")
	return err
}

// binarySection locates the decoded content of a part (RFC 3516). Its size is
// only known after a first pass.
func binarySection(c *content, number []int, partial *imap.SectionPartial) (section, error) {
	part := c.root.Find(number)
	if part == nil {
		return section{copy: func(io.Writer) error { return nil }}, nil
	}
	start, end, encoding := part.Body, part.End, part.Encoding
	if len(number) == 0 {
		start, end, encoding = 0, c.size, ""
	}
	s := section{copy: func(w io.Writer) error {
		r, err := decodeTransfer(c.reader(start, end), encoding)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		return err
	}}
	var size countWriter
	if err := s.copy(&size); err != nil {
		return s, err
	}
	s.window = newWindow(partial, int64(size))
	return s, nil
}

var errUnknownEncoding = no(imap.ResponseCodeUnknownCTE, "Content transfer encoding cannot be decoded")

// decodeTransfer undoes a content transfer encoding (RFC 2045 section 6).
// Broken base64 ends where it is broken.
func decodeTransfer(r io.Reader, encoding string) (io.Reader, error) {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		return r, nil
	case "base64":
		return untilBroken{base64.NewDecoder(base64.RawStdEncoding, &base64Filter{r: r})}, nil
	case "quoted-printable":
		return untilBroken{quotedprintable.NewReader(r)}, nil
	}
	return nil, fmt.Errorf("%q: %w", encoding, errUnknownEncoding)
}

// base64Filter drops all octets that are not of the alphabet, as RFC 2045
// section 6.8 wants, and the padding.
type base64Filter struct{ r io.Reader }

func (f *base64Filter) Read(b []byte) (int, error) {
	for {
		n, err := f.r.Read(b)
		kept := b[:0]
		for _, c := range b[:n] {
			if 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/' {
				kept = append(kept, c)
			}
		}
		if len(kept) > 0 || err != nil || len(b) == 0 {
			return len(kept), err
		}
	}
}

// untilBroken makes an end of a decoder's complaint about its input, but not
// of a failure to read that.
type untilBroken struct{ r io.Reader }

func (u untilBroken) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	if pathErr := (*fs.PathError)(nil); err != nil && !errors.As(err, &pathErr) {
		err = io.EOF
	}
	return n, err
}
