package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/emersion/go-smtp"

	"posthorn/backend/upstream"
)

// SubmissionTimeouts bound how long a client is kept waiting for a submission
// server. Zero fields take the defaults, which follow RFC 5321 section 4.5.3.2
// as far as somebody waits for an answer.
type SubmissionTimeouts struct {
	Login   time.Duration // all that is said up to and with the login; default 30 s
	Command time.Duration // for each reply: MAIL, RCPT, DATA, RSET; default 2 min
	Block   time.Duration // for a part of the message to be taken; default 3 min
	Final   time.Duration // for the reply to the whole message; default 10 min
	Idle    time.Duration // for which a connection waits for its client to come back; default 15 s
}

// submissionConn is a connection to a submission server on which a user is
// logged in, or soon will be.
type submissionConn struct {
	guard    *replyGuard
	client   *smtp.Client
	timeouts *SubmissionTimeouts
	can      Submission
	open     bool // a transaction is under way, or the server may think so
	used     bool // it has had time to die unnoticed
	dead     bool // it is closed
}

// newSubmissionConn takes over a connection on which ehlo was the last reply.
func newSubmissionConn(c *upstream.Conn, ehlo smtpReply, t *SubmissionTimeouts) *submissionConn {
	g := newReplyGuard(c, ehlo, t.Block)
	client := smtp.NewClient(g)
	return &submissionConn{guard: g, client: client, timeouts: t}
}

// within has a conversation that ends in time, or with ctx.
func (c *submissionConn) within(ctx context.Context, limit time.Duration, f func() error) error {
	return c.guard.Within(ctx, limit, f)
}

// hello begins the conversation anew, and learns what the server can do.
func (c *submissionConn) hello() error {
	if err := c.client.Hello(ehloName(c.guard)); err != nil {
		return err
	}
	c.can = c.offer().submission()
	return nil
}

// offer is what the server said to the last EHLO.
func (c *submissionConn) offer() smtpOffer {
	o := make(smtpOffer)
	for _, keyword := range []string{"SIZE", "8BITMIME", "SMTPUTF8", "DSN", "AUTH"} {
		if ok, parameters := c.client.Extension(keyword); ok {
			o[keyword] = parameters
		}
	}
	return o
}

// ehloName names the gateway to a server: by an address literal, as not every
// machine has a name that others know (RFC 5321 section 4.1.4).
func ehloName(c net.Conn) string {
	a, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return "localhost"
	}
	ip := a.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		return "[IPv6:" + ip.String() + "]"
	}
	return "[" + ip.String() + "]"
}

// mail begins a transaction. One that was refused needs a RSET before the next:
// Postfix 3.7 holds the size of the one against the other.
func (c *submissionConn) mail(ctx context.Context, from string, o *smtp.MailOptions) error {
	if err := c.reset(ctx); err != nil {
		return fmt.Errorf("RSET: %v", err) // which is no answer to MAIL
	}
	c.open, c.used = true, true
	return c.within(ctx, c.timeouts.Command, func() error { return c.client.Mail(from, o) })
}

func (c *submissionConn) rcpt(ctx context.Context, to string, o *smtp.RcptOptions) error {
	return c.within(ctx, c.timeouts.Command, func() error { return c.client.Rcpt(to, o) })
}

// data sends a message, and returns what the server says when it has taken it.
// Unless it could be read to its end, the server does not get to see an end
// either, and takes nothing: the connection is dead then, and the error an
// *unreadError.
func (c *submissionConn) data(ctx context.Context, message io.Reader) (answer string, err error) {
	var w *smtp.DataCommand
	err = c.within(ctx, c.timeouts.Command, func() (err error) {
		w, err = c.client.Data()
		return err
	})
	if err != nil {
		return "", err
	}
	whole := false
	defer func() { // if message panics, too
		if !whole {
			c.close() // and no command: before it, go-smtp's client would end the message
		}
	}()
	if err := c.write(ctx, w, message); err != nil {
		return "", err
	}
	whole = true
	err = c.within(ctx, c.timeouts.Final, func() error {
		taken, err := w.CloseWithResponse()
		if err == nil {
			answer = taken.StatusText
		}
		return err
	})
	c.open = err != nil // Postfix goes on with a message that it has refused
	return answer, err
}

// write copies a message to the server, which has nothing to say before its
// end. If it has, that may be a refusal.
func (c *submissionConn) write(ctx context.Context, w io.Writer, message io.Reader) error {
	in := &source{Reader: message}
	stop := context.AfterFunc(ctx, func() { _ = c.guard.Close() })
	defer stop()
	end := c.guard.beginBody()
	_, err := io.Copy(w, in)
	heard := end()
	switch {
	case in.err != nil:
		return &unreadError{in.err}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && heard == nil:
		return nil
	}
	err = errors.Join(err, heard)
	var reply smtpReply
	if c.within(ctx, time.Second, func() (err error) { reply, err = c.guard.lastWords(); return err }) == nil {
		err = errors.Join(err, reply.err())
	}
	return err
}

// reset ends a transaction that is open.
func (c *submissionConn) reset(ctx context.Context) error {
	if !c.open {
		return nil
	}
	c.open = false
	return c.within(ctx, c.timeouts.Command, c.client.Reset)
}

// revive makes sure that a connection that was idle can be used.
func (c *submissionConn) revive(ctx context.Context) error {
	c.open = false
	return c.within(ctx, c.timeouts.Login, func() error {
		if err := c.client.Reset(); err != nil {
			return err
		}
		return c.hello()
	})
}

// quit ends the conversation and closes the connection. Nobody waits for the
// reply: the server has nothing left to lose.
func (c *submissionConn) quit() {
	_ = c.within(context.Background(), time.Second, func() error {
		_, err := c.guard.Conn.Write([]byte("QUIT\r\n"))
		return err
	})
	c.close()
}

// close closes the connection without a word: the server drops what is not
// complete.
func (c *submissionConn) close() {
	c.dead = true
	_ = c.guard.Close()
}

// unreadError says that a message could not be read to its end: no fault of the
// server that was to have it.
type unreadError struct{ cause error }

func (e *unreadError) Error() string { return "reading the message: " + e.cause.Error() }
