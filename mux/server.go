package mux

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/park"
)

// Certificates is what the handshake needs of certs.Manager, whose methods
// say what these do.
type Certificates interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Serves(serverName string) bool
	TicketKeys(alpn.Class) [][32]byte
	ECHKeys(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error)
}

// Config is what a Server works with.
type Config struct {
	Handlers map[alpn.Protocol]Handler // HTTP1 serves HTTP2 too when that has none
	Router   *alpn.Router              // nil: the zero Router
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
type Server struct {
	config  Config
	limits  atomic.Pointer[Limits]
	tls     *tlsConfigs
	table   table
	metrics metrics
	epoch   time.Time     // of the server's clock, see now
	crypto  chan struct{} // a slot for each handshake that may compute at a time
	large   atomic.Int32  // live connections whose handshake was large
	lotMu   sync.Mutex
	lot     *park.Lot // guarded by lotMu; see parkingLot

	overdue context.Context // see Conn.Overdue
	giveUp  context.CancelFunc
}

// New returns a Server that is ready to Serve.
func New(c Config) *Server {
	if c.Router == nil {
		c.Router = new(alpn.Router)
	}
	c.Grace = cmp.Or(c.Grace, 500*time.Millisecond)
	s := &Server{
		config: c,
		epoch:  time.Now().Add(-1), // so that now is never zero
		crypto: make(chan struct{}, 2*runtime.GOMAXPROCS(0)),
	}
	s.overdue, s.giveUp = context.WithCancel(context.Background())
	s.limits.Store(c.Limits.withDefaults())
	s.tls = newTLSConfigs(s)
	s.table.init()
	s.metrics.init(s)
	return s
}

// now is the time on the server's own clock, which no step of the wall clock
// moves: nanoseconds since the Server was made, never zero. Deadlines are kept
// in this form as it is a third of a time.Time.
func (s *Server) now() int64 { return int64(time.Since(s.epoch)) }

// clock turns a deadline into the server's form; zero stays zero.
func (s *Server) clock(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return cmp.Or(int64(t.Sub(s.epoch)), 1)
}

// Shutdown stops accepting, ends every connection's context with ErrDraining,
// and waits for the handlers; when ctx ends first it closes what is left, waits
// for that, and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.table.close() {
		c.end(ErrDraining)
	}
	done := make(chan struct{})
	go func() {
		s.table.wg.Wait()
		s.closeLot()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.giveUp()
	for _, c := range s.table.all() {
		c.wire.abort()
	}
	<-done
	return ctx.Err()
}

// SetLimits replaces the limits for connections accepted from now on.
func (s *Server) SetLimits(l Limits) { s.limits.Store(l.withDefaults()) }

// Conns returns a snapshot of the live connections, oldest first.
func (s *Server) Conns() []Info { return s.table.infos() }

// Close ends the context of every connection that match picks, with cause, and
// returns how many there were. match must be quick and not call the Server; nil
// picks all.
func (s *Server) Close(match func(Info) bool, cause error) int {
	return endAll(s.table.match("", match), cause)
}

// CloseAccount does what Close does, for the connections that an account is
// logged in on, without looking at all the others.
func (s *Server) CloseAccount(account string, match func(Info) bool, cause error) int {
	if account == "" {
		return 0
	}
	return endAll(s.table.match(account, match), cause)
}

// SetExpires changes when the connection with an ID ends by itself, provided
// that key still is what proved its identity.
func (s *Server) SetExpires(id uint64, key authkeys.Fingerprint, at time.Time) {
	s.table.setExpires(id, key, at)
}

func endAll(conns []*Conn, cause error) int {
	for _, c := range conns {
		c.end(cause)
	}
	return len(conns)
}

// Collectors returns the server's metrics, for the caller to register.
func (s *Server) Collectors() []prometheus.Collector { return s.metrics.collectors() }

// trusted reports whether connections from addr begin with a PROXY header.
func (s *Server) trusted(addr netip.Addr) bool {
	for _, p := range s.config.ProxyFrom {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// addrPort is the address of a TCP connection's end; the zero AddrPort for
// others.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
