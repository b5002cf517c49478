package guard

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// message is the message of an APPEND command that imapserver has been given
// up to "{size}". The last octet is held back until the end of the command is
// seen, so that a MULTIAPPEND (RFC 3502) or a cut-off command stores nothing.
type message struct {
	cmd     *command
	left    int64 // octets that imapserver has not had
	nonSync bool  // the client does not wait to be asked
	utf8    bool  // the literal stands in UTF8 (…) (RFC 6855)
	asked   bool  // imapserver wants it
	broken  bool  // every read fails, until imapserver gives up
}

// startAppend reads an APPEND up to its message.
func (c *Conn) startAppend(cmd *command, line []byte, lit literal) (err error) {
	if lit.at > 0 && lit.at == cmd.args+1 && !lit.binary { // the mailbox's name
		c.cmd.append(line[:lit.at])
		if err := c.quote(cmd, lit); err != nil {
			return err
		}
		if line, lit, err = c.rest(cmd); err != nil {
			return err
		}
	}
	if lit.at == 0 || c.cmd.len()+lit.at > c.opts.MaxCommand {
		return c.refuse(cmd, lit, "BAD", "Expected a message as literal")
	}
	c.cmd.append(line[:lit.at])
	utf8, ok := parseAppend(c.cmd.bytes()[cmd.args:])
	switch {
	case !ok || utf8 && !lit.binary:
		return c.refuse(cmd, lit, "BAD", "Syntax error in APPEND")
	case lit.nonSync && lit.size > maxNonSync:
		return c.refuse(cmd, lit, "BAD", "Non-synchronizing literals are limited to 4096 octets")
	case lit.size > c.opts.AppendLimit:
		return c.refuse(cmd, lit, "NO [TOOBIG]", fmt.Sprintf("Messages are limited to %d octets", c.opts.AppendLimit))
	case lit.size == 0:
		return c.refuse(cmd, lit, "NO", "Empty message")
	}
	if lit.binary {
		c.cmd.append([]byte{'~'})
	}
	c.cmd.append(fmt.Appendf(nil, "{%d}\r\n", lit.size))
	c.message = &message{cmd: cmd, left: lit.size, nonSync: lit.nonSync, utf8: utf8}
	c.out.expectPlus(lit.nonSync)
	return nil
}

// parseAppend checks what stands between APPEND and its literal:
// SP mailbox SP [flag-list SP] [date-time SP] ["UTF8 ("].
func parseAppend(b []byte) (utf8, ok bool) {
	if b, ok = bytes.CutPrefix(b, []byte(" ")); !ok {
		return false, false
	}
	if b, ok = cutAString(b); !ok {
		return false, false
	}
	if bytes.HasPrefix(b, []byte("(")) {
		flags, rest, ok := bytes.Cut(b[1:], []byte(") "))
		if !ok || !validFlags(flags) {
			return false, false
		}
		b = rest
	}
	if bytes.HasPrefix(b, []byte(`"`)) {
		date, rest, ok := bytes.Cut(b[1:], []byte(`" `))
		if _, err := time.Parse("_2-Jan-2006 15:04:05 -0700", string(date)); !ok || err != nil {
			return false, false
		}
		b = rest
	}
	utf8 = bytes.EqualFold(b, []byte("UTF8 ("))
	return utf8, utf8 || len(b) == 0
}

// cutAString cuts an atom or a quoted string and the space behind it.
func cutAString(b []byte) (rest []byte, ok bool) {
	_, rest, ok = nextString(b)
	if !ok {
		return nil, false
	}
	return bytes.CutPrefix(rest, []byte(" "))
}

func validFlags(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	for flag := range bytes.SplitSeq(b, []byte(" ")) {
		flag = bytes.TrimPrefix(flag, []byte(`\`))
		if len(flag) == 0 || bytes.ContainsFunc(flag, func(r rune) bool { return r >= 0x80 || !isAtomChar(byte(r)) }) {
			return false
		}
	}
	return true
}

// readMessage gives imapserver the next octets of a message; none, and no
// error, when the rest of the command is in cmd or imapserver has refused it.
// Its error is errBroken, or the end of the conversation.
func (c *Conn) readMessage(p []byte) (int, error) {
	m := c.message
	if m.broken {
		return 0, errBroken
	}
	if !m.asked && !c.out.sawPlus() {
		c.message = nil
		return 0, c.skip(m.cmd, literal{size: m.left, nonSync: m.nonSync})
	}
	m.asked = true
	var n int
	var err error
	if m.left > 1 {
		n, err = c.some(p[:min(int64(len(p)), m.left-1)])
		m.left -= int64(n)
	} else if err = c.endMessage(m); err == nil {
		c.message = nil
	}
	if err == nil {
		return n, nil
	}
	m.broken = true
	if err != errAnswered {
		c.finish(unexpected(err))
	}
	return 0, errBroken
}

// errBroken is what imapserver's session hears instead of the rest of a
// message.
var errBroken = fmt.Errorf("guard: in an APPEND: %w", io.ErrUnexpectedEOF)

// endMessage reads the last octet of a message and the end of its command.
func (c *Conn) endMessage(m *message) error {
	var last byte
	if err := c.octets(1, func(b []byte) { last = b[0] }); err != nil {
		return err
	}
	line, lit, err := c.rest(m.cmd)
	if err != nil {
		return err
	}
	want := ""
	if m.utf8 {
		want = ")"
	}
	switch {
	case string(line) == want:
		c.cmd.append([]byte{last})
		c.cmd.append(line)
		c.cmd.append([]byte("\r\n"))
		return nil
	case bytes.HasPrefix(line, []byte(" ")):
		return c.refuse(m.cmd, lit, "BAD", "MULTIAPPEND is not supported")
	}
	return c.refuse(m.cmd, lit, "BAD", "Expected the end of the command")
}

// some reads as much as is there, at least one octet.
func (c *Conn) some(p []byte) (int, error) {
	if c.in.len() == 0 {
		return c.receive(p)
	}
	n := copy(p, c.in.bytes())
	c.in.take(n)
	return n, nil
}
