// Package upstream keeps connections to one server behind the gateway that has
// several addresses: which of them are well, which one is next, TLS to them,
// and the PROXY header that tells them of the client.
package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// ErrUnavailable says that no address of a server can be used now. What wraps
// it says what was wrong with each.
var ErrUnavailable = errors.New("no server available")

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
	// error says that the address is not well, and another one is tried.
	Open func(ctx context.Context, c *Conn) error

	Timeout       time.Duration // of connect, TLS and Open, for one address; default 10 s
	CheckInterval time.Duration // between health checks; default 10 s
	SlowStart     time.Duration // in which an address that is back gets its full share; default 30 s
	DeadPeer      time.Duration // after which a peer that vanished is let go; default 3 min

	Log zerolog.Logger
}

// Pool is a server's addresses. Its methods may be called concurrently.
type Pool struct{ config Config }

// New returns the pool for a server. It opens no connection.
func New(c Config) (*Pool, error) { panic("unbuilt") }

// Run checks the addresses' health until ctx ends.
func (p *Pool) Run(ctx context.Context) error { panic("unbuilt") }

// Header is what a PROXY protocol header tells of a client. The zero value is
// the header of the gateway's own connections (LOCAL).
type Header struct {
	Remote, Local netip.AddrPort
	ServerName    string
	TLS           *tls.ConnectionState
	// CommonName is the subject CN of a verified client certificate: for
	// servers that take the user name from there.
	CommonName string
}

// Dial opens a connection to the address that has the fewest, of those that are
// well, and to the next one when that fails: nothing has been said on it yet
// that may not be said twice. Its error wraps ErrUnavailable, or is ctx's.
func (p *Pool) Dial(ctx context.Context, h Header) (*Conn, error) { panic("unbuilt") }

// Conn is an open connection. Its Close gives its place back.
type Conn struct {
	net.Conn               // *net.TCPConn, *net.UnixConn or *tls.Conn
	R        *bufio.Reader // reads Conn; what it holds comes before what Conn yields
}

// StartTLS makes the TLS handshake. What R holds was sent in cleartext: that is
// an error.
func (c *Conn) StartTLS(ctx context.Context) error { panic("unbuilt") }

// Address is the one of Config.Addresses that c is to.
func (c *Conn) Address() string { panic("unbuilt") }

// Status is the state of one address.
type Status struct {
	Backend string    `json:"backend"`
	Service string    `json:"service"` // "imap" or "submission"
	Address string    `json:"address"`
	Up      bool      `json:"up"`
	Since   time.Time `json:"since"`           // when Up became what it is
	Error   string    `json:"error,omitempty"` // the last one, while not up
	Conns   int       `json:"connections"`
}

// Status returns the state of each address, in the order of Config.Addresses.
func (p *Pool) Status() []Status { panic("unbuilt") }

// Collectors returns the pool's metrics.
func (p *Pool) Collectors() []prometheus.Collector { panic("unbuilt") }

// TrustConfig returns a TLS template that believes the CAs in a PEM file, or a
// certificate with one of the pinned public keys ("SHA256:…") whatever else
// is in it; with neither, the system's CAs.
func TrustConfig(caFile string, pins []string, serverName string) (*tls.Config, error) {
	panic("unbuilt")
}
