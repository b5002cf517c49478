package passkeys

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"time"

	"posthorn/sources"

	"github.com/go-webauthn/webauthn/webauthn"
)

// ceremony is a challenge that waits for its answer. It is in memory: it lasts for
// minutes, anybody can begin one, and what strangers cause is not written to disk.
type ceremony struct {
	id      string
	data    webauthn.SessionData
	account string // that registers; empty: somebody signs in
	source  netip.Prefix
	begun   time.Time
}

const (
	// patience is how long somebody may take.
	patience = 5 * time.Minute
	// perSource and inAll are how many may be under way.
	perSource = 30
	inAll     = 10_000
)

// ceremonies are those that are under way.
type ceremonies struct {
	mu      sync.Mutex // guards the fields below
	byID    map[string]*ceremony
	inOrder []*ceremony // oldest first; those that are over may still be there
	sources map[netip.Prefix]int
}

func newCeremonies() ceremonies {
	return ceremonies{byID: make(map[string]*ceremony), sources: make(map[netip.Prefix]int)}
}

// begin keeps a ceremony, and returns its ID: a secret of the browser that began
// it. The error is ErrTooMany.
func (c *ceremonies) begin(n *ceremony, source netip.Addr) (id string, err error) {
	n.source, n.begun = sources.Of(source), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(n.begun)
	if c.sources[n.source] >= perSource {
		return "", ErrTooMany
	}
	if len(c.byID) >= inAll {
		c.drop(c.inOrder[0])
		c.expire(n.begun)
	}
	n.id = rand.Text()
	c.byID[n.id] = n
	c.inOrder = append(c.inOrder, n)
	c.sources[n.source]++
	return n.id, nil
}

// take returns a ceremony, which then is over; nil: there is none.
func (c *ceremonies) take(id string) *ceremony {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(time.Now())
	n := c.byID[id]
	if n != nil {
		c.drop(n)
	}
	return n
}

// expire drops those that have taken too long, and forgets what drop has left in
// order. The caller holds mu.
func (c *ceremonies) expire(now time.Time) {
	gone := 0
	for _, n := range c.inOrder {
		if c.byID[n.id] == n {
			if now.Sub(n.begun) < patience {
				break
			}
			c.drop(n)
		}
		gone++
	}
	c.inOrder = slices.Delete(c.inOrder, 0, gone)
}

func (c *ceremonies) drop(n *ceremony) {
	delete(c.byID, n.id)
	if c.sources[n.source]--; c.sources[n.source] <= 0 {
		delete(c.sources, n.source)
	}
}
