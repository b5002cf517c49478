package upstream

import (
	"context"
	"fmt"
	"time"
)

// Within calls f, which talks on c, and sees to it that reads and writes fail
// when ctx ends, or after a time. Calls may nest. Afterwards c has no deadline,
// or that of the outer call. When ctx has ended, f's error is taken to be
// ctx's.
func (c *Conn) Within(ctx context.Context, limit time.Duration, f func() error) error {
	b := c.bind(time.Now().Add(limit))
	stop := context.AfterFunc(ctx, func() { c.expire(b) })
	err := f()
	stop()
	c.unbind(b)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// bound is when reads and writes are to fail.
type bound struct {
	at    time.Time
	outer *bound // nil: none
	over  bool   // it is no longer in force
}

// longAgo makes reads and writes fail at once.
var longAgo = time.Unix(1, 0)

func (c *Conn) bind(at time.Time) *bound {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound = &bound{at: at, outer: c.bound}
	c.setDeadline()
	return c.bound
}

// unbind takes away the innermost bound.
func (c *Conn) unbind(b *bound) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.over = true
	c.bound = b.outer
	c.setDeadline()
}

// expire makes reads and writes fail while b is in force. It may come too late
// for that.
func (c *Conn) expire(b *bound) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !b.over {
		b.at = longAgo
		c.setDeadline()
	}
}

// setDeadline sets the earliest of the bounds. The caller holds mu.
func (c *Conn) setDeadline() {
	var at time.Time
	for b := c.bound; b != nil; b = b.outer {
		if at.IsZero() || b.at.Before(at) {
			at = b.at
		}
	}
	_ = c.raw.SetDeadline(at)
}
