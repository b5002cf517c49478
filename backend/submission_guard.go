package backend

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"posthorn/backend/upstream"
)

// errUnasked says that a server said something when nothing was asked: from
// then on nobody can say which command a reply belongs to.
var errUnasked = errors.New("server spoke out of turn")

// replyGuard is the net.Conn that go-smtp's client has: a server as one would
// wish it. The client trusts its peer: it takes whatever comes next for the
// reply to its command, and reads replies without an end into memory. guard
// hands it one checked reply to each command.
//
// Its greeting and its first EHLO are answered from what was said when the
// connection was opened.
type replyGuard struct {
	*upstream.Conn
	ehlo      smtpReply // to the first EHLO
	blockTime time.Duration

	handout []byte // of replies, what the client has not read yet
	hello   bool   // the command under way is EHLO
	last    int    // the code of the last reply

	body  bool        // a message is being written
	early atomic.Bool // the server has spoken before its end
}

func newReplyGuard(c *upstream.Conn, ehlo smtpReply, blockTime time.Duration) *replyGuard {
	greeting := smtpReply{code: 220, lines: []string{"ready"}}
	return &replyGuard{Conn: c, ehlo: ehlo, blockTime: blockTime, handout: greeting.wire()}
}

// Read hands out the reply to the last command.
func (g *replyGuard) Read(p []byte) (int, error) {
	if len(g.handout) == 0 {
		reply, err := readSMTPReply(g.ReadLine)
		if err != nil {
			return 0, err
		}
		if g.hello {
			reply = reply.upperKeywords()
		}
		g.last, g.handout = reply.code, reply.wire()
	}
	n := copy(p, g.handout)
	g.handout = g.handout[n:]
	return n, nil
}

// upperKeywords returns a reply to EHLO as go-smtp's client wants it.
func (r smtpReply) upperKeywords() smtpReply {
	lines := make([]string, len(r.lines))
	for i, line := range r.lines {
		keyword, parameters, more := strings.Cut(line, " ")
		if lines[i] = strings.ToUpper(keyword); more {
			lines[i] += " " + parameters
		}
	}
	r.lines = lines
	return r
}

// Write sends a command, or a part of a message.
func (g *replyGuard) Write(p []byte) (int, error) {
	if g.body {
		return g.writeBody(p)
	}
	// The last part of a message comes here, too, with the line that ends it.
	g.hello = bytes.HasPrefix(p, []byte("EHLO ")) && bytes.Count(p, []byte("\n")) == 1
	switch {
	case g.hello && g.ehlo.lines != nil:
		first := g.ehlo.upperKeywords()
		g.handout, g.ehlo = first.wire(), smtpReply{}
		return len(p), nil
	case string(p) == "*\r\n" && g.last != 334:
		// The client gives up an exchange that the server has ended already, and
		// would wait for another reply.
		g.handout = (&smtpReply{code: 501, lines: []string{"over"}}).wire()
		return len(p), nil
	}
	if g.R.Buffered() > 0 {
		return 0, errUnasked
	}
	return g.Conn.Write(p)
}

func (g *replyGuard) writeBody(p []byte) (int, error) {
	if g.early.Load() {
		return 0, errUnasked
	}
	if err := g.Conn.SetWriteDeadline(time.Now().Add(g.blockTime)); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// beginBody lets a message be written, until end is called. Its error says that
// the server has spoken before that, or hung up.
func (g *replyGuard) beginBody() (end func() error) {
	g.body = true
	g.early.Store(false)
	heard := make(chan error, 1)
	go g.listen(heard)
	return func() error {
		// Which the goroutine takes for an answer, whatever it is doing.
		_ = g.Conn.SetReadDeadline(time.Unix(1, 0))
		err := <-heard
		_ = g.Conn.SetDeadline(time.Time{})
		g.body = false
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err == nil:
			return errUnasked
		}
		return err
	}
}

// listen waits until the server says something.
func (g *replyGuard) listen(heard chan<- error) {
	_, err := g.R.Peek(1)
	g.early.Store(true)
	heard <- err
}

// lastWords returns what a server said before it hung up, or stopped listening.
func (g *replyGuard) lastWords() (smtpReply, error) {
	return readSMTPReply(g.ReadLine)
}

// The deadlines are the callers'.
func (g *replyGuard) SetDeadline(time.Time) error      { return nil }
func (g *replyGuard) SetReadDeadline(time.Time) error  { return nil }
func (g *replyGuard) SetWriteDeadline(time.Time) error { return nil }
