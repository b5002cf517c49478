package mux

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"posthorn/alpn"
)

// Certificates is what the handshake needs of certs.Manager, whose methods
// say what these do.
type Certificates interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Serves(serverName string) bool
	TicketKeys(alpn.Class) [][32]byte
}

// Limits bound what strangers can take. Zero fields take the defaults.
type Limits struct {
	Handshake time.Duration // from accept to the end of the TLS handshake; default 10 s
	PreLogin  time.Duration // from accept to login; default 60 s
	Idle      time.Duration // without a byte from the client after login; default 35 min
	MinRate   int           // bytes a second a client must take or send while data waits; default 100

	Conns           int // in all; default 20000
	ConnsPerSource  int // per IPv4 address or IPv6 /64; default 500
	ConnsPerAccount int // default 200
	// Unauthenticated connections: from Start on they are dropped at random,
	// with a probability that grows to certainty at Full. Defaults 4000, 8000.
	UnauthStart, UnauthFull int
	UnauthPerSource         int // default 100
}

// Config is what a Server works with.
type Config struct {
	Handlers map[alpn.Protocol]Handler // HTTP1 serves HTTP2 too when that has none
	Router   *alpn.Router
	Certs    Certificates
	// MinVersion is tls.VersionTLS12 (also the default) or tls.VersionTLS13.
	MinVersion uint16
	Limits     Limits
	// ProxyFrom are the networks whose connections begin with a PROXY protocol
	// header, version 1 or 2. From others such a header is garbage.
	ProxyFrom []netip.Prefix
	// Grace is how long a handler may take to say goodbye; default 500 ms.
	Grace time.Duration
	Log   zerolog.Logger
	// Privacy leaves addresses and remotes out of the log.
	Privacy bool
}

// Server accepts and owns connections. Its methods may be called concurrently.
type Server struct{}

// New returns a Server that is ready to Serve.
func New(c Config) *Server { panic("unbuilt") }

// Serve accepts connections from ln until ln fails, ctx ends or Shutdown is
// called; then it closes ln and returns nil, or ln's error.
func (s *Server) Serve(ctx context.Context, ln net.Listener, p alpn.Port) error { panic("unbuilt") }

// Shutdown stops accepting, ends every connection's context with ErrDraining,
// and waits for the handlers; when ctx ends first it closes what is left, waits
// for that, and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error { panic("unbuilt") }

// SetLimits replaces the limits for connections accepted from now on.
func (s *Server) SetLimits(l Limits) { panic("unbuilt") }

// Conns returns a snapshot of the live connections, oldest first.
func (s *Server) Conns() []Info { panic("unbuilt") }

// Close ends the context of every connection that match picks, with cause, and
// returns how many there were. match must be quick and not call the Server.
func (s *Server) Close(match func(Info) bool, cause error) int { panic("unbuilt") }

// CloseAccount does what Close does, for the connections of an account (key
// zero) or those that a key has proved, without looking at all the others.
func (s *Server) CloseAccount(account string, match func(Info) bool, cause error) int {
	panic("unbuilt")
}

// Collectors returns the server's metrics, for the caller to register.
func (s *Server) Collectors() []prometheus.Collector { panic("unbuilt") }
