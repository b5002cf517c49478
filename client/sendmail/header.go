package sendmail

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxHeader is how many octets a header may have; gateways take no more.
const maxHeader = 1 << 20

// maxLine is how many octets a line may have, without its CRLF (RFC 5322 section
// 2.1.1).
const maxLine = 998

// field is a header field. Its lines are as they came, without their ends; the
// second and those that follow begin with white space.
type field struct {
	name  string // in lower case
	lines []string
}

// value is the field's text, unfolded (RFC 5322 section 2.2.3).
func (f *field) value() string {
	_, rest, _ := strings.Cut(strings.Join(f.lines, ""), ":")
	return strings.TrimSpace(rest)
}

// write writes the field, and folds lines that are too long where white space
// lets it.
func (f *field) write(b *bytes.Buffer) {
	for _, line := range f.lines {
		for len(line) > maxLine {
			i := strings.LastIndexAny(line[:maxLine+1], " \t")
			if i <= 0 || strings.Trim(line[:i], " \t") == "" || strings.Trim(line[i:], " \t") == "" {
				break
			}
			b.WriteString(line[:i])
			b.WriteString("\r\n")
			line = line[i:]
		}
		b.WriteString(line)
		b.WriteString("\r\n")
	}
}

// header is a message's header section.
type header struct {
	fields []field
	size   int
}

// add takes a line into the header. It reports whether the line belongs there.
func (h *header) add(line string) bool {
	h.size += len(line) + 2
	if len(h.fields) > 0 && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")) {
		last := &h.fields[len(h.fields)-1]
		// A line of nothing but space ends the header in the eyes of some.
		if strings.Trim(line, " \t") != "" {
			last.lines = append(last.lines, line)
		}
		return true
	}
	name, ok := fieldName(line)
	if ok {
		h.fields = append(h.fields, field{name, []string{line}})
	}
	return ok
}

// fieldName returns the name with which a line begins, in lower case. Space before
// the colon is obsolete, and understood (RFC 5322 section 4.5).
func fieldName(line string) (string, bool) {
	name, _, ok := strings.Cut(line, ":")
	name = strings.TrimRight(name, " \t")
	if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", false
	}
	return strings.ToLower(name), true
}

// get returns the first field of a name; nil: there is none.
func (h *header) get(name string) *field {
	for i := range h.fields {
		if h.fields[i].name == name {
			return &h.fields[i]
		}
	}
	return nil
}

// set puts a field in the place of the first of its name, or behind the others.
func (h *header) set(name, value string) {
	made := field{strings.ToLower(name), []string{name + ": " + value}}
	if f := h.get(made.name); f != nil {
		*f = made
		return
	}
	h.fields = append(h.fields, made)
}

// remove takes out all fields of some names.
func (h *header) remove(names ...string) {
	h.fields = slices.DeleteFunc(h.fields, func(f field) bool { return slices.Contains(names, f.name) })
}

// addressed returns the fields that name recipients. Those of a message that is
// sent on are the Resent- ones that were put in front last (RFC 5322 section
// 3.6.6).
func (h *header) addressed() (fields []*field) {
	seen := make(map[string]bool)
	for i := range h.fields {
		f := &h.fields[i]
		if !strings.HasPrefix(f.name, "resent-") {
			continue
		}
		if seen[f.name] {
			break
		}
		seen[f.name] = true
		if slices.Contains([]string{"resent-to", "resent-cc", "resent-bcc"}, f.name) {
			fields = append(fields, f)
		}
	}
	if len(fields) > 0 {
		return fields
	}
	for i := range h.fields {
		if slices.Contains([]string{"to", "cc", "bcc"}, h.fields[i].name) {
			fields = append(fields, &h.fields[i])
		}
	}
	return fields
}

// needsUTF8 reports whether there is more in the header than ASCII; what is not
// even UTF-8 is an error.
func (h *header) needsUTF8() (needs bool, err error) {
	for _, f := range h.fields {
		for _, line := range f.lines {
			if !utf8.ValidString(line) {
				return false, failure(DataErr, "the field %s is in no known character set: write it in UTF-8", short(f.name))
			}
			needs = needs || !isASCII(line)
		}
	}
	return needs, nil
}
