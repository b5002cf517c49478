package sendmail

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
)

// maxMessage bounds what Prepare reads, since it holds it in memory.
const maxMessage = 256 << 20

// Rules say how Prepare makes a message of what a program writes.
type Rules struct {
	// Address is whose mail it is. It is the sender where no other is given, and
	// names without a domain are at its domain. May be empty.
	Address string
	// Sender is the envelope's sender: an address, a name that stands for Address,
	// "<>" for nobody; empty: Address, else the address in From.
	Sender string
	// FullName goes with Address in a From field that has to be made.
	FullName string
	// Recipients are whom the message goes to, each perhaps a list.
	Recipients []string
	// HeaderRecipients adds those of To, Cc and Bcc, or of the Resent- fields.
	HeaderRecipients bool
	// WholeInput reads up to the end; else a line with nothing but a dot ends it.
	WholeInput bool
	// ReplaceSender puts Address in the place of other addresses in From and in the
	// envelope; the display name stays.
	ReplaceSender bool
	// Aliases are addresses for names without a domain, in lower case; those of "*"
	// for all names that are not there.
	Aliases map[string][]string
	// Reports are asked for.
	Reports Reports
}

// Prepare reads a message, in whatever form programs write it, and makes it one
// that can be submitted: with CRLF at the ends of lines, with From, Date and
// Message-ID, without Bcc. A CR or a NUL inside a line becomes a space. Of the rest
// of a message with an ordinary body not an octet changes, unless lines are too
// long for SMTP: then it becomes quoted-printable. The error has an exit code, see
// Code.
func (r *Rules) Prepare(in io.Reader) (*Message, error) {
	d, err := r.read(in)
	if err != nil {
		return nil, err
	}
	m := &Message{Envelope: Envelope{Reports: r.Reports}}
	if m.Recipients, err = r.recipients(&d.header); err != nil {
		return nil, err
	}
	d.header.remove("bcc", "resent-bcc", "return-path")
	if m.Sender, err = r.sender(&d.header); err != nil {
		return nil, err
	}
	if err := r.complete(&d.header, m.Sender); err != nil {
		return nil, err
	}
	if d.longest > maxLine {
		d.quote()
	}
	if m.UTF8, err = d.header.needsUTF8(); err != nil {
		return nil, err
	}
	m.UTF8 = m.UTF8 || !isASCII(m.Sender) || slices.ContainsFunc(m.Recipients, func(a string) bool { return !isASCII(a) })
	m.EightBit = m.UTF8 || d.eightBit
	text := d.bytes()
	m.Text, m.Size = bytes.NewReader(text), int64(len(text))
	return m, nil
}

// draft is a message while it is made.
type draft struct {
	header   header
	body     bytes.Buffer
	longest  int // of the body's lines
	eightBit bool
}

func (d *draft) bytes() []byte {
	var b bytes.Buffer
	b.Grow(d.header.size + d.body.Len() + 1024)
	for i := range d.header.fields {
		d.header.fields[i].write(&b)
	}
	b.WriteString("\r\n")
	b.Write(d.body.Bytes())
	return b.Bytes()
}

func (r *Rules) read(in io.Reader) (*draft, error) {
	d := new(draft)
	lines := lineReader{in: bufio.NewReaderSize(in, 64<<10), dotEnds: !r.WholeInput}
	inBody := false
	for first := true; ; first = false {
		line, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return d, nil
		case err != nil:
			return nil, err
		case inBody:
			d.add(line)
		case line == "":
			inBody = true
		case first && (strings.HasPrefix(line, "From ") || strings.HasPrefix(line, ">From ")): // of an mbox
		case !d.header.add(line):
			inBody = true
			d.add(line)
		case d.header.size > maxHeader:
			return nil, failure(DataErr, "the header is longer than %d octets", maxHeader)
		}
	}
}

func (d *draft) add(line string) {
	d.longest = max(d.longest, len(line))
	d.eightBit = d.eightBit || !isASCII(line)
	d.body.WriteString(line)
	d.body.WriteString("\r\n")
}

// lineReader reads lines that end in LF or CRLF, or with the input.
type lineReader struct {
	in      *bufio.Reader
	dotEnds bool
	read    int
}

// next returns a line without its end. What must not be inside of a line becomes a
// space, as Postfix has it: of a CR each server makes something else.
func (l *lineReader) next() (string, error) {
	var line []byte
	for {
		part, err := l.in.ReadSlice('\n')
		l.read += len(part)
		line = append(line, part...)
		switch {
		case l.read > maxMessage:
			return "", failure(DataErr, "the message is longer than %d MiB", maxMessage>>20)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
		case errors.Is(err, io.EOF):
			return "", io.EOF
		case err != nil:
			return "", &Error{IOErr, err}
		}
		break
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if l.dotEnds && string(line) == "." {
		return "", io.EOF
	}
	for i, c := range line {
		if c == '\r' || c == 0 {
			line[i] = ' '
		}
	}
	return string(line), nil
}

// recipients collects whom the message goes to, each once.
func (r *Rules) recipients(h *header) (all []string, err error) {
	lists := slices.Clone(r.Recipients)
	if r.HeaderRecipients {
		for _, f := range h.addressed() {
			lists = append(lists, f.value())
		}
	}
	seen := make(map[string]bool)
	for _, list := range lists {
		boxes, err := mailboxes(list)
		if err != nil {
			return nil, err
		}
		for _, box := range boxes {
			addresses, err := r.expand(box.address)
			if err != nil {
				return nil, err
			}
			for _, a := range addresses {
				key := a[:len(a)-len(domainOf(a))] + strings.ToLower(domainOf(a))
				if !seen[key] {
					seen[key] = true
					all = append(all, a)
				}
			}
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case r.HeaderRecipients:
		return nil, failure(Usage, "the message goes to nobody: there is no address in To, Cc or Bcc")
	}
	return nil, failure(Usage, "the message goes to nobody: name recipients, or take those of the header with -t")
}

// expand returns whom an address stands for, checked.
func (r *Rules) expand(a string) ([]string, error) {
	all := []string{a}
	if !strings.Contains(a, "@") {
		all = r.Aliases[strings.ToLower(a)]
		if len(all) == 0 {
			all = r.Aliases["*"]
		}
		if len(all) == 0 {
			all = []string{a}
		}
	}
	checked := make([]string, len(all))
	for i, a := range all {
		if !strings.Contains(a, "@") {
			if r.Address == "" {
				return nil, failure(DataErr, "%q has no domain, and no alias either", short(a))
			}
			a += "@" + domainOf(r.Address)
		}
		var err error
		if checked[i], err = checkAddress(a); err != nil {
			return nil, err
		}
	}
	return checked, nil
}

// errNobody says that it is not known whose mail it is.
var errNobody = errors.New("nobody is known to be the sender")

// sender returns the envelope's sender.
func (r *Rules) sender(h *header) (string, error) {
	a := r.Sender
	switch {
	case a == "<>":
		return "", nil
	case r.Address != "" && (a == "" || r.ReplaceSender || !strings.Contains(a, "@")):
		a = r.Address
	case a == "":
		if f := h.get("from"); f != nil {
			if boxes, err := mailboxes(f.value()); err == nil && len(boxes) > 0 {
				a = boxes[0].address
			}
		}
	default: // it may be Name <address>
		boxes, err := mailboxes(a)
		if err != nil || len(boxes) != 1 {
			return "", failure(DataErr, "%q is no sender", short(a))
		}
		a = boxes[0].address
	}
	if !strings.Contains(a, "@") {
		return "", &Error{Config, errNobody}
	}
	return checkAddress(a)
}

// complete adds what a message must have, and mends who it is from.
func (r *Rules) complete(h *header, sender string) error {
	from := h.get("from")
	name, replace := phrase(strings.TrimSpace(r.FullName)), from == nil
	if from != nil {
		if boxes, err := mailboxes(from.value()); err == nil && len(boxes) == 1 {
			a := boxes[0].address
			if r.Address != "" && (!strings.Contains(a, "@") || r.ReplaceSender && !strings.EqualFold(a, r.Address)) {
				name, replace = boxes[0].name, true
			}
		}
	}
	if replace {
		address := cmp.Or(sender, r.Address)
		if from != nil {
			address = r.Address
		}
		if address == "" {
			return &Error{Config, errNobody}
		}
		if name != "" {
			address = name + " <" + address + ">"
		}
		h.set("From", address)
	}
	if h.get("date") == nil {
		h.set("Date", time.Now().Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	}
	if h.get("message-id") == nil {
		// With the same one every time that it is tried, a message that comes twice
		// can be known.
		h.set("Message-ID", "<"+strings.ToLower(rand.Text())+"@"+cmp.Or(domainOf(cmp.Or(sender, r.Address)), "localhost")+">")
	}
	return nil
}
