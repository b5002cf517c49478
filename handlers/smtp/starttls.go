package smtp

import (
	"context"
	"errors"
	"strings"

	"posthorn/backend"
	"posthorn/mux"
)

// startTLS speaks with a client of the STARTTLS port until TLS is on
// (RFC 3207). In cleartext there is nothing to log in with and nobody to be;
// nothing that was said counts afterwards. It reports whether to go on.
func (h *Handler) startTLS(ctx context.Context, c *mux.Conn) bool {
	w := newWire(ctx, c, h.maxLine())
	stop := w.watch()
	defer stop()

	clear := &cleartext{wire: w, h: h}
	w.reply("220 " + h.hostname() + " ESMTP Service Ready\r\n")
	if !clear.run() {
		w.close("closed")
		c.SetReason(w.reason)
		return false
	}
	w.reply(replyStartTLS)
	w.flush()
	if !stop() { // goodbye is said
		return false
	}
	// What is in w's buffer was pipelined behind STARTTLS, by whoever sits on
	// the line, and goes away with w.
	if err := c.StartTLS(ctx); err != nil {
		c.SetReason("STARTTLS handshake failed")
		return false
	}
	return true
}

// cleartext is the conversation before STARTTLS.
type cleartext struct {
	*wire
	h   *Handler
	bad int
}

// run answers commands until it reads STARTTLS, or reports false.
func (t *cleartext) run() bool {
	for t.bad < maxBadStranger {
		line, err := t.readLine()
		switch {
		case errors.Is(err, errBadEnd):
			return t.hangUp(replyBadEnd, "line without CRLF")
		case errors.Is(err, errControl):
			return t.hangUp(replyControl, "control character in command")
		case errors.Is(err, errLongLine):
			return t.hangUp(replyLongLine, "line too long")
		case err != nil:
			return false
		case foreign(line):
			return t.hangUp(replyForeign, "another protocol")
		}
		verb, arg, _ := strings.Cut(line, " ")
		switch verb = strings.ToUpper(verb); verb {
		case "STARTTLS":
			if arg == "" {
				return true
			}
			t.bad++
			t.reply(replyNoArgument)
		case "QUIT":
			return t.hangUp("221 2.0.0 Bye\r\n", "quit")
		default:
			t.answer(verb, arg)
		}
	}
	return t.hangUp(replyErrors, "too many errors")
}

// answer replies to a command that changes nothing.
func (t *cleartext) answer(verb, arg string) {
	switch verb {
	case "EHLO", "HELO":
		t.greet(verb, arg)
	case "NOOP", "RSET":
		t.reply(replyNoop)
	case "HELP":
		t.reply(replyHelp)
	default:
		t.bad++
		t.reply(replyMustStartTLS)
	}
}

// inClear are the extensions that are named before TLS.
var inClear = []string{"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "SMTPUTF8", "DSN", "SIZE", "STARTTLS"}

func (t *cleartext) greet(verb, arg string) {
	switch {
	case !validName(strings.Trim(arg, " \t")):
		t.bad++
		t.reply(replyBadHelo)
	case verb == "HELO":
		t.reply(greeted(t.h.hostname(), nil, backend.Submission{}))
	default:
		t.reply(greeted(t.h.hostname(), inClear, t.h.offer(nil)))
	}
}

// hangUp says a last reply; its result is run's.
func (t *cleartext) hangUp(reply, reason string) bool {
	t.reply(reply)
	t.close(reason)
	return false
}
