package smtp

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"time"
)

// errAborted says that the client gave a message up between two chunks.
var errAborted = errors.New("message given up by the client")

// source of a message's octets as they were before transfer. Its error is
// io.EOF only at the true end of the message.
type transfer interface {
	io.Reader
	// drain skips what is left, up to max octets; more is an error.
	drain(max int64) error
}

// body is a message as the client sends it, checked: lines end in CRLF, with
// no other CR or LF (or a server behind might see commands, or another end of
// the message, in it), there is no NUL, and it is not longer than the limit.
type body struct {
	transfer
	limit int64
	n     int64
	cr    bool // the last octet was a CR
	nl    bool // the last two were CRLF
	ended bool
	err   error // why the message is refused; sticky
}

func newBody(t transfer, limit int64) *body { return &body{transfer: t, limit: limit, nl: true} }

// Read implements io.Reader. Its errors are replies, or errAborted, or
// io.ErrUnexpectedEOF when the connection is gone.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.ended {
		return b.terminate(p)
	}
	n, err := b.transfer.Read(p)
	room := b.limit - b.n
	switch b.n += int64(n); { // what is wrong first counts, however the octets come
	case !b.check(p[:min(int64(n), room)]):
		b.err = errBareLine
	case int64(n) > room:
		b.err = errTooBig
	}
	if b.err != nil {
		return 0, b.err
	}
	switch {
	case err == io.EOF:
		b.ended = true
		if b.cr {
			b.err = errBareLine
			return 0, b.err
		}
		if n == 0 {
			return b.terminate(p)
		}
	case err != nil:
		b.err = err
	}
	return n, nil
}

// terminate ends the last line of a message whose chunks did not.
func (b *body) terminate(p []byte) (int, error) {
	if b.nl {
		return 0, io.EOF
	}
	next := byte('\r')
	if b.cr {
		next = '\n'
	}
	b.cr, b.nl = !b.cr, b.cr
	p[0] = next
	return 1, nil
}

// check looks for what no line may have in it.
func (b *body) check(p []byte) bool {
	for _, c := range p {
		if c == 0 || b.cr != (c == '\n') {
			return false
		}
		b.nl = b.cr
		b.cr = c == '\r'
	}
	return true
}

// unhurried is a message that its client is not blamed for when it comes slowly
// because nobody was reading: a backend that takes its time holds it up.
type unhurried struct {
	in     io.Reader
	excuse func() // tells mux to measure the client's speed from now on
	left   time.Time
}

func (u *unhurried) Read(p []byte) (int, error) {
	if !u.left.IsZero() && time.Since(u.left) > time.Second {
		u.excuse()
	}
	n, err := u.in.Read(p)
	u.left = time.Now()
	return n, err
}

// finish skips what the Session has left unread, so that the next octet is a
// command. Its error says that there is none.
func (b *body) finish() error {
	if b.ended || errors.Is(b.err, errAborted) {
		return nil
	}
	b.ended = true
	return b.drain(b.limit + 1<<20)
}

// dotted is the transfer of DATA (RFC 5321 section 4.5.2): exactly CRLF.CRLF
// ends it, and a dot before any other line is dropped.
type dotted struct {
	in    *bufio.Reader
	state dotState
}

type dotState uint8

const (
	atLine  dotState = iota // at the beginning of a line
	atDot                   // behind its dot, which is not content
	atDotCR                 // behind that dot and a CR
	inLine
	atCR
	atEnd
)

func (d *dotted) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if d.state == atEnd {
			return n, io.EOF
		}
		if n > 0 && d.in.Buffered() == 0 {
			return n, nil // pass on what there is
		}
		c, err := d.in.ReadByte()
		if err != nil {
			return n, io.ErrUnexpectedEOF
		}
		switch {
		case d.state == atLine && c == '.':
			d.state = atDot
			continue
		case d.state == atDot && c == '\r':
			d.state = atDotCR
			continue
		case d.state == atDotCR && c == '\n':
			d.state = atEnd
			continue
		case d.state == atDotCR: // the CR was content after all
			d.in.UnreadByte()
			c, d.state = '\r', atCR
		case d.state == atCR && c == '\n':
			d.state = atLine
		case c == '\r':
			d.state = atCR
		default:
			d.state = inLine
		}
		p[n] = c
		n++
	}
	return n, nil
}

func (d *dotted) drain(max int64) error {
	n, err := io.Copy(io.Discard, io.LimitReader(d, max))
	if err == nil && n == max && d.state != atEnd {
		err = errTooBig
	}
	return err
}

// chunked is the transfer of BDAT: octets by count, with commands between.
type chunked struct {
	g    *guard
	left int64 // of the chunk
	last bool  // no other chunk follows
}

func (c *chunked) Read(p []byte) (int, error) {
	for c.left == 0 {
		if c.last {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n, err := c.g.in.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err != nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next confirms a chunk and reads the command behind it. Those that give the
// message up are left for go-smtp.
func (c *chunked) next() error {
	g := c.g
	g.reply(replyChunk)
	for {
		line, err := g.line()
		if err != nil {
			return io.ErrUnexpectedEOF
		}
		verb, arg, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "BDAT":
			return c.begin(strings.Trim(arg, " \t"))
		case "RSET", "EHLO", "HELO", "QUIT":
			g.pending = line
			return errAborted
		case "NOOP":
			g.reply(replyNoop)
		default:
			g.refuse(replySequence)
		}
		if g.phase == phaseClosing {
			return io.ErrUnexpectedEOF
		}
	}
}

func (c *chunked) begin(arg string) error {
	size, last, ok := parseChunk(arg)
	switch {
	case !ok:
		c.g.hangUp(replyBadChunk, "bad chunk size")
	case size > c.g.discardable():
		c.g.hangUp(replyTooBig, "message too big")
	default:
		c.left, c.last = size, last
		return nil
	}
	return io.ErrUnexpectedEOF
}

// drain skips the rest of the chunk at hand only: the refusal is its reply,
// and chunks that follow belong to no message (RFC 3030 section 2).
func (c *chunked) drain(max int64) error {
	n, err := io.CopyN(io.Discard, c.g.in, min(c.left, max))
	c.left -= n
	if err == nil && c.left > 0 {
		err = errTooBig
	}
	return err
}
