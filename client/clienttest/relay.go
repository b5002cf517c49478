package clienttest

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// relay carries a connection to a port of the gateway, as far as the rules let it.
func (n *Network) relay(c net.Conn, port uint16) {
	r := n.current()
	if v := r.Ports[port]; v != Pass {
		n.note(Seen{Port: port, Verdict: v})
		n.end(c, v)
		return
	}
	h, early, err := readHello(c)
	if err != nil {
		return
	}
	v := r.judge(h)
	n.note(Seen{Port: port, Hello: *h, Verdict: v})
	if v != Pass {
		n.end(c, v)
		return
	}
	client := net.Conn(&replayed{c, early})
	var d net.Dialer
	gateway, err := d.DialContext(n.ctx, "tcp", n.gateway[port])
	if err != nil || !n.enter(gateway) {
		return
	}
	defer n.leave(gateway)
	if r.Inspect != nil && h.TLS {
		n.inspect(client, gateway, h, r.Inspect)
		return
	}
	n.carry(client, gateway, &r)
}

// page is what BlockPage answers.
const page = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html><h1>Blocked</h1></html>\r\n"

// end does with a connection what a verdict says.
func (n *Network) end(c net.Conn, v Verdict) {
	switch v {
	case Reset, Refuse:
		abort(c)
	case BlackHole:
		_, _ = io.Copy(io.Discard, c) // until the client gives up, or the network ends
	case BlockPage:
		_, _ = io.WriteString(c, page)
		finish(c)
		_, _ = io.Copy(io.Discard, c)
	case Cut:
		finish(c)
		_, _ = io.Copy(io.Discard, c)
	}
}

// abort closes a connection with a reset.
func abort(c net.Conn) {
	if t, ok := underneath(c).(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}

func finish(c net.Conn) {
	if t, ok := underneath(c).(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}

func underneath(c net.Conn) net.Conn {
	if r, ok := c.(*replayed); ok {
		return r.Conn
	}
	return c
}

// carrier is a connection on its way.
type carrier struct {
	n       *Network
	rules   *Rules
	a, b    net.Conn
	carried atomic.Int64
	last    atomic.Int64 // UnixNano of the last octet
	hole    atomic.Bool  // nothing gets through any more
}

// carry copies both ways, until both sides have ended or the rules end it.
func (n *Network) carry(client, gateway net.Conn, r *Rules) {
	x := &carrier{n: n, rules: r, a: client, b: gateway}
	x.last.Store(time.Now().UnixNano())
	done := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		x.watch(done)
	}()
	there := make(chan struct{})
	go func() {
		defer close(there)
		x.copy(gateway, client)
	}()
	x.copy(client, gateway)
	<-there
	close(done)
	<-over
}

// copy copies one way.
func (x *carrier) copy(to, from net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		limit := len(buf)
		if x.rules.Bytes > 0 {
			limit = int(min(int64(limit), max(1, x.rules.Bytes-x.carried.Load())))
		}
		k, err := from.Read(buf[:limit])
		if k > 0 && !x.hole.Load() {
			x.last.Store(time.Now().UnixNano())
			if x.n.pause(x.n.ctx, x.rules.RTT/2) != nil {
				return
			}
			if _, werr := to.Write(buf[:k]); werr != nil {
				from.Close()
				return
			}
			if sum := x.carried.Add(int64(k)); x.rules.Bytes > 0 && sum >= x.rules.Bytes {
				x.strike(x.rules.BytesVerdict)
			}
		}
		if err != nil {
			if !x.hole.Load() {
				finish(to)
			} else if from == x.a {
				to.Close() // the client has given up
			}
			return
		}
	}
}

// watch strikes when nothing has moved for too long.
func (x *carrier) watch(done <-chan struct{}) {
	if x.rules.Idle == 0 {
		return
	}
	for {
		quiet := time.Since(time.Unix(0, x.last.Load()))
		if quiet >= x.rules.Idle {
			x.strike(x.rules.IdleVerdict)
			return
		}
		select {
		case <-time.After(x.rules.Idle - quiet):
		case <-done:
			return
		}
	}
}

// strike does with a running connection what a verdict says.
func (x *carrier) strike(v Verdict) {
	switch v {
	case BlackHole:
		x.hole.Store(true)
	case Cut:
		x.a.Close()
		x.b.Close()
	default:
		abort(x.a)
		abort(x.b)
	}
}
