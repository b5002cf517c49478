package backend

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Each idle connection keeps a process of Postfix, which has a hundred.
const (
	maxIdle         = 50
	maxIdlePerOwner = 2
)

// connOwner is whom a server takes a connection for.
type connOwner struct {
	account, user string
	remote        netip.Addr
}

// idleConns are connections that wait a while for their owners to come back.
// Nothing is sent on them meanwhile. The zero value keeps none, until run.
type idleConns struct {
	time time.Duration // for which one is kept

	mu      sync.Mutex
	running bool       // guarded by mu
	conns   []idleConn // oldest first; guarded by mu
}

type idleConn struct {
	*submissionConn
	owner connOwner
	since time.Time
}

// take returns the connection that o left last, or nil.
func (i *idleConns) take(o connOwner) *submissionConn {
	i.mu.Lock()
	defer i.mu.Unlock()
	for at := len(i.conns) - 1; at >= 0; at-- {
		c := i.conns[at]
		if c.owner == o && time.Since(c.since) < i.time {
			i.conns = slices.Delete(i.conns, at, at+1)
			return c.submissionConn
		}
	}
	return nil
}

// put keeps a connection for o, or closes it, or another one for it.
func (i *idleConns) put(o connOwner, c *submissionConn) {
	i.mu.Lock()
	surplus := c
	if i.running {
		i.conns = append(i.conns, idleConn{c, o, time.Now()})
		surplus = i.surplus(o)
	}
	i.mu.Unlock()
	if surplus != nil {
		surplus.quit()
	}
}

// surplus takes out the oldest connection of those that are too many after one
// was added for o, or returns nil. The caller holds mu.
func (i *idleConns) surplus(o connOwner) *submissionConn {
	oldest, owned := 0, 0
	for at := len(i.conns) - 1; at >= 0; at-- {
		if i.conns[at].owner == o {
			oldest, owned = at, owned+1
		}
	}
	switch {
	case owned > maxIdlePerOwner:
	case len(i.conns) > maxIdle:
		oldest = 0
	default:
		return nil
	}
	c := i.conns[oldest]
	i.conns = slices.Delete(i.conns, oldest, oldest+1)
	return c.submissionConn
}

// run closes connections whose time is over, and all of them when ctx ends.
func (i *idleConns) run(ctx context.Context) error {
	i.mu.Lock()
	i.running = true
	i.mu.Unlock()
	tick := time.NewTicker(max(i.time/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			i.mu.Lock()
			i.running = false
			i.mu.Unlock()
			i.close(0)
			return nil
		case <-tick.C:
			i.close(i.time)
		}
	}
}

// close closes the connections that have been idle for a time.
func (i *idleConns) close(after time.Duration) {
	i.mu.Lock()
	n := 0
	for n < len(i.conns) && time.Since(i.conns[n].since) >= after {
		n++
	}
	old := slices.Clone(i.conns[:n])
	i.conns = slices.Delete(i.conns, 0, n)
	i.mu.Unlock()
	for _, c := range old {
		c.quit()
	}
}
