package structure

import (
	"bytes"
	"mime"
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-message/charset"
)

// field is a header field that ENVELOPE or BODYSTRUCTURE needs.
type field int

const (
	contentType field = iota
	contentTransferEncoding
	contentID
	contentDescription
	contentDisposition
	contentLanguage
	contentLocation
	date // from here on only in the header of a message
	subject
	from
	sender
	replyTo
	to
	cc
	bcc
	inReplyTo
	messageID
	numFields
	otherField field = -1
)

var fieldByName = map[string]field{
	"content-type":              contentType,
	"content-transfer-encoding": contentTransferEncoding,
	"content-id":                contentID,
	"content-description":       contentDescription,
	"content-disposition":       contentDisposition,
	"content-language":          contentLanguage,
	"content-location":          contentLocation,
	"date":                      date,
	"subject":                   subject,
	"from":                      from,
	"sender":                    sender,
	"reply-to":                  replyTo,
	"to":                        to,
	"cc":                        cc,
	"bcc":                       bcc,
	"in-reply-to":               inReplyTo,
	"message-id":                messageID,
}

const longestFieldName = len("content-transfer-encoding")

// header collects the fields of one header. The first field of a name counts.
type header struct {
	message bool // of a message: with an envelope
	current field
	value   [numFields]string
	buf     []byte // the value of current
	name    [longestFieldName]byte
}

func (h *header) reset(message bool) {
	*h = header{message: message, current: otherField, buf: h.buf[:0]}
}

// line takes one line of the header, without its line end.
func (h *header) line(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		h.append(line)
		return
	}
	h.endField()
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return
	}
	if h.current = h.lookup(bytes.TrimRight(name, " \t")); h.current != otherField {
		h.append(value)
	}
}

func (h *header) lookup(name []byte) field {
	if len(name) > len(h.name) {
		return otherField
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		h.name[i] = c
	}
	f, ok := fieldByName[string(h.name[:len(name)])]
	if !ok || f >= date && !h.message || h.value[f] != "" {
		return otherField
	}
	return f
}

func (h *header) append(b []byte) {
	if room := maxField - len(h.buf); h.current != otherField && room > 0 {
		h.buf = append(h.buf, b[:min(room, len(b))]...)
	}
}

func (h *header) endField() {
	if h.current != otherField {
		h.value[h.current] = string(bytes.TrimSpace(h.buf))
	}
	h.current, h.buf = otherField, h.buf[:0]
}

// describe fills in what the header says of part, takes what that needs from
// room, and returns the boundary parameter. The content type is text/plain, or
// message/rfc822 inside a digest, unless a well-formed field says otherwise
// (RFC 2045 section 5.2, RFC 2046 section 5.1.5).
func (h *header) describe(part *Part, digest bool, room *int) (boundary string) {
	h.endField()
	k := keeper{room: room}
	value, params := parseParams(h.value[contentType])
	part.Type, part.Subtype, _ = strings.Cut(strings.ToLower(value), "/")
	switch {
	case isToken(part.Type) && isToken(part.Subtype) && len(value) < maxBoundary:
		part.Params = k.params(params)
		for _, q := range params {
			if q.Name == "boundary" {
				boundary = strings.TrimRight(q.Value, " \t")
				break
			}
		}
	case digest:
		part.Type, part.Subtype = "message", "rfc822"
	default:
		part.Type, part.Subtype = "text", "plain"
		part.Params = []Param{{"charset", "us-ascii"}}
	}
	if enc := strings.ToLower(h.value[contentTransferEncoding]); isToken(enc) {
		part.Encoding = k.string(enc)
	}
	part.ID = k.string(clean(h.value[contentID]))
	part.Description = k.string(clean(h.value[contentDescription]))
	part.Location = k.string(clean(h.value[contentLocation]))
	if value, params := parseParams(h.value[contentDisposition]); isToken(value) {
		part.Disposition = k.string(strings.ToLower(value))
		part.DispParams = k.params(params)
	}
	for lang := range strings.SplitSeq(h.value[contentLanguage], ",") {
		if lang = k.string(clean(strings.TrimSpace(lang))); lang != "" {
			part.Language = append(part.Language, lang)
		}
	}
	if h.message {
		part.Envelope = h.envelope(k)
	}
	return boundary
}

func (h *header) envelope(k keeper) *imap.Envelope {
	e := &imap.Envelope{
		Date:    parseDate(h.value[date]),
		Subject: k.string(DecodeText(h.value[subject])),
	}
	if ids := messageIDs(h.value[messageID]); len(ids) > 0 {
		e.MessageID = k.string(ids[0])
	}
	for _, id := range messageIDs(h.value[inReplyTo]) {
		if id = k.string(id); id != "" {
			e.InReplyTo = append(e.InReplyTo, id)
		}
	}
	e.From = k.addresses(parseAddresses(h.value[from]))
	e.Sender = k.addresses(parseAddresses(h.value[sender]))
	e.ReplyTo = k.addresses(parseAddresses(h.value[replyTo]))
	e.To = k.addresses(parseAddresses(h.value[to]))
	e.Cc = k.addresses(parseAddresses(h.value[cc]))
	e.Bcc = k.addresses(parseAddresses(h.value[bcc]))
	return e
}

// parseDate returns the zero time for what is no date. Years that IMAP cannot
// write count as none.
func parseDate(s string) time.Time {
	if s == "" || len(s) > 256 {
		return time.Time{}
	}
	t, err := mail.ParseDate(s)
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// messageIDs returns the message identifiers in s without their brackets, or s
// itself if there are no brackets.
func messageIDs(s string) []string {
	var ids []string
	rest := s
	for {
		_, after, ok := strings.Cut(rest, "<")
		if !ok {
			break
		}
		id, after, ok := strings.Cut(after, ">")
		if !ok {
			break
		}
		if id = clean(id); id != "" {
			ids = append(ids, id)
		}
		rest = after
	}
	if s = clean(s); len(ids) == 0 && s != "" && !strings.ContainsAny(s, "<> ") {
		ids = append(ids, s)
	}
	return ids
}

// clean makes s fit to be sent as an IMAP string: valid UTF-8, one line,
// without control characters.
func clean(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f
	}
	if plain {
		return s
	}
	if !utf8.ValidString(s) {
		s = latin1(s)
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0:
			return -1
		}
		return r
	}, s))
}

// latin1 reads unlabelled octets as ISO 8859-1: never wrong about the ASCII in
// them.
func latin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// DecodeText returns the unstructured text of a header field in UTF-8, on one
// line, with its encoded words (RFC 2047) decoded where they can be.
func DecodeText(s string) string {
	if strings.Contains(s, "=?") {
		dec := mime.WordDecoder{CharsetReader: charset.Reader}
		if t, err := dec.DecodeHeader(clean(s)); err == nil {
			s = t
		}
	}
	return clean(s)
}

// keeper takes values into a Part as long as there is room.
type keeper struct{ room *int }

func (k keeper) string(s string) string {
	if len(s) > *k.room {
		return ""
	}
	*k.room -= len(s)
	return strings.Clone(s)
}

func (k keeper) params(params []Param) []Param {
	var kept []Param
	for _, q := range params {
		if n := len(q.Name) + len(q.Value); n <= *k.room {
			kept = append(kept, Param{k.string(q.Name), k.string(q.Value)})
		}
	}
	return kept
}

func (k keeper) addresses(list []imap.Address) []imap.Address {
	var kept []imap.Address
	for _, a := range list {
		const overhead = 8 // also the end of a group takes room
		n := len(a.Name) + len(a.Mailbox) + len(a.Host) + overhead
		if n > *k.room {
			break
		}
		*k.room -= n
		kept = append(kept, imap.Address{
			Name:    strings.Clone(a.Name),
			Mailbox: strings.Clone(a.Mailbox),
			Host:    strings.Clone(a.Host),
		})
	}
	return kept
}
