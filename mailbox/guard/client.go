package guard

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// errEnding says that ctx is over.
var errEnding = errors.New("guard: context ended")

// Run reads from client, on the caller's goroutine, until the Conn is closed,
// which is the last thing that imapserver does with it. It returns io.EOF when
// the client hung up, the error that the connection below ended with, or nil
// when the conversation ended otherwise.
//
// Without it, imapserver's goroutine reads. But a goroutine that has executed
// commands has a stack of 8 KiB, and gives half of it back only if it waits with
// little on it, which it cannot do in crypto/tls. One that has done nothing
// deep makes do with 4 KiB there: so should Run's.
func (c *Conn) Run() error {
	p := &pump{want: make(chan []byte), got: make(chan received)}
	c.pump.Store(p)
	for {
		select {
		case b := <-p.want:
			n, err := c.client.Read(b)
			p.got <- received{n, err}
		case <-c.closed:
			return c.Err()
		}
	}
}

// pump is how imapserver's goroutine has Run read.
type pump struct {
	want chan []byte
	got  chan received
}

type received struct {
	n   int
	err error
}

// readClient reads from the client, by Run if it runs.
func (c *Conn) readClient(b []byte) (int, error) {
	p := c.pump.Load()
	if p == nil {
		return c.client.Read(b)
	}
	select {
	case p.want <- b:
		r := <-p.got
		return r.n, r.err
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

// quiet reports whether there is nothing to do until the client says
// something. It has heard everything then.
func (c *Conn) quiet() bool {
	return c.in.len() == 0 && c.message == nil && !c.over && c.readErr == nil &&
		(c.idle == nil || c.idle.quiet()) &&
		c.out.badCommands() < c.opts.MaxErrors &&
		c.out.flush() == nil && c.ctx.Err() == nil
}

// took takes what was read into scratch when all was quiet.
func (c *Conn) took(n int, err error) {
	switch {
	case n > 0:
		c.in.append(c.scratch[:n])
	case c.ctx.Err() != nil:
	case c.closing.Load():
		c.readErr = net.ErrClosed
	case err == nil:
		c.readErr = io.ErrNoProgress
	case errors.Is(err, os.ErrDeadlineExceeded): // somebody has called wake
		c.readErr = c.client.SetReadDeadline(time.Time{})
	default:
		c.readErr = err
		c.hungUp.Store(errors.Is(err, io.EOF))
	}
}

// receive reads from the client: some bytes, or an error. What imapserver has
// said goes out first.
func (c *Conn) receive(p []byte) (int, error) {
	if err := c.out.flush(); err != nil {
		return 0, err
	}
	for {
		switch {
		case c.ctx.Err() != nil:
			return 0, errEnding
		case c.readErr != nil:
			return 0, c.readErr
		}
		n, err := c.readClient(p)
		if n > 0 {
			return n, nil
		}
		c.took(0, err)
		if c.readErr == nil && c.idle != nil && c.idle.woken.Load() {
			return 0, errWoken
		}
	}
}

// fill reads more from the client into in.
func (c *Conn) fill() error {
	n, err := c.receive(c.scratch)
	c.in.append(c.scratch[:n])
	return err
}
