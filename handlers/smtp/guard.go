package smtp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"posthorn/backend"
)

// guard is the net.Conn that go-smtp's server reads: a client as one would
// wish it. go-smtp is strictly sequential and trusts its peer; guard hands it
// one checked command at a time, in the order of RFC 5321 section 4.1.4, and
// learns from the replies what the next one may be. The rest it answers itself.
//
// A message never passes through go-smtp, which would run what is left of one
// as commands: on DATA the Session reads it here, from body, and go-smtp is
// handed an empty one afterwards. BDAT (RFC 3030) looks like DATA to go-smtp.
type guard struct {
	*wire
	hostname string
	limit    int64       // of a message, in octets
	loggedIn func() bool // this and offer are asked on go-smtp's goroutine
	offer    func() backend.Submission
	panicked func(value any, stack []byte)

	handout []byte // what go-smtp reads next
	pending string // a line that was read but not yet looked at
	command string // that go-smtp is working on; empty: none
	lines   []byte // its reply as far as it is complete
	swallow bool   // keep that reply from the client
	phase   phase
	body    *body // of the message, in phaseMessage
	bad     int   // replies that say the client is wrong

	name       string // of the client, from EHLO
	helo, mail bool   // accepted
	rcpts      int

	once   sync.Once
	closed chan struct{}
}

// phase is what guard takes the next octets from the client for.
type phase uint8

const (
	phaseGreeting phase = iota // go-smtp has not greeted
	phaseCommand
	phaseSASL // a response to a 334
	phaseMessage
	phaseClosing // the last reply is said
)

// How many commands may be wrong. Those of a stranger cost more.
const (
	maxBadStranger = 10
	maxBad         = 50
)

func (g *guard) Read(p []byte) (n int, err error) {
	defer func() { // go-smtp recovers from panics in its commands only
		if v := recover(); v != nil {
			g.panicked(v, debug.Stack())
			g.reply(replyPanic)
			g.phase = phaseClosing
			n, err = 0, io.EOF
		}
	}()
	for len(g.handout) == 0 {
		if err := g.next(); err != nil {
			return 0, io.EOF
		}
	}
	n = copy(p, g.handout)
	g.handout = g.handout[n:]
	return n, nil
}

// next does the next thing that the phase wants; it fills handout, or not.
func (g *guard) next() error {
	switch g.phase {
	case phaseClosing:
		return io.EOF
	case phaseMessage:
		g.conn.OwesData(true) // from now on: the Session may have taken its time
		if err := g.body.finish(); err != nil {
			g.hangUp(replyTooBig, "message too big") // unless the client is gone
			return err
		}
		g.swallow = errors.Is(g.body.err, errAborted)
		g.handout = []byte(".\r\n")
		return nil
	}
	line, err := g.line()
	if err != nil {
		return err
	}
	if g.phase == phaseSASL {
		g.response(line)
	} else {
		g.dispatch(line)
	}
	return nil
}

// line returns the next line, or answers what is none and ends the
// conversation: after that nobody can say where the next command begins.
func (g *guard) line() (line string, err error) {
	if line, g.pending = g.pending, ""; line != "" {
		return line, nil
	}
	line, err = g.readLine()
	switch {
	case errors.Is(err, errBadEnd):
		g.hangUp(replyBadEnd, "line without CRLF")
	case errors.Is(err, errControl):
		g.hangUp(replyControl, "control character in command")
	case errors.Is(err, errLongLine) && g.phase == phaseSASL:
		g.hangUp(replyLongAuth, "line too long")
	case errors.Is(err, errLongLine):
		g.hangUp(replyLongLine, "line too long")
	}
	return line, err
}

// response checks a line of a SASL exchange (RFC 4954 section 4).
func (g *guard) response(line string) {
	if line != "*" && line != "=" && !isBase64(line) {
		// go-smtp knows one way out of an exchange; its reply is replaced.
		g.refuse(replyBadBase64)
		g.swallow, line = true, "*"
	}
	g.handout = []byte(line + "\r\n")
}

func isBase64(s string) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil
}

// refuse answers a command that go-smtp does not get to see.
func (g *guard) refuse(reply string) {
	g.reply(reply)
	g.count()
}

// count notes that the client was wrong, and ends it with one that often is.
func (g *guard) count() {
	g.bad++
	if g.bad >= maxBad || g.bad >= maxBadStranger && !g.loggedIn() {
		g.hangUp(replyErrors, "too many errors")
	}
}

// hangUp says a last reply. What the client sends from now on is not read.
func (g *guard) hangUp(reply, reason string) {
	if g.phase == phaseClosing {
		return
	}
	g.reply(reply)
	g.phase = phaseClosing
	g.close(reason)
}

// pass hands a command to go-smtp.
func (g *guard) pass(verb, arg string) {
	g.command = verb
	if arg != "" {
		verb += " " + arg
	}
	g.handout = []byte(verb + "\r\n")
}

// Write takes go-smtp's replies, line by line.
func (g *guard) Write(p []byte) (int, error) {
	g.lines = append(g.lines, p...)
	if text, whole := bytes.CutSuffix(g.lines, []byte("\r\n")); whole {
		last := text[bytes.LastIndexByte(text, '\n')+1:]
		if len(last) >= 4 && last[3] == ' ' {
			g.replied(string(last[:3]))
		}
	}
	return len(p), nil
}

// replied looks at a complete reply and passes it on to the client.
func (g *guard) replied(code string) {
	text := string(g.lines)
	g.lines = g.lines[:0]
	if g.phase == phaseClosing {
		return // the last reply is said
	}
	text = g.advance(code, text)
	if g.swallow {
		g.swallow = false
		return
	}
	g.reply(text)
	if g.phase == phaseClosing {
		g.close(lastReply[code])
		return
	}
	if wrong(code) || code[0] == '5' && !g.loggedIn() {
		g.count()
	}
}

// lastReply says, for the log, why a conversation ended with a reply.
var lastReply = map[string]string{"221": "quit", "421": "refused"}

// wrong reports whether a reply code says that the client does not know SMTP
// or a password, as opposed to, say, a recipient.
func wrong(code string) bool {
	switch code {
	case "500", "501", "502", "503", "504", "530", "535":
		return true
	}
	return false
}

// advance moves the state along with a reply, and returns what the client is
// to read of it.
func (g *guard) advance(code, text string) string {
	command := g.command
	ok := code[0] == '2'
	switch {
	case g.phase == phaseGreeting:
		g.phase = phaseCommand
		return text
	case code == "334":
		g.phase = phaseSASL
		return text
	case code == "354":
		g.phase = phaseMessage
		g.setInside(true)
		if command == "BDAT" {
			return ""
		}
		g.body = newBody(&dotted{in: g.in}, g.limit)
		return text
	case code == "221", code == "421":
		g.phase = phaseClosing
		return text
	}
	g.phase, g.command = phaseCommand, ""
	switch command {
	case "EHLO", "HELO":
		g.helo = g.helo || ok
		g.resetTransaction()
		if ok { // RFC 5321 section 4.1.1.1: the server names itself
			return greeted(g.hostname, extensions(text), g.offer())
		}
	case "AUTH":
		if ok {
			return replyAuth
		}
	case "MAIL":
		g.mail = ok
	case "RCPT":
		if ok {
			g.rcpts++
		}
	case "RSET", "DATA", "BDAT":
		g.resetTransaction()
	}
	return text
}

func (g *guard) resetTransaction() {
	g.setInside(false)
	g.mail, g.rcpts, g.body = false, 0, nil
}

// Close implements net.Conn; go-smtp calls it at QUIT and at its end.
func (g *guard) Close() error {
	g.close("closed")
	g.once.Do(func() { close(g.closed) })
	return nil
}

func (g *guard) LocalAddr() net.Addr  { return g.conn.LocalAddr() }
func (g *guard) RemoteAddr() net.Addr { return g.conn.RemoteAddr() }

// Deadlines are the transport's, below TLS.
func (g *guard) SetDeadline(time.Time) error      { return nil }
func (g *guard) SetReadDeadline(time.Time) error  { return nil }
func (g *guard) SetWriteDeadline(time.Time) error { return nil }
