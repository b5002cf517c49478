// Package clienttest is a small network for tests that does not want its users to
// reach a gateway: it looks at the beginnings of connections and resets, swallows,
// answers or inspects them, and has proxies of its own.
package clienttest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Gateway is where each port of a gateway is served in truth, such as 443:
// "127.0.0.1:40123".
type Gateway map[uint16]string

// Network stands between clients and a gateway. Its methods may be called
// concurrently.
type Network struct {
	t       testing.TB
	gateway Gateway
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu      sync.Mutex
	rules   Rules // guarded by mu, as the rest
	outside map[uint16]net.Listener
	inside  map[uint16]net.Listener // for those whom OnlyProxies does not stop
	proxies map[string]bool
	open    map[net.Conn]bool
	seen    []Seen
}

// Seen is a connection that came to the network.
type Seen struct {
	Port uint16
	Hello
	Verdict Verdict
}

// New makes a network before a gateway, which ends with the test.
func New(t testing.TB, g Gateway, r Rules) *Network {
	t.Helper()
	n := &Network{
		t: t, gateway: g, rules: r, proxies: map[string]bool{}, open: map[net.Conn]bool{},
		outside: map[uint16]net.Listener{}, inside: map[uint16]net.Listener{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	t.Cleanup(n.close)
	return n
}

func (n *Network) close() {
	n.cancel()
	n.mu.Lock()
	for c := range n.open {
		c.Close()
	}
	n.mu.Unlock()
	n.work.Wait()
}

// SetRules changes the rules for connections to come.
func (n *Network) SetRules(r Rules) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = r
}

func (n *Network) current() Rules {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rules
}

// Seen returns the connections that came to the gateway's ports so far, whatever
// became of them.
func (n *Network) Seen() []Seen {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen)
}

// Open returns how many connections are there, of both sides.
func (n *Network) Open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.open)
}

func (n *Network) note(s Seen) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, s)
}

// Listen returns the loopback address at which a port of the gateway is reached
// through the network, for programs that are told an address.
func (n *Network) Listen(port uint16) string {
	n.t.Helper()
	return n.port(n.outside, port, func(c net.Conn) {
		if v := n.current().OnlyProxies; v != Pass {
			n.note(Seen{Port: port, Verdict: v})
			n.end(c, v)
			return
		}
		n.relay(c, port)
	})
}

// port returns the address of a port's listener, which it makes when there is none.
func (n *Network) port(listeners map[uint16]net.Listener, port uint16, serve func(net.Conn)) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	ln := listeners[port]
	if ln == nil {
		ln = n.listen(serve)
		listeners[port] = ln
	}
	return ln.Addr().String()
}

// listen serves a new loopback socket. The caller holds mu.
func (n *Network) listen(serve func(net.Conn)) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n.work.Go(func() {
				defer c.Close()
				if n.enter(c) {
					defer n.leave(c)
					serve(c)
				}
			})
		}
	})
	context.AfterFunc(n.ctx, func() { ln.Close() })
	return ln
}

// enter counts a connection among those that close ends.
func (n *Network) enter(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return false
	}
	n.open[c] = true
	return true
}

func (n *Network) leave(c net.Conn) {
	c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
}

// DialContext connects as a machine in the network would: whatever the host, the
// port leads to the gateway's. Only here are ports refused and swallowed as a
// firewall does. It is a client.Config's DialContext.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	n.mu.Lock()
	proxy, rules := n.proxies[address], n.rules
	n.mu.Unlock()
	if proxy {
		return d.DialContext(ctx, network, address)
	}
	if rules.OnlyProxies != Pass {
		return n.refuse(ctx, rules.OnlyProxies)
	}
	return n.dial(ctx, address, rules.Ports)
}

// dial connects to a port of the gateway, by way of the network.
func (n *Network) dial(ctx context.Context, address string, ports map[uint16]Verdict) (net.Conn, error) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	if n.gateway[uint16(port)] == "" {
		return nil, refused()
	}
	switch v := ports[uint16(port)]; v {
	case Refuse, BlackHole:
		return n.refuse(ctx, v)
	}
	if err := n.pause(ctx, n.current().RTT); err != nil {
		return nil, err
	}
	var d net.Dialer
	inside := n.port(n.inside, uint16(port), func(c net.Conn) { n.relay(c, uint16(port)) })
	return d.DialContext(ctx, "tcp", inside)
}

func (n *Network) refuse(ctx context.Context, v Verdict) (net.Conn, error) {
	if v != BlackHole {
		return nil, refused()
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.ctx.Done():
		return nil, net.ErrClosed
	}
}

func refused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("in the test's network: %w", syscall.ECONNREFUSED)}
}

func (n *Network) pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.ctx.Done():
		return net.ErrClosed
	}
}
