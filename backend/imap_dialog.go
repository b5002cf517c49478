package backend

import (
	"context"
	"errors"
	"fmt"
	"io"

	"posthorn/backend/upstream"
)

// What a server may say before the login is over. Those that exist greet with
// one line and answer a login with a few.
const (
	maxIMAPLine    = 8 << 10
	maxIMAPLiteral = 4 << 10
	maxIMAPLines   = 100
)

// The tags of our commands; their answers can come in one packet.
const (
	tagStartTLS   = "p0"
	tagID         = "p1"
	tagLogin      = "p2"
	tagCapability = "p3"
)

// imapDialog is the conversation with a server before its user is logged in.
// Its errors quote the server, and never what was said to it.
type imapDialog struct {
	conn  *upstream.Conn
	lines int              // that have come
	sent  *imapCredentials // nil: none yet
	asked bool             // for capabilities, and was answered
}

var (
	errIMAPEndless    = errors.New("endless answer")
	errIMAPUnexpected = errors.New("unexpected answer")
	errIMAPBye        = errors.New("the server says goodbye")
)

// line reads a line.
func (d *imapDialog) line() (string, error) {
	if d.lines++; d.lines > maxIMAPLines {
		return "", errIMAPEndless
	}
	return d.conn.ReadLine(maxIMAPLine)
}

// next reads a response, with its literals.
func (d *imapDialog) next() (imapReply, error) {
	line, err := d.line()
	if err != nil {
		return imapReply{}, err
	}
	r, err := parseIMAPReply(line)
	if err != nil {
		return imapReply{}, d.complain(err, line)
	}
	size, err := r.literal()
	for err == nil && size >= 0 {
		literal := make([]byte, size)
		if _, err = io.ReadFull(d.conn.R, literal); err != nil {
			break
		}
		if line, err = d.line(); err != nil {
			break
		}
		r.line += "\r\n" + string(literal) + line
		size, err = announcedLiteral(line)
	}
	return r, err
}

// complain returns err with what the server has said.
func (d *imapDialog) complain(err error, said string) error {
	return fmt.Errorf("%w: %q", err, d.fit(said))
}

// fit is what a server says, as it can be told to others: cut, and without the
// secrets that it repeats.
func (d *imapDialog) fit(said string) string {
	if d.sent != nil && d.sent.repeatedIn(said) {
		return withheld
	}
	return cut(said)
}

// answer reads up to the answer to a command, and shows the untagged responses
// before it to see. A goodbye comes with errIMAPBye.
func (d *imapDialog) answer(tag string, see func(imapReply)) (imapReply, error) {
	for {
		r, err := d.next()
		switch {
		case err != nil:
			return r, err
		case r.tag == tag:
			return r, nil
		case r.tag != "*":
			return r, d.complain(errIMAPUnexpected, r.line)
		case r.status == "BYE":
			return r, d.complain(errIMAPBye, r.line)
		}
		see(r)
	}
}

// begin brings a new connection to where a login can follow, and returns the
// capabilities.
func (d *imapDialog) begin(ctx context.Context, security upstream.Security) (string, error) {
	capabilities, known, err := d.greeting()
	if err != nil {
		return "", fmt.Errorf("greeting: %w", err)
	}
	if security == upstream.StartTLS {
		// What was said in cleartext anybody may have said.
		known = false
		if err := d.startTLS(ctx); err != nil {
			return "", fmt.Errorf("STARTTLS: %w", err)
		}
	}
	if known {
		return capabilities, nil
	}
	return d.capabilities(ignore)
}

// ignore is for untagged responses that do not matter.
func ignore(imapReply) {}

// greeting reads the greeting, and the capabilities if they are in it.
func (d *imapDialog) greeting() (capabilities string, known bool, err error) {
	r, err := d.next()
	switch {
	case err != nil:
		return "", false, err
	case r.tag != "*" || r.status != "OK" && r.status != "BYE":
		return "", false, d.complain(errIMAPUnexpected, r.line)
	case r.status == "BYE", r.codeIs("UNAVAILABLE", "LIMIT"):
		return "", false, d.complain(errIMAPBye, r.line)
	}
	capabilities, known = r.capabilities()
	return capabilities, known, nil
}

func (d *imapDialog) startTLS(ctx context.Context) error {
	if err := d.send(tagStartTLS + " STARTTLS\r\n"); err != nil {
		return err
	}
	r, err := d.answer(tagStartTLS, ignore)
	if err != nil {
		return err
	}
	if r.status != "OK" {
		return d.complain(errIMAPUnexpected, r.line)
	}
	return d.conn.StartTLS(ctx)
}

// capabilities asks for them; other untagged responses go to see.
func (d *imapDialog) capabilities(see func(imapReply)) (string, error) {
	if err := d.send(tagCapability + " CAPABILITY\r\n"); err != nil {
		return "", err
	}
	var list string
	r, err := d.answer(tagCapability, func(r imapReply) {
		if l, ok := r.capabilities(); ok && r.status == "" {
			list = l
		} else {
			see(r)
		}
	})
	if err == nil && (r.status != "OK" || list == "") {
		err = d.complain(errIMAPUnexpected, r.line)
	}
	if err != nil {
		return "", fmt.Errorf("CAPABILITY: %w", err)
	}
	d.asked = true
	return list, nil
}

func (d *imapDialog) send(text string) error {
	_, err := d.conn.Write([]byte(text))
	return err
}

// quit is upstream.Config.Quit.
func quitIMAP(c *upstream.Conn) {
	d := imapDialog{conn: c}
	_ = d.send("p9 LOGOUT\r\n")
}
