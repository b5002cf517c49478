package structure

import (
	"bytes"
)

const (
	maxDepth    = 50        // multiparts and messages inside one another
	maxParts    = 1000      // in all
	maxText     = 192 << 10 // octets of header values kept, in all
	maxField    = 64 << 10  // octets of one header field looked at
	maxBoundary = 256       // RFC 2046 allows 70
)

// Parser takes a message as it streams past. The zero value is not ready; use
// NewParser. What exceeds a limit is kept as content: parts beyond maxParts
// belong to the last part, and what nests deeper than maxDepth is an
// application/octet-stream.
type Parser struct {
	root *Part
	open []frame // parts that are not complete, the outermost first

	pos  int64 // octets taken
	size int64 // octets of the current line taken
	line []byte
	last byte  // the last octet taken
	eol  int64 // octets of the line end before the current line
	ends int64 // line ends taken

	inHeader   bool
	header     header
	boundaries int // frames that wait for a boundary
	parts      int
	text       int // octets of header values that may still be kept
}

// frame is a part whose end has not been seen.
type frame struct {
	part     *Part
	boundary string // delimits the children of a multipart; empty: none follow
	lines    int64  // line ends before the body
	depth    int
	digest   bool // a child of multipart/digest, message/rfc822 by default
}

// NewParser returns a Parser at the start of a message.
func NewParser() *Parser {
	p := &Parser{root: &Part{}, text: maxText, parts: 1}
	p.push(frame{part: p.root}, true)
	return p
}

// Write takes the next octets of the message. It keeps none of b, and it
// always succeeds.
func (p *Parser) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if !p.inHeader && p.boundaries == 0 { // nothing can end before the message does
			p.ends += int64(bytes.Count(b, []byte{'\n'}))
			p.pos += int64(len(b))
			break
		}
		i := bytes.IndexByte(b, '\n')
		end := i + 1
		if i < 0 {
			end = len(b)
		}
		p.keep(b[:end])
		p.pos += int64(end)
		p.size += int64(end)
		if i >= 0 {
			eol := int64(1)
			if i > 0 && b[i-1] == '\r' || i == 0 && p.size > 1 && p.last == '\r' {
				eol = 2
			}
			p.endLine(eol)
		}
		p.last = b[end-1]
		b = b[end:]
	}
	return n, nil
}

// keep remembers the start of lines that may matter: those of headers, and
// those that may be a delimiter.
func (p *Parser) keep(b []byte) {
	limit := maxBoundary + 80
	switch {
	case p.inHeader:
		limit = maxField
	case p.size == 0 && b[0] != '-', p.size > 0 && len(p.line) == 0:
		return
	}
	if room := limit - len(p.line); room > 0 {
		p.line = append(p.line, b[:min(room, len(b))]...)
	}
}

// endLine handles the current line, whose line end takes eol octets: none if
// the message ends there.
func (p *Parser) endLine(eol int64) {
	line := bytes.TrimRight(p.line, "\r\n")
	delimiter := bytes.HasPrefix(line, []byte("--")) && p.delimiter(line[2:], p.pos-p.size)
	if eol > 0 {
		p.ends++
	}
	if !delimiter && p.inHeader {
		if len(line) == 0 {
			p.endHeader(p.pos)
		} else {
			p.header.line(line)
		}
	}
	p.eol, p.size, p.line = eol, 0, p.line[:0]
}

// delimiter handles a line that begins at start and is "--" and rest, and says
// whether it was the delimiter of an open multipart (RFC 2046 section 5.1.1).
func (p *Parser) delimiter(rest []byte, start int64) bool {
	for i := len(p.open) - 1; i >= 0; i-- {
		f := &p.open[i]
		after, ok := bytes.CutPrefix(rest, []byte(f.boundary))
		if f.boundary == "" || !ok {
			continue
		}
		after, final := bytes.CutPrefix(after, []byte("--"))
		if len(bytes.TrimRight(after, " \t")) > 0 {
			continue
		}
		if !final && p.parts >= maxParts {
			return false
		}
		p.close(i+1, start)
		f = &p.open[i]
		if final {
			f.boundary = ""
			p.boundaries--
			return true
		}
		child := &Part{Header: p.pos}
		f.part.Children = append(f.part.Children, child)
		p.parts++
		p.push(frame{part: child, depth: f.depth, digest: f.part.Subtype == "digest"}, false)
		return true
	}
	return false
}

// push opens a part whose header begins now.
func (p *Parser) push(f frame, message bool) {
	p.open = append(p.open, f)
	p.inHeader = true
	p.header.reset(message)
}

// endHeader is called when the body of the innermost part begins, at offset
// body.
func (p *Parser) endHeader(body int64) {
	p.inHeader = false
	f := &p.open[len(p.open)-1]
	part := f.part
	part.Body, f.lines = body, p.ends
	boundary := p.header.describe(part, f.digest, &p.text)

	embedded := part.Type == "message" && (part.Subtype == "rfc822" || part.Subtype == "global")
	switch {
	case !embedded && !part.multipart():
	case f.depth >= maxDepth, embedded && p.parts >= maxParts,
		part.multipart() && (boundary == "" || len(boundary) > maxBoundary):
		part.Type, part.Subtype, part.Params = "application", "octet-stream", nil
	case part.multipart():
		f.boundary = boundary
		f.depth++
		p.boundaries++
	default:
		part.Message = &Part{Header: body}
		p.parts++
		p.push(frame{part: part.Message, depth: f.depth + 1}, true)
	}
}

// close ends all but the n outermost open parts before the line that begins at
// start. The line end before a delimiter belongs to the delimiter, unless it
// is that of the empty line after a header.
func (p *Parser) close(n int, start int64) {
	for p.inHeader {
		p.endHeader(start)
	}
	end := start - p.eol
	for i := len(p.open) - 1; i >= n; i-- {
		f := &p.open[i]
		end = max(end, f.part.Body)
		f.part.End, f.part.Lines = end, p.ends-f.lines
		if end < start {
			f.part.Lines--
		}
		if f.boundary != "" {
			p.boundaries--
		}
		if f.part.multipart() && len(f.part.Children) == 0 {
			// BODYSTRUCTURE cannot say "no parts".
			f.part.Children = []*Part{emptyPart(end)}
		}
	}
	p.open = p.open[:n]
}

func emptyPart(at int64) *Part {
	return &Part{
		Header: at, Body: at, End: at,
		Type: "text", Subtype: "plain", Params: []Param{{"charset", "us-ascii"}},
	}
}

// Finish says that the message has ended and returns it. The Parser must not
// be used again.
func (p *Parser) Finish() *Part {
	if p.size > 0 { // a last line without a line end
		p.endLine(0)
	}
	p.eol = 0
	p.close(0, p.pos)
	return p.root
}
