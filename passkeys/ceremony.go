package passkeys

import (
	"container/list"
	"crypto/rand"
	"net/netip"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"posthorn/sources"
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
	byID    map[string]*list.Element
	inOrder *list.List // of *ceremony, oldest first
	sources map[netip.Prefix]int
}

func newCeremonies() ceremonies {
	return ceremonies{byID: make(map[string]*list.Element), inOrder: list.New(), sources: make(map[netip.Prefix]int)}
}

// begin keeps a ceremony, and returns its ID: a secret of the browser that began
// it. The error is ErrTooMany.
func (c *ceremonies) begin(n *ceremony, source netip.Addr) (id string, err error) {
	n.id, n.source, n.begun = rand.Text(), sources.Of(source), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(n.begun)
	if c.sources[n.source] >= perSource {
		return "", ErrTooMany
	}
	if c.inOrder.Len() >= inAll {
		c.drop(c.inOrder.Front())
	}
	c.byID[n.id] = c.inOrder.PushBack(n)
	c.sources[n.source]++
	return n.id, nil
}

// take returns a ceremony, which then is over; nil: there is none.
func (c *ceremonies) take(id string) *ceremony {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(time.Now())
	e := c.byID[id]
	if e == nil {
		return nil
	}
	return c.drop(e)
}

// expire drops those that have taken too long. The caller holds mu.
func (c *ceremonies) expire(now time.Time) {
	for e := c.inOrder.Front(); e != nil && now.Sub(e.Value.(*ceremony).begun) >= patience; e = c.inOrder.Front() {
		c.drop(e)
	}
}

// drop forgets a ceremony, and returns it. The caller holds mu.
func (c *ceremonies) drop(e *list.Element) *ceremony {
	n := c.inOrder.Remove(e).(*ceremony)
	delete(c.byID, n.id)
	if c.sources[n.source]--; c.sources[n.source] <= 0 {
		delete(c.sources, n.source)
	}
	return n
}
