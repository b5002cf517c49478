package sites

import (
	"net/netip"
	"sync"

	"posthorn/sources"
)

// crowd bounds how many requests are at the site at a time: in all, so that the
// gateway keeps descriptors for mail, and of one source, so that it does not
// take them all. Its zero value is ready.
type crowd struct {
	mu      sync.Mutex // guards what follows
	all     int
	sources map[netip.Prefix]int
}

const (
	maxCrowd     = 4096
	maxOfASource = 512
)

// enter reports whether a client's request may go on; leave is called at its
// end.
func (c *crowd) enter(client netip.Addr) (leave func(), ok bool) {
	source := sources.Of(client)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= maxCrowd || c.sources[source] >= maxOfASource {
		return nil, false
	}
	if c.sources == nil {
		c.sources = make(map[netip.Prefix]int)
	}
	c.all++
	c.sources[source]++
	return func() { c.leave(source) }, true
}

func (c *crowd) leave(source netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.sources[source]--; c.sources[source] == 0 {
		delete(c.sources, source)
	}
}
