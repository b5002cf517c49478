package splice

import (
	"context"
	"net"
	"runtime/debug"
	"time"
)

const (
	// halfTime is how long the way that is left may be silent when the other
	// one has ended.
	halfTime = time.Minute
	// lull is how long nothing moves after the end of the context until a link
	// is given up whose server may be in the midst of something.
	lull = 250 * time.Millisecond
)

// begin is the start of a way's goroutine; false: it is not needed any more.
func (c *carrier) begin(w way) bool {
	c.mu.Lock()
	c.ways[w] = running
	ending := c.ending
	c.mu.Unlock()
	if ending {
		c.end(w)
	}
	return !ending
}

// wait parks a way that has nothing to carry.
func (c *carrier) wait(w way) {
	ending, err := c.park(w)
	switch {
	case err != nil:
		c.fail(w, err)
	case ending:
		c.end(w)
	}
}

// park does that, unless the link is ending.
func (c *carrier) park(w way) (ending bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quits(w) {
		return true, nil
	}
	if w == up {
		c.tickets[w], err = c.quiet.Park((*upward)(c))
	} else {
		c.tickets[w], err = c.lot.Park(c.sockets[w], (*downward)(c))
	}
	if err == nil {
		c.ways[w] = parked
	}
	return false, err
}

// quits reports whether a way that has nothing to carry has to end. The caller
// holds mu.
func (c *carrier) quits(w way) bool {
	if c.leaving && c.ways[w^1] != running && len(c.farewell()) > 0 {
		c.quit()
	}
	return c.ending
}

// farewell is what the client is told after what it has got, if that fits.
// down does not run meanwhile.
func (c *carrier) farewell() []byte {
	if c.goodbye == nil {
		return nil
	}
	return c.goodbye(context.Cause(c.ctx), c.last.octets())
}

// await notes that a way will wait; false: it has to end.
func (c *carrier) await(w way) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quits(w) {
		return false
	}
	c.ways[w] = waiting
	return true
}

// resume notes that a way does not wait any more.
func (c *carrier) resume(w way) {
	c.mu.Lock()
	c.ways[w] = running
	c.mu.Unlock()
}

func (c *carrier) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

var longAgo = time.Unix(1, 0)

// quit ends all waiting. The caller holds mu.
func (c *carrier) quit() {
	c.ending = true
	for w, nc := range [...]net.Conn{up: c.client, down: c.server} {
		switch c.ways[w] {
		case parked:
			if c.lot.Leave(c.tickets[w]) {
				c.ways[w] = over
			}
		case waiting:
			if s := c.sockets[w]; s != nil {
				s.Interrupt()
			} else {
				_ = nc.SetReadDeadline(longAgo)
			}
		}
	}
}

// leave ends the link, as ctx has ended: at once if a goodbye fits or there is
// none, else as soon as one fits, or when nothing has moved for a while.
func (c *carrier) leave() {
	if c.goodbye == nil {
		c.kill()
		return
	}
	c.mu.Lock()
	c.leaving = true
	still := c.ways[up] != running && c.ways[down] != running
	if still && len(c.farewell()) > 0 {
		c.quit()
	}
	c.awaitLull(c.moves.Load())
	c.release()
}

// awaitLull ends the link when nothing has moved for lull. The caller holds mu.
func (c *carrier) awaitLull(moves uint32) {
	if c.done {
		return
	}
	c.timer = time.AfterFunc(lull, func() {
		c.mu.Lock()
		now := c.moves.Load()
		if now == moves && c.ways[up] != running && c.ways[down] != running {
			c.quit()
		}
		c.awaitLull(now)
		c.release()
	})
}

// release lets go of mu, and finishes a link that has ended.
func (c *carrier) release() {
	last := !c.done && c.ways[up] == over && c.ways[down] == over
	if last {
		c.done = true
		if c.timer != nil {
			c.timer.Stop()
		}
	}
	c.mu.Unlock()
	if last {
		c.finish()
	}
}

// kill ends the link at once. Who is in a write to the client is left to
// whoever closes that.
func (c *carrier) kill() {
	c.mu.Lock()
	c.killed = true
	c.quit()
	c.release()
	_ = c.server.Close()
}

// fail ends a way, and the link with it.
func (c *carrier) fail(w way, err error) {
	c.decide(err)
	c.kill()
	c.end(w)
}

// end notes that a way's goroutine has ended for good.
func (c *carrier) end(w way) {
	c.mu.Lock()
	c.ways[w] = over
	switch {
	case c.leaving:
		if c.ways[w^1] != running {
			c.quit()
		}
	case c.timer == nil:
		c.awaitHalf(c.moves.Load())
	}
	c.release()
}

// passEnd ends a way that has come to its end, and tells the other side. When
// both ways have ended, they are closed anyway.
func (c *carrier) passEnd(w way, to net.Conn) {
	c.mu.Lock()
	last := c.ways[w^1] == over
	c.mu.Unlock()
	if !last {
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		} else {
			c.kill()
		}
	}
	c.end(w)
}

// awaitHalf gives the way that is left halfTime to move on from where it is.
// The caller holds mu.
func (c *carrier) awaitHalf(moves uint32) {
	c.timer = time.AfterFunc(halfTime, func() {
		now := c.moves.Load()
		if now == moves {
			c.kill()
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.done && !c.leaving {
			c.awaitHalf(now)
		}
	})
}

// decide notes why the link ends; the first call does.
func (c *carrier) decide(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.decided {
		c.decided, c.err = true, err
	}
}

// finish is the end of the link. Nothing else of it goes on.
func (c *carrier) finish() {
	c.stop()
	_ = c.server.Close()
	c.mu.Lock()
	err, killed := c.err, c.killed // kill may still come
	c.mu.Unlock()
	if c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
		if !killed {
			if text := c.farewell(); len(text) > 0 {
				_, _ = c.client.Write(text)
			}
		}
	}
	c.conclude(err)
}

// contain keeps a panic of a way to its link. It is called by deferred
// functions alone.
func (c *carrier) contain(w way) {
	r := recover()
	if r == nil {
		return
	}
	c.mu.Lock()
	done := c.done
	c.mu.Unlock()
	if done {
		panic(r) // in what the link's user does at the end
	}
	c.fail(w, &PanicError{Value: r, stack: debug.Stack()})
}
