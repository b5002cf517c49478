package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// byeError ends the conversation with a BYE that says why: the guard cannot
// know where the client's next command begins, or has had enough.
type byeError string

func (e byeError) Error() string { return "guard: " + string(e) }

const (
	errLineEnd = byeError("Lines end with CRLF and hold no NUL")
	errLong    = byeError("Command line too long")
	errTooMany = byeError("Too many bad commands")
	errLost    = byeError("Malformed literal")
	errOctets  = byeError("Refused literal too long")
)

// errAnswered says that the guard has answered a command itself.
var errAnswered = errors.New("guard: command is answered")

// next reads the client's next command: it leaves it in cmd for imapserver, or
// answers it.
func (c *Conn) next() error {
	err := c.read()
	c.drop()
	if err != nil {
		c.cmd.release()
	}
	if err == errAnswered {
		return nil
	}
	return err
}

func (c *Conn) read() error {
	if c.idle != nil {
		return c.continueIdle()
	}
	if c.out.badCommands() >= c.opts.MaxErrors {
		return errTooMany
	}
	line, err := c.line()
	if err != nil || len(line) == 0 { // some clients put an empty line behind a literal
		return err
	}
	cmd := &command{}
	lit, err := cmd.lex.line(line)
	tag, rest, ok := cutTag(line)
	if !ok {
		tag = "*"
	}
	cmd.tag = tag
	switch {
	case err != nil:
		return c.malformed(cmd, line, err)
	case !ok:
		return c.refuse(cmd, lit, "BAD", "Invalid tag")
	}
	name, args := cutWord(rest)
	if name == "UID" {
		sub, _ := cutWord(args)
		name += " " + sub
	}
	cmd.name = name
	cmd.args = len(tag) + 1 + len(name)
	return c.dispatch(cmd, line, lit)
}

// command is a command that is being read.
type command struct {
	tag, name string
	args      int // where its arguments begin, with a space unless there are none
	lex       lexer
}

// dispatch reads the rest of a command, whose first line is given, and passes
// it on, answers it or refuses it.
func (c *Conn) dispatch(cmd *command, line []byte, lit literal) error {
	switch cmd.name {
	case "APPEND":
		return c.startAppend(cmd, line, lit)
	case "IDLE":
		return c.startIdle(cmd, line, lit)
	case "ID", "CAPABILITY", "GETQUOTA", "GETQUOTAROOT":
		if err := c.collect(cmd, line, lit); err != nil {
			return err
		}
		return c.answer(cmd, bytes.TrimSuffix(c.cmd.bytes(), []byte("\r\n"))[cmd.args:])
	case "NOOP", "CHECK", "LOGOUT", "ENABLE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE",
		"STATUS", "LIST", "LSUB", "NAMESPACE", "SELECT", "EXAMINE", "CLOSE", "UNSELECT",
		"FETCH", "EXPUNGE", "STORE", "COPY", "MOVE", "SEARCH",
		"UID FETCH", "UID EXPUNGE", "UID STORE", "UID COPY", "UID MOVE", "UID SEARCH":
		return c.collect(cmd, line, lit)
	case "LOGIN", "AUTHENTICATE", "STARTTLS":
		return c.refuse(cmd, lit, "BAD", "Already logged in")
	case "":
		return c.refuse(cmd, lit, "BAD", "Missing command")
	}
	return c.refuse(cmd, lit, "BAD", "Unknown command")
}

// collect reads a whole command into cmd, its literals as quoted strings.
func (c *Conn) collect(cmd *command, line []byte, lit literal) (err error) {
	for {
		if c.cmd.len()+len(line) > c.opts.MaxCommand {
			return c.refuse(cmd, lit, "NO [TOOBIG]", "Command too long")
		}
		if lit.at == 0 {
			c.cmd.append(line)
			c.cmd.append([]byte("\r\n"))
			return nil
		}
		c.cmd.append(line[:lit.at])
		if err := c.quote(cmd, lit); err != nil {
			return err
		}
		if line, lit, err = c.rest(cmd); err != nil {
			return err
		}
	}
}

// rest reads the line behind a literal.
func (c *Conn) rest(cmd *command) ([]byte, literal, error) {
	line, err := c.line()
	if err != nil {
		return nil, literal{}, err
	}
	lit, err := cmd.lex.line(line)
	if err != nil {
		return nil, literal{}, c.malformed(cmd, line, err)
	}
	return line, lit, nil
}

// quote asks for a literal, reads it and appends it to cmd as a quoted string.
func (c *Conn) quote(cmd *command, lit literal) error {
	switch {
	case lit.binary:
		return c.refuse(cmd, lit, "BAD", "A literal8 cannot stand here")
	case lit.nonSync && lit.size > maxNonSync:
		return c.refuse(cmd, lit, "BAD", "Non-synchronizing literals are limited to 4096 octets")
	case lit.size > int64(c.opts.MaxCommand-c.cmd.len()):
		return c.refuse(cmd, lit, "NO [TOOBIG]", "Literal too big for this command")
	}
	if !lit.nonSync {
		c.out.reply("+ ", "Ready for literal data")
	}
	clean := true
	c.cmd.append([]byte{'"'})
	err := c.octets(lit.size, func(b []byte) {
		for _, ch := range b {
			switch ch {
			case 0, '\r', '\n':
				clean = false
			case '"', '\\':
				c.cmd.append([]byte{'\\', ch})
			default:
				c.cmd.append([]byte{ch})
			}
		}
	})
	c.cmd.append([]byte{'"'})
	if err != nil || clean {
		return err
	}
	if _, lit, err = c.rest(cmd); err != nil {
		return err
	}
	return c.refuse(cmd, lit, "BAD", "NUL, CR and LF cannot stand in this literal")
}

// refuse answers a command with status once its end is found. lit is what the
// last line that was read announces.
func (c *Conn) refuse(cmd *command, lit literal, status, text string) error {
	err := c.skip(cmd, lit)
	if err != nil && err != errOctets {
		return err
	}
	c.out.reply(cmd.tag, " ", status, " ", text)
	if strings.HasPrefix(status, "BAD") {
		c.out.countBad()
	}
	if err != nil {
		return err
	}
	return errAnswered
}

// skip drops the rest of a command that will not be executed: a synchronizing
// literal will not be sent, but what follows a non-synchronizing one is on its
// way.
func (c *Conn) skip(cmd *command, lit literal) (err error) {
	for skipped := int64(0); lit.nonSync; skipped += lit.size {
		if lit.size > maxSkipped-skipped {
			return errOctets
		}
		if err := c.octets(lit.size, func([]byte) {}); err != nil {
			return err
		}
		if _, lit, err = c.rest(cmd); err != nil {
			return err
		}
	}
	return nil
}

// malformed answers a command with a syntax error. When its line may announce a
// non-synchronizing literal, nobody can say where the next command begins.
func (c *Conn) malformed(cmd *command, line []byte, err error) error {
	c.out.reply(cmd.tag, " BAD ", err.Error())
	c.out.countBad()
	if bytes.HasSuffix(line, []byte("+}")) {
		return errLost
	}
	return errAnswered
}

// line returns the client's next line without its CRLF. It is valid until the
// next read.
func (c *Conn) line() ([]byte, error) {
	c.drop()
	for seen := 0; ; {
		b := c.in.bytes()
		n := bytes.IndexAny(b[seen:], "\r\n\x00")
		switch seen += max(n, 0); {
		case n < 0:
			seen = len(b)
		case seen > c.opts.MaxCommand:
			return nil, errLong
		case b[seen] != '\r' || seen+1 < len(b) && b[seen+1] != '\n':
			return nil, errLineEnd
		case seen+1 < len(b):
			c.held = seen + 2
			return b[:seen], nil
		}
		if len(b) > c.opts.MaxCommand {
			return nil, errLong
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// octets reads n octets and shows them to fn, piece by piece.
func (c *Conn) octets(n int64, fn func([]byte)) error {
	for c.drop(); n > 0; {
		if c.in.len() == 0 {
			if err := c.fill(); err != nil {
				return fmt.Errorf("in a literal: %w", unexpected(err))
			}
		}
		b := c.in.bytes()[:min(n, int64(c.in.len()))]
		n -= int64(len(b))
		fn(b)
		c.in.take(len(b))
	}
	return nil
}

// drop takes the line that line returned last.
func (c *Conn) drop() {
	c.in.take(c.held)
	c.held = 0
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
