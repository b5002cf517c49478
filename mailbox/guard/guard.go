// Package guard stands between a client and go-imap's imapserver. imapserver
// is strictly sequential and trusts its peer; guard hands it exactly one
// complete, well-formed, bounded command at a time, answers the commands that
// imapserver does not know, and keeps what imapserver says to what was
// promised.
//
// A command reaches imapserver without literals: they are collected, after a
// continuation request of the guard's own, and become quoted strings. So
// whatever imapserver thinks of a command, it finds the end of it at the CRLF.
// Only the message of an APPEND is streamed, after imapserver has asked for it.
package guard

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Options are the settings of a guarded connection.
type Options struct {
	// Capabilities answers CAPABILITY: what stands behind "* CAPABILITY ". It
	// must not promise LITERAL+ or MULTIAPPEND; LITERAL- is kept.
	Capabilities string
	// ID is the server's answer to ID (RFC 2971), as field and value in turn.
	ID []string
	// Quota answers GETQUOTA and GETQUOTAROOT (RFC 9208); nil: no quota root.
	// The mailbox's name is in UTF-8, "INBOX" in capitals. exists says whether
	// the mailbox does; limit 0 means none. Both numbers are in bytes.
	Quota func(ctx context.Context, mailbox string) (used, limit int64, exists bool, err error)
	// AppendLimit is the largest message of an APPEND, in bytes (RFC 7889).
	AppendLimit int64
	// MaxCommand bounds a command without an APPEND's message, in bytes;
	// default and upper bound 48 KiB, as imapserver loses its place at 50.
	MaxCommand int
	// Idle, when set, is called at the beginning of each IDLE (RFC 2177), and
	// spares imapserver its Session.Idle, and with that a goroutine: the guard
	// has the session polled at once, and whenever wake has been called, until
	// it calls stop. wake does not block; it may be called from anywhere, but
	// not once stop has returned.
	Idle func(wake func()) (stop func())
	// MaxErrors is how many bad commands end the connection; default 50.
	MaxErrors int
}

const (
	maxCommand = 48 << 10
	maxErrors  = 50
	maxTag     = 128
	maxDepth   = 64       // of parentheses
	maxNonSync = 4096     // octets of a non-synchronizing literal (RFC 7888 section 5)
	maxSkipped = 64 << 10 // octets of refused literals of one command that are read and dropped
)

// Conn is the net.Conn to give to imapserver, which must greet it with PREAUTH,
// and whose sessions must return no errors but *imap.Error: what imapserver
// takes for a bug of its own is told to the client as one of the client's.
// Its deadlines are no-ops: the connection below has its own, rolling ones.
//
// Between commands, and in IDLE, a Conn holds no buffer.
type Conn struct {
	client net.Conn
	opts   *Options
	ctx    context.Context
	unhook func() bool   // stops watching ctx
	hooked chan struct{} // closed when what watches ctx is done

	closing atomic.Bool
	hungUp  atomic.Bool // the client did
	closed  chan struct{}

	// The reading side belongs to imapserver's goroutine.
	in      buffer   // what the client sent and nobody took yet
	cmd     buffer   // what imapserver has not yet taken of the command at hand
	held    int      // bytes of in that the last line takes
	scratch []byte   // the caller's buffer, inside Read
	message *message // the APPEND under way
	idle    *idle    // the IDLE under way
	over    bool     // Read returns io.EOF from now on
	readErr error    // what the next receive returns

	pump atomic.Pointer[pump] // nil: imapserver's goroutine reads

	out output
}

// New guards client. The greeting that imapserver writes is swallowed, since
// the caller has greeted already. When ctx ends, the guard writes BYE with the
// text of context.Cause(ctx) between two responses and ends the conversation;
// a read that is blocked in client then is woken by a deadline in the past.
// Closing the Conn does not close client.
func New(ctx context.Context, client net.Conn, o Options) *Conn {
	if o.MaxCommand <= 0 || o.MaxCommand > maxCommand {
		o.MaxCommand = maxCommand
	}
	if o.MaxErrors <= 0 {
		o.MaxErrors = maxErrors
	}
	c := &Conn{
		client: client, opts: &o, ctx: ctx,
		hooked: make(chan struct{}), closed: make(chan struct{}),
	}
	c.out.client, c.out.ctx = client, ctx
	c.unhook = context.AfterFunc(ctx, func() {
		defer close(c.hooked)
		client.SetReadDeadline(time.Unix(1, 0))
	})
	return c
}

// Done is closed when the Conn is.
func (c *Conn) Done() <-chan struct{} { return c.closed }

// Err returns what Run does, once Done is closed.
func (c *Conn) Err() error {
	if err := c.out.failure(); err != nil || !c.hungUp.Load() {
		return err
	}
	return io.EOF
}

// Read gives imapserver the next command, or the next part of an APPEND's
// message. It waits for the client with as little on the stack as can be.
func (c *Conn) Read(p []byte) (int, error) {
	c.scratch = p
	for c.cmd.len() == 0 {
		if c.quiet() {
			c.took(c.readClient(p))
		}
		if n, err := c.step(p); n > 0 || err != nil {
			return n, err
		}
	}
	n := copy(p, c.cmd.bytes())
	c.cmd.take(n)
	c.scratch = nil
	return n, nil
}

// step deals with one command or the next octets of a message; it returns those.
func (c *Conn) step(p []byte) (n int, err error) {
	switch {
	case c.message != nil:
		n, err = c.readMessage(p)
	case c.over:
		c.in.release()
		return 0, io.EOF
	default:
		err = c.next()
	}
	if err != nil && err != errBroken {
		c.finish(err)
		err = nil
	}
	return n, err
}

// finish ends the conversation because of err. An IDLE is ended first, since
// imapserver would otherwise close the session under it.
func (c *Conn) finish(err error) {
	c.over = true
	switch bye, ok := err.(byeError); {
	case ok:
		c.out.bye(string(bye))
	case errors.Is(err, errEnding):
		c.out.bye(context.Cause(c.ctx).Error())
	case err != io.EOF:
		c.out.fail(err)
	}
	_ = c.out.flush()
	if c.idle == nil {
		return
	}
	passed := c.idle.stop == nil
	c.stopIdle()
	if passed {
		c.out.setPrompt(false)
		c.cmd.append([]byte("DONE\r\n"))
	}
}

// Write takes imapserver's responses to the client. They are gathered until
// imapserver asks for the next command.
func (c *Conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close ends the guard, not the connection below. It may be called while Read
// runs, which fails then.
func (c *Conn) Close() error {
	if c.closing.Swap(true) {
		return nil
	}
	err := c.out.flush()
	if !c.unhook() {
		<-c.hooked
	}
	close(c.closed)
	if deadlineErr := c.client.SetReadDeadline(time.Unix(1, 0)); err == nil {
		err = deadlineErr
	}
	return err
}

// LocalAddr returns the address of the connection below.
func (c *Conn) LocalAddr() net.Addr { return c.client.LocalAddr() }

// RemoteAddr returns the address of the connection below.
func (c *Conn) RemoteAddr() net.Addr { return c.client.RemoteAddr() }

// SetDeadline does nothing.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline sets no deadline. imapserver calls it when it is done with an
// APPEND, which is how the guard knows that the failed reads of a broken
// message are over and the next one is for a command.
func (c *Conn) SetReadDeadline(time.Time) error {
	if c.message != nil && c.message.broken {
		c.message = nil
	}
	return nil
}
