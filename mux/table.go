package mux

import (
	"cmp"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"posthorn/authkeys"
	"posthorn/sources"
)

// Why a connection is dropped at once. These are also the labels of the
// metric.
var (
	errClosed   = errors.New("shutting down")
	errFull     = errors.New("connections")
	errSource   = errors.New("connections of the source")
	errProtocol = errors.New("protocol not served")
)

// table knows the live connections, and counts them for the limits. Whatever
// it picks to be ended is ended by its callers, after they have let go of mu.
type table struct {
	wg sync.WaitGroup // of the connections' goroutines; Add under mu, while not closing

	mu        sync.Mutex // guards all below, and the fields of Conn that say so
	closing   bool
	lastID    uint64
	listeners map[net.Listener]struct{}
	conns     map[uint64]*Conn
	accounts  map[string][]*Conn // by Identity.Account
	sources   map[netip.Prefix]*source
	pool      []*Conn     // those without a login, in no order; see Conn.pooled
	carriers  int         // of conns: those that others stand for, see Carry
	sweeper   *time.Timer // of the parked ones; nil: there are none
}

// source is where connections come from: an IPv4 address or an IPv6 /64.
type source struct {
	of       netip.Prefix
	conns    int
	carriers int     // of conns: those that others stand for
	pooled   int     // of the table's pool
	waiting  []*Conn // before login or handler, oldest first
}

func (t *table) init() {
	t.listeners = map[net.Listener]struct{}{}
	t.conns = map[uint64]*Conn{}
	t.accounts = map[string][]*Conn{}
	t.sources = map[netip.Prefix]*source{}
}

// listen notes a listener to be closed by close; false when it is too late.
func (t *table) listen(ln net.Listener) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return false
	}
	t.listeners[ln] = struct{}{}
	return true
}

func (t *table) unlisten(ln net.Listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.listeners, ln)
}

func (t *table) closed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closing
}

// close closes the listeners and lets no connection in any more. It returns
// those that there are.
func (t *table) close() []*Conn {
	t.mu.Lock()
	t.closing = true
	if t.sweeper != nil {
		t.sweeper.Stop()
	}
	lns := t.listeners
	t.listeners = map[net.Listener]struct{}{}
	t.mu.Unlock()
	for ln := range lns {
		ln.Close()
	}
	return t.all()
}

// enter takes a new connection in, or says why it is dropped. victim is to be
// ended to make room.
func (t *table) enter(c *Conn) (victim *Conn, drop error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := c.limits
	switch {
	case t.closing:
		return nil, errClosed
	case t.counted() >= 2*l.Conns:
		return nil, errFull
	}
	if n := len(t.pool); n >= l.UnauthFull ||
		n > l.UnauthStart && rand.IntN(l.UnauthFull-l.UnauthStart) < n-l.UnauthStart {
		victim = t.pick()
		t.uncount(victim)
	}
	t.lastID++
	c.ID = t.lastID
	c.busy = t.counted() >= l.Conns
	t.conns[c.ID] = c
	t.pooling(c)
	t.wg.Add(1)
	return victim, nil
}

// pooling counts c among the connections without a login. The caller holds mu.
func (t *table) pooling(c *Conn) {
	c.pooled = len(t.pool)
	t.pool = append(t.pool, c)
	if c.source != nil {
		c.source.pooled++
	}
}

// locate counts a connection under its source, once Remote is known, or says
// why it is dropped: then it still has to leave. victim is as with enter.
func (t *table) locate(c *Conn) (victim *Conn, drop error) {
	of := sources.Of(c.Remote.Addr())
	if !of.IsValid() {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[of]
	if s == nil {
		s = &source{of: of}
		t.sources[of] = s
	}
	l := c.limits
	if s.counted() >= 2*l.ConnsPerSource {
		return nil, errSource
	}
	if len(s.waiting) >= l.UnauthPerSource {
		victim = s.waiting[0]
		t.uncount(victim)
	}
	c.busy = c.busy || s.counted() >= l.ConnsPerSource
	s.conns++
	c.source = s
	if c.pooled >= 0 { // it may have been crowded out meanwhile
		s.pooled++
		s.waiting = append(s.waiting, c)
	}
	return victim, nil
}

// counted is how many connections count for the limits. The caller holds mu.
func (t *table) counted() int { return len(t.conns) - t.carriers }

func (s *source) counted() int { return s.conns - s.carriers }

// victim picks a connection without a login to be ended; nil when there is
// none.
func (t *table) victim() *Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pool) == 0 {
		return nil
	}
	c := t.pick()
	t.uncount(c)
	return c
}

// pick samples the pool: of those found, one of the source that has most, and
// of equals the oldest. So who opens many connections loses them to those who
// open one. The caller holds mu, and the pool is not empty.
func (t *table) pick() *Conn {
	const samples = 8
	var worst *Conn
	for range samples {
		if c := t.pool[rand.IntN(len(t.pool))]; worst == nil || c.yieldsBefore(worst) {
			worst = c
		}
	}
	return worst
}

// yieldsBefore reports whether c should be closed rather than d.
func (c *Conn) yieldsBefore(d *Conn) bool {
	n, m := 1, 1
	if c.source != nil {
		n = c.source.pooled
	}
	if d.source != nil {
		m = d.source.pooled
	}
	return cmp.Or(cmp.Compare(m, n), cmp.Compare(c.ID, d.ID)) < 0
}

// uncount takes c out of the counts of connections without a login. The caller
// holds mu.
func (t *table) uncount(c *Conn) {
	if c.pooled < 0 {
		return
	}
	last := t.pool[len(t.pool)-1]
	t.pool[c.pooled] = last
	last.pooled = c.pooled
	t.pool[len(t.pool)-1] = nil
	t.pool = t.pool[:len(t.pool)-1]
	c.pooled = -1
	if c.source != nil {
		c.source.pooled--
		c.source.unwait(c)
	}
}

func (s *source) unwait(c *Conn) {
	if i := slices.Index(s.waiting, c); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	if len(s.waiting) == 0 {
		s.waiting = nil
	}
}

// settle ends the wait of a connection that goes to a handler without a login:
// from now on only the limits for all count it.
func (t *table) settle(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.source != nil {
		c.source.unwait(c)
	}
}

// identify files c under an account. victim, the longest silent session of the
// account, is to be ended to make room; or the error is ErrTooMany.
func (t *table) identify(c *Conn, id Identity) (victim *Conn, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	conns := t.accounts[id.Account]
	if c.identity.Account != id.Account && len(conns) >= c.limits.ConnsPerAccount {
		if victim = longestSilent(conns, c.srv.now()); victim == nil {
			return nil, ErrTooMany
		}
		t.unfile(victim)
	}
	t.unfile(c)
	t.uncount(c)
	c.identity = id
	c.awaitExpiry()
	t.accounts[id.Account] = append(t.accounts[id.Account], c)
	return victim, nil
}

// silence is how long a session must have been silent before another may take
// its place: clients that are alive renew IDLE now and then, but not so often.
const silence = time.Minute

func longestSilent(conns []*Conn, now int64) *Conn {
	c := slices.MinFunc(conns, func(a, b *Conn) int {
		return cmp.Compare(a.wire.heard.Load(), b.wire.heard.Load())
	})
	if now-c.wire.heard.Load() < int64(silence) {
		return nil
	}
	return c
}

// setExpires changes when a connection's right ends, if it is key's.
func (t *table) setExpires(id uint64, key authkeys.Fingerprint, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.conns[id]; c != nil && c.identity.Key == key {
		c.identity.Expires = at
		c.awaitExpiry()
	}
}

// unfile takes c off its account. The caller holds mu.
func (t *table) unfile(c *Conn) {
	id := c.identity.Account
	conns := t.accounts[id]
	i := slices.Index(conns, c)
	switch {
	case i < 0:
	case len(conns) == 1:
		delete(t.accounts, id)
	default:
		t.accounts[id] = slices.Delete(conns, i, i+1)
	}
}

// leave forgets c and lets Shutdown go on.
func (t *table) leave(c *Conn) {
	t.mu.Lock()
	c.srv.metrics.gone(c)
	delete(t.conns, c.ID)
	t.unfile(c)
	t.uncount(c)
	t.unload(c)
	if len(c.carries) > 0 {
		t.uncarry(c)
	}
	if s := c.source; s != nil {
		if s.conns--; s.conns == 0 {
			delete(t.sources, s.of)
		}
	}
	t.mu.Unlock()
	t.wg.Done()
}

// all returns the live connections, in no order.
func (t *table) all() []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.conns))
}

func (t *table) infos() []Info {
	t.mu.Lock()
	infos := make([]Info, 0, len(t.conns))
	for _, c := range t.conns {
		infos = append(infos, c.info())
	}
	t.mu.Unlock() // nobody need wait for the sort
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.ID, b.ID) })
	return infos
}

// match returns the connections that match picks; account "" means of all.
func (t *table) match(account string, match func(Info) bool) []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	conns := slices.Values(t.accounts[account])
	if account == "" {
		conns = maps.Values(t.conns)
	}
	var picked []*Conn
	for c := range conns {
		if match == nil || match(c.info()) {
			picked = append(picked, c)
		}
	}
	return picked
}

// info is a snapshot of c. The caller holds mu.
func (c *Conn) info() Info {
	via := uint64(0)
	if c.via != nil {
		via = c.via.ID
	}
	return Info{
		ID: c.ID, Via: via, Protocol: c.Protocol, ServerName: c.ServerName, Remote: c.Remote,
		Since: c.since, Identity: c.identity,
		In: c.wire.in.Load(), Out: c.wire.out.Load(),
	}
}
