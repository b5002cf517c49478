package tunnel

import (
	"context"
	"net"
	"sync"
	"time"

	"posthorn/socket"
)

// How dead peers are found out. A quiet connection is asked after a minute, and
// lost half a minute after that; TCP_USER_TIMEOUT, which Linux lets decide about
// keepalives too, must not be shorter than the quiet before them. When there is
// doubt, ten seconds have to do for both.
var (
	calmly  = socket.Patience{Idle: time.Minute, Interval: 30 * time.Second, Unanswered: 90 * time.Second}
	hastily = socket.Patience{Idle: 3 * time.Second, Interval: 3 * time.Second, Unanswered: 10 * time.Second}
)

// haste is how long doubt lasts.
const haste = 30 * time.Second

// sockets are the TCP connections that lead to the gateway.
type sockets struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	open  map[*tracked]struct{} // guarded by mu, as the rest
	until time.Time             // the end of the present doubt; zero: there is none
}

// tracked is one of them.
type tracked struct {
	net.Conn
	all *sockets
}

func newSockets(dial func(ctx context.Context, network, address string) (net.Conn, error)) *sockets {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &sockets{dial: dial, open: make(map[*tracked]struct{})}
}

// dialContext is a client.Config's DialContext.
func (s *sockets) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &tracked{nc, s}
	_ = socket.SetPatience(c.Conn, calmly)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
	return c, nil
}

func (c *tracked) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// doubt finds out soon which connections are dead: at once, if their address is
// not this machine's any more.
func (s *sockets) doubt() {
	ours := addresses()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if ip := hostOf(c.LocalAddr()); ours != nil && ip != "" && !ours[ip] {
			c.Conn.Close()
			continue
		}
		_ = socket.SetPatience(c.Conn, hastily)
	}
	s.until = time.Now().Add(haste)
}

// calm ends a doubt that has lasted long enough.
func (s *sockets) calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until.IsZero() || time.Now().Before(s.until) {
		return
	}
	s.until = time.Time{}
	for c := range s.open {
		_ = socket.SetPatience(c.Conn, calmly)
	}
}

// hostOf is the IP address in a, unless it is a loopback one.
func hostOf(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		return tcp.IP.String()
	}
	return ""
}

// addresses are this machine's; nil: they cannot be told.
func addresses() map[string]bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	ours := make(map[string]bool)
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			ours[n.IP.String()] = true
		}
	}
	return ours
}
