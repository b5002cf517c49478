package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Dial opens a connection to the address that has the fewest, of those that are
// up, and to the next one when that fails: nothing has been said on it yet that
// may not be said twice. When none is left, those that are down are tried, so
// that the end of an outage is noticed at once. It takes no longer than three
// times Config.Timeout. Its error wraps ErrUnavailable and what was wrong with
// each address, or is ctx's.
func (p *Pool) Dial(ctx context.Context, h Header) (*Conn, error) {
	header, err := p.header(h)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	d := dialing{Pool: p, header: header, tried: make(map[*address]bool, len(p.addresses))}
	c := d.some(ctx, false, 2*p.config.Timeout)
	if c == nil && ctx.Err() == nil {
		c = d.some(ctx, true, p.config.Timeout)
	}
	switch {
	case c != nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("upstream: %w", ctx.Err())
	case len(d.failures) == 0:
		return nil, fmt.Errorf("%w: all are down, and being tried", ErrUnavailable)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, d.failures)
}

// dialing is one call of Dial.
type dialing struct {
	*Pool
	header   []byte
	tried    map[*address]bool
	failures failures
}

// failures are those of the addresses that were tried, in turn.
type failures []error

func (f failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (f failures) Unwrap() []error { return f }

// some tries the addresses that are up, or those that are down, one after the
// other. Nil: none could be reached in time.
func (d *dialing) some(ctx context.Context, down bool, limit time.Duration) *Conn {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for ctx.Err() == nil {
		a := d.choose(down, d.tried)
		if a == nil {
			return nil
		}
		d.tried[a] = true
		c, err := d.place(ctx, a)
		if err == nil {
			return c
		}
		d.failures = append(d.failures, fmt.Errorf("%s: %w", a.name, err))
	}
	return nil
}

// place opens a connection for a place at a that is taken already. What ctx cut
// short says nothing of the address.
func (d *dialing) place(ctx context.Context, a *address) (*Conn, error) {
	began := time.Now()
	c, err := d.open(ctx, a, d.header)
	d.metrics.dialed(a, time.Since(began), err, ctx.Err() != nil)
	d.opened(a, err == nil)
	if err == nil || ctx.Err() == nil {
		d.note(a, began, err)
	}
	if err != nil {
		return nil, err
	}
	c.placed = true
	return c, nil
}

// errSlow is why open gives up.
var errSlow = errors.New("not ready in time")

// open connects to an address and brings the connection to where a login can
// follow. It begins with the header.
func (p *Pool) open(ctx context.Context, a *address, header []byte) (*Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.config.Timeout, errSlow)
	defer cancel()
	raw, err := p.dialer.DialContext(ctx, a.network, a.target)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: raw, R: bufio.NewReaderSize(raw, readerSize), pool: p, address: a, raw: raw}
	if err := c.Within(ctx, p.config.Timeout, func() error { return p.prepare(ctx, c, header) }); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// prepare does on a new connection all that comes before a login.
func (p *Pool) prepare(ctx context.Context, c *Conn, header []byte) error {
	implicit := p.config.Security == ImplicitTLS
	if len(header) > 0 {
		if err := writeHeader(c.raw, header, implicit); err != nil {
			return fmt.Errorf("PROXY header: %w", err)
		}
	}
	if implicit {
		if err := c.StartTLS(ctx); err != nil {
			return err
		}
	}
	if p.config.Open == nil {
		return nil
	}
	return p.config.Open(ctx, c)
}
