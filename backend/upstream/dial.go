package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"posthorn/socket"
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
		return nil, fmt.Errorf("upstream: PROXY header: %w", err)
	}
	d := dialing{Pool: p, header: header, began: time.Now()}
	until := d.began.Add(2 * p.config.Timeout)
	c := d.some(ctx, false, until)
	if c == nil && ctx.Err() == nil {
		if soon := time.Now().Add(p.config.Timeout); soon.Before(until) {
			until = soon
		}
		c = d.some(ctx, true, until)
	}
	switch {
	case c != nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("upstream: %w", ctx.Err())
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, d.reasons())
}

// reasons are why no address could be used: those not tried have theirs too.
func (d *dialing) reasons() failures {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.addresses {
		if a.failure != nil && !d.tried[a] {
			d.failed(a, a.failure)
		}
	}
	return d.failures
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

// dialing is one call of Dial.
type dialing struct {
	*Pool
	header   []byte
	began    time.Time
	tried    map[*address]bool
	failures failures
}

// some tries the addresses that are up, with last those that are down too, one
// after the other, and begins none after until. Nil: none could be reached.
func (d *dialing) some(ctx context.Context, last bool, until time.Time) *Conn {
	for ctx.Err() == nil && time.Now().Before(until) {
		a, news := d.choose(last)
		switch {
		case a != nil:
			c, err := d.place(ctx, a)
			if err == nil {
				return c
			}
			d.failed(a, err)
		case news == nil:
			return nil
		default:
			await(ctx, news, until)
		}
	}
	return nil
}

// await waits for news.
func await(ctx context.Context, news <-chan struct{}, until time.Time) {
	end := time.NewTimer(time.Until(until))
	defer end.Stop()
	select {
	case <-news:
	case <-end.C:
	case <-ctx.Done():
	}
}

func (d *dialing) failed(a *address, err error) {
	if d.tried == nil {
		d.tried = make(map[*address]bool)
	}
	d.tried[a] = true
	d.failures = append(d.failures, fmt.Errorf("%s: %w", a.name, err))
}

// choose takes a place at the address that is to be tried next. With last it may
// be one that is down. Such a one has few tries at a time, and one try that
// fails is for all that were waiting when it began: they are told by news.
// Both nil: there is none to try.
func (d *dialing) choose(last bool) (best *address, news <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	wait := false
	for _, a := range d.addresses {
		switch {
		case d.tried[a]:
		case a.failure != nil && !last:
		case a.failure != nil && a.failed.After(d.began):
			d.failed(a, a.failure)
		case a.failure != nil && a.opening >= maxTries:
			wait = true
		case best == nil || a.before(&best.state, now, d.config.SlowStart):
			best = a
		}
	}
	switch {
	case best != nil:
		d.turns++
		best.turn = d.turns
		best.conns++
		best.opening++
	case wait:
		if d.news == nil {
			d.news = make(chan struct{})
		}
		news = d.news
	}
	return best, news
}

// place opens a connection for a place at a that is taken already. What ctx cut
// short says nothing of the address.
func (d *dialing) place(ctx context.Context, a *address) (*Conn, error) {
	began := time.Now()
	c, err := d.open(ctx, a, d.header)
	canceled := err != nil && ctx.Err() != nil
	d.metrics.dialed(a, time.Since(began), err, canceled)
	d.mu.Lock()
	defer d.mu.Unlock()
	a.opening--
	switch {
	case canceled:
	case a.failure == nil && d.turnedAway(err):
		d.doubtful(a)
	default:
		d.note(a, began, err)
	}
	d.tell()
	if err != nil {
		a.conns--
		return nil, err
	}
	c.placed = true
	return c, nil
}

// introduce sends the header. With more, the next write comes at once, and goes
// into the same packet.
func (c *Conn) introduce(header []byte, more bool) error {
	if more {
		return socket.WriteMore(c.raw, header)
	}
	_, err := c.Write(header)
	return err
}

// turnedAway reports whether it may be this client that a server does not want:
// it was told who that is, and did answer. No client is to put down an address
// for all others.
func (p *Pool) turnedAway(err error) bool {
	var connect *net.OpError
	return p.config.ProxyProtocol && err != nil && !errors.Is(err, ErrBusy) &&
		!errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) &&
		!(errors.As(err, &connect) && connect.Op == "dial")
}

// open connects to an address and brings the connection to where a login can
// follow. It begins with the header.
func (p *Pool) open(ctx context.Context, a *address, header []byte) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	raw, err := p.dialer.DialContext(ctx, a.network, a.target)
	if err != nil {
		return nil, err
	}
	direct := socket.Direct(raw)
	c := &Conn{Conn: raw, R: bufio.NewReaderSize(direct, readerSize), direct: direct, pool: p, address: a, raw: raw}
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
		if err := c.introduce(header, implicit); err != nil {
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
