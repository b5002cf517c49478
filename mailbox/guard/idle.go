package guard

import "bytes"

// idle is an IDLE command (RFC 2177) that imapserver has been given.
type idle struct{ tag string }

func (c *Conn) startIdle(cmd *command, line []byte, lit literal) error {
	if err := c.collect(cmd, line, lit); err != nil {
		return err
	}
	c.idle = &idle{cmd.tag}
	c.out.expectPlus(false)
	return nil
}

// endIdle waits for the line that ends IDLE. imapserver always hears DONE, so
// that it waits for its session; a client that said something else hears BAD.
func (c *Conn) endIdle() error {
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
		c.out.replaceTagged(c.idle.tag + " BAD Expected DONE")
	}
	c.idle = nil
	c.cmd.append([]byte("DONE\r\n"))
	return nil
}
