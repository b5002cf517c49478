// Package upstream keeps connections to one server behind the gateway that has
// several addresses: which of them are well, which one is next, TLS to them,
// and the PROXY header that tells them of the client.
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"posthorn/socket"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// ErrUnavailable says that no address of a server can be used now. What wraps
// it says what was wrong with each.
var ErrUnavailable = errors.New("no server available")

// ErrBusy is wrapped by the error of a Config.Open whose server is well, but
// takes no more connections now: another address is tried, and this one stays
// up.
var ErrBusy = errors.New("server is busy")

// Security is how connections to a server are secured.
type Security uint8

const (
	Plain       Security = iota // for loopback and unix sockets
	ImplicitTLS                 // TLS from the first byte
	StartTLS                    // Config.Open asks for it
)

// Config is one server. Zero fields take the defaults.
type Config struct {
	Backend, Service string   // names for logs, metrics and Status
	Addresses        []string // "host:port" or "unix:/path"
	Security         Security
	TLS              *tls.Config // a template, see TrustConfig; its ServerName defaults to the address's host
	ProxyProtocol    bool        // connections begin with a PROXY protocol header, version 2

	// Open brings a new connection to where a login can follow: it reads the
	// greeting and does STARTTLS. It is called for health checks as well. Its
	// error says that the address is not well (but see ErrBusy), and another
	// one is tried. It has until ctx ends, and so have reads and writes of c.
	// Nil: an address that accepts connections is well.
	Open func(ctx context.Context, c *Conn) error
	// Quit says goodbye on the connection of a health check, so that the
	// server's log shows no fault. It need not close it. Nil: nothing is said.
	Quit func(c *Conn)

	Timeout       time.Duration // of connect, TLS and Open, for one address; default 10 s
	CheckInterval time.Duration // between health checks; default 10 s
	SlowStart     time.Duration // in which an address that is back gets its full share; default 30 s
	DeadPeer      time.Duration // after which a peer that vanished is let go; default 3 min

	Log zerolog.Logger
}

// Pool is a server's addresses. Its methods may be called concurrently.
type Pool struct {
	config    Config
	metrics   *metrics
	dialer    socket.Dialer
	local     []byte     // the header of health checks
	addresses []*address // in the order of Config.Addresses

	mu    sync.Mutex    // guards the states of the addresses, and what follows
	turns uint64        // how often an address was chosen
	news  chan struct{} // closed when there is news of an address; nil: nobody waits
}

// New returns the pool for a server. It opens no connection. Every address is
// held to be up until one shows that it is not.
func New(c Config) (*Pool, error) {
	if len(c.Addresses) == 0 {
		return nil, errors.New("upstream: no addresses")
	}
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.CheckInterval = cmp.Or(c.CheckInterval, 10*time.Second)
	c.SlowStart = cmp.Or(c.SlowStart, 30*time.Second)
	c.DeadPeer = cmp.Or(c.DeadPeer, 3*time.Minute)
	c.Log = c.Log.With().Str("backend", c.Backend).Str("service", c.Service).Logger()
	p := &Pool{config: c, dialer: socket.Dialer{Patience: patience(c.DeadPeer)}}
	var err error
	if p.local, err = p.header(Header{}); err != nil {
		return nil, fmt.Errorf("upstream: PROXY header: %w", err)
	}
	seen := make(map[string]bool)
	for _, name := range c.Addresses {
		if seen[name] {
			return nil, fmt.Errorf("upstream: address %q is listed twice", name)
		}
		seen[name] = true
		a, err := p.newAddress(name)
		if err != nil {
			return nil, fmt.Errorf("upstream: address %q: %w", name, err)
		}
		p.addresses = append(p.addresses, a)
	}
	p.metrics = newMetrics(p)
	return p, nil
}

// Status is the state of one address.
type Status struct {
	Backend string    `json:"backend"`
	Service string    `json:"service"` // "imap" or "submission"
	Address string    `json:"address"`
	Up      bool      `json:"up"`
	Since   time.Time `json:"since"`           // when Up became what it is
	Error   string    `json:"error,omitempty"` // the last one, while not up
	Conns   int       `json:"connections"`     // of clients, those being opened too
}

// Status returns the state of each address, in the order of Config.Addresses.
func (p *Pool) Status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Status, len(p.addresses))
	for i, a := range p.addresses {
		all[i] = Status{
			Backend: p.config.Backend, Service: p.config.Service, Address: a.name,
			Up: a.failure == nil, Since: a.since, Conns: a.conns,
		}
		if a.failure != nil {
			all[i].Error = legible(a.failure)
		}
	}
	return all
}

// legible is an error's text for logs and Status: servers have their say in it.
func legible(err error) string {
	const most = 300
	text := []rune(strings.ToValidUTF8(err.Error(), "?"))
	if len(text) > most {
		text = append(text[:most], '…')
	}
	for i, r := range text {
		if !unicode.IsPrint(r) {
			text[i] = '?'
		}
	}
	return string(text)
}

// Collectors returns the pool's metrics.
func (p *Pool) Collectors() []prometheus.Collector { return p.metrics.collectors() }

// header is what a connection begins with: nothing without ProxyProtocol.
func (p *Pool) header(h Header) ([]byte, error) {
	if !p.config.ProxyProtocol {
		return nil, nil
	}
	return h.marshal()
}
