package guard

import (
	"bytes"
	"errors"
	"sync/atomic"
	"time"
)

// idle is an IDLE command (RFC 2177) under way.
type idle struct {
	tag   string
	stop  func()      // of Options.Idle; nil: imapserver does the idling
	woken atomic.Bool // there may be news
}

// errWoken interrupts the wait for the end of an IDLE.
var errWoken = errors.New("guard: woken")

func (c *Conn) startIdle(cmd *command, line []byte, lit literal) error {
	if c.opts.Idle != nil && len(line) != len(cmd.tag)+len(" IDLE") {
		return c.refuse(cmd, lit, "BAD", "Syntax error in IDLE")
	}
	if err := c.collect(cmd, line, lit); err != nil {
		return err
	}
	c.idle = &idle{tag: cmd.tag}
	if c.opts.Idle == nil {
		c.out.expectPlus(false)
		return nil
	}
	c.cmd.release()
	i := c.idle
	i.woken.Store(true) // by what came before
	i.stop = c.opts.Idle(func() {
		if !i.woken.Swap(true) {
			_ = c.client.SetReadDeadline(time.Unix(1, 0))
		}
	})
	c.out.reply("+ ", "idling")
	return nil
}

// continueIdle waits for the line that ends an IDLE, or for news, and has
// imapserver tell those.
func (c *Conn) continueIdle() error {
	i := c.idle
	if i.stop == nil {
		return c.endPassedIdle()
	}
	if i.woken.Swap(false) {
		c.out.hideTagged("")
		c.cmd.append([]byte("idle NOOP\r\n"))
		return nil
	}
	line, err := c.line()
	switch {
	case err == errWoken:
		return nil
	case err != nil:
		return err
	}
	c.stopIdle()
	if !bytes.EqualFold(line, []byte("DONE")) {
		return c.refuse(&command{tag: i.tag}, literal{}, "BAD", "Expected DONE")
	}
	c.out.reply(i.tag, " OK ", "IDLE completed")
	return nil
}

// quiet reports whether the IDLE waits for nothing but the client.
func (i *idle) quiet() bool { return i.stop != nil && !i.woken.Load() }

// stopIdle forgets the IDLE under way.
func (c *Conn) stopIdle() {
	if stop := c.idle.stop; stop != nil {
		stop()
	}
	c.idle = nil
}

// endPassedIdle waits for the end of an IDLE that imapserver does itself. It
// always hears DONE, so that it waits for its session; a client that said
// something else hears BAD.
func (c *Conn) endPassedIdle() error {
	if !c.out.sawPlus() { // it was refused: this is the time for the next command
		c.idle = nil
		return nil
	}
	c.out.setPrompt(true)
	line, err := c.line()
	if err != nil {
		return err
	}
	c.out.setPrompt(false)
	if !bytes.EqualFold(line, []byte("DONE")) {
		c.out.hideTagged(c.idle.tag + " BAD Expected DONE")
	}
	c.idle = nil
	c.cmd.append([]byte("DONE\r\n"))
	return nil
}
