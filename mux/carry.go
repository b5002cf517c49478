package mux

import (
	"context"
	"net"
	"slices"

	"posthorn/alpn"
	"posthorn/park"
)

// Carrier is what a connection inside another one comes in: a stream that a web
// request has opened. Its deadlines are as sockets' are: an operation beyond
// one fails with os.ErrDeadlineExceeded, and reads can go on later.
type Carrier interface {
	net.Conn
	// Abort closes at once what Close closes in good order.
	Abort()
}

// Quiet is a Carrier that can be parked: its methods mean what those of Conn do.
type Quiet interface {
	Parking(closed func()) (*park.Lot, *park.Socket)
	TryRead([]byte) (int, error)
	Park(park.Waker) (park.Ticket, error)
}

// Carry takes in a connection that came inside this one, as if it had been
// accepted on a port of its own: a TLS handshake under the port's rules, limits,
// a place in the table, a handler, a line in the log, which names c as via. It
// comes from where c does. nc is closed at its end, and also when there is no
// room for it; until then c's handler keeps c open. What ends c ends it, after
// its goodbye.
//
// In the counts of connections the first one inside stands for c, so that a
// client which has to come this way counts once, and one that opens many inside
// counts for each. The handler calls Carry again for each of them. A connection
// with others inside is never closed to make room; they are.
func (c *Conn) Carry(nc Carrier, p alpn.Port) {
	inner := newConn(c.srv, nc, p)
	inner.via, inner.Remote, inner.Local = c, c.Remote, c.Local
	t := &c.srv.table
	t.load(inner)
	victim, drop := t.enter(inner)
	c.srv.crowdOut(victim)
	if drop != nil {
		t.mu.Lock()
		t.unload(inner)
		t.mu.Unlock()
	} else if victim, drop = t.locate(inner); drop != nil {
		t.leave(inner)
	} else {
		c.srv.crowdOut(victim)
	}
	if drop != nil {
		c.srv.metrics.dropped(drop)
		nc.Close()
		return
	}
	if c.ctx.Err() != nil { // perhaps before it could tell inner
		inner.end(context.Cause(c.ctx))
	}
	go inner.open()
}

// Abort closes the connection at once. Whoever serves it finds out.
func (c *Conn) Abort() { c.wire.abort() }

// load notes that c came in another connection, whose place in the counts it
// takes if it is the first.
func (t *table) load(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	outer := c.via
	if outer.carries = append(outer.carries, c); len(outer.carries) > 1 {
		return
	}
	t.uncount(outer)
	t.carriers++
	if outer.source != nil {
		outer.source.carriers++
	}
}

// unload forgets that c came in another connection, which gets its place in the
// counts back when c was the last. The caller holds mu.
func (t *table) unload(c *Conn) {
	outer := c.via
	if outer == nil {
		return
	}
	outer.carries = slices.DeleteFunc(outer.carries, func(d *Conn) bool { return d == c })
	if len(outer.carries) > 0 || t.conns[outer.ID] != outer {
		return
	}
	t.uncarry(outer)
	if outer.identity.Account == "" && outer.ctx.Err() == nil {
		t.pooling(outer)
	}
}

// uncarry ends that others stand for c. The caller holds mu.
func (t *table) uncarry(c *Conn) {
	t.carriers--
	if c.source != nil {
		c.source.carriers--
	}
}
