package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"net/mail"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

const (
	maxHeader = 1 << 20 // octets of a message's header, which is held in memory
	maxFrom   = 16 << 10
)

// header is a message's header section (RFC 5322 section 2.2) as it came.
type header struct {
	raw    []byte // whole fields, without the empty line behind them
	fields []field
}

// field is one of those that submission looks at.
type field struct {
	name       string // in lower case
	start, end int    // in header.raw, with the last CRLF
}

// examined are the names of the fields that submission looks at.
var examined = map[string]bool{"from": true, "sender": true, "date": true, "message-id": true}

// readHeader reads lines from r, which all end in CRLF, up to and with the
// empty line. A line that is no field ends the header too, and its beginning
// is returned: whoever writes the message on puts an empty line before it, so
// that no reader further down can take what follows for fields that were not
// checked.
func readHeader(r *bufio.Reader) (h *header, begun []byte, err error) {
	h = new(header)
	last := -1 // index of the field that a folded line belongs to
	for {
		part, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		name, ok := fieldName(part)
		folded := len(h.raw) > 0 && len(part) > 0 && (part[0] == ' ' || part[0] == '\t')
		switch {
		case string(part) == "\r\n":
			return h, nil, nil
		case folded:
		case !ok:
			return h, bytes.Clone(part), nil
		case examined[name]:
			last = len(h.fields)
			h.fields = append(h.fields, field{name: name, start: len(h.raw)})
		default:
			last = -1
		}
		if err := h.appendLine(part, r); err != nil {
			return nil, nil, err
		}
		if last >= 0 {
			h.fields[last].end = len(h.raw)
		}
	}
}

// appendLine appends a line whose beginning has been read from r.
func (h *header) appendLine(part []byte, r *bufio.Reader) (err error) {
	for {
		if len(h.raw)+len(part) > maxHeader {
			return errHeaderTooBig
		}
		h.raw = append(h.raw, part...)
		if bytes.HasSuffix(part, []byte("\n")) {
			return nil
		}
		part, err = r.ReadSlice('\n')
		if len(part) == 0 && err != nil {
			return err
		}
	}
}

// fieldName returns the name at the beginning of a line, in lower case.
func fieldName(line []byte) (string, bool) {
	name, _, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(name) == 0 {
		return "", false
	}
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return strings.ToLower(string(name)), true
}

// find returns the fields with a name.
func (h *header) find(name string) (found []field) {
	for _, f := range h.fields {
		if f.name == name {
			found = append(found, f)
		}
	}
	return found
}

// has reports whether there is a field with a name.
func (h *header) has(name string) bool { return len(h.find(name)) > 0 }

// without returns the header without the fields that have a name.
func (h *header) without(names ...string) []byte {
	var kept []byte
	from := 0
	for _, f := range h.fields {
		for _, name := range names {
			if f.name == name {
				kept = append(kept, h.raw[from:f.start]...)
				from = f.end
			}
		}
	}
	return append(kept, h.raw[from:]...)
}

// addresses parses the value of a field that holds a list of mailboxes. What
// cannot be parsed, or names nobody, is an error: some other reader would make
// something of it.
func (h *header) addresses(f field) ([]*mail.Address, error) {
	value := h.raw[f.start+len(f.name)+1 : f.end]
	if len(value) > maxFrom {
		return nil, errBadFrom
	}
	unfolded := strings.ReplaceAll(string(value), "\r\n", "")
	list, err := addressParser.ParseList(unfolded)
	if err != nil || len(list) == 0 {
		return nil, errBadFrom
	}
	return list, nil
}

// addressParser parses addresses, whatever the charset of a display name is. A
// name whose charset is not known, or that is not in it, is left as it is.
var addressParser = mail.AddressParser{WordDecoder: &mime.WordDecoder{
	CharsetReader: func(name string, in io.Reader) (io.Reader, error) {
		raw, err := io.ReadAll(in)
		if err != nil {
			return nil, err
		}
		if r, err := charset.Reader(name, bytes.NewReader(raw)); err == nil {
			if text, err := io.ReadAll(r); err == nil {
				return bytes.NewReader(text), nil
			}
		}
		return bytes.NewReader(raw), nil
	},
}}

// checkAuthor returns an error when a From or Sender field has an address that
// own does not accept, cannot be parsed, or is there twice (RFC 5322 section
// 3.6). There may be none.
func (h *header) checkAuthor(own func(address string) bool) error {
	for _, name := range []string{"from", "sender"} {
		found := h.find(name)
		if len(found) > 1 {
			return errManyFrom
		}
		for _, f := range found {
			list, err := h.addresses(f)
			if err != nil {
				return err
			}
			for _, a := range list {
				if !own(a.Address) {
					return errHeaderFrom
				}
			}
		}
	}
	return nil
}

// displayName returns the name in the only From field, if that can be read.
func (h *header) displayName() string {
	found := h.find("from")
	if len(found) != 1 {
		return ""
	}
	list, err := h.addresses(found[0])
	if err != nil || !utf8.ValidString(list[0].Name) {
		return ""
	}
	return list[0].Name
}
