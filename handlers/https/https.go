// Package https serves HTTP/1.1 and HTTP/2: whether the gateway is up, a page
// that says how to connect, and what others mount.
package https

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/handlers/https/sites"
	"posthorn/handlers/https/transport"
	"posthorn/mux"
)

// Server serves web connections; it is a mux.Handler. Its fields are set, and
// handlers mounted, before use.
type Server struct {
	// Serves reports whether a host name (lower case, no port) is served.
	// Requests for others are misdirected.
	Serves func(host string) bool
	// Named reports whether a host name that is served is one of the gateway's,
	// which alone have what is mounted; nil: all of them. Requests for the others
	// are the site's.
	Named func(host string) bool
	// Ready is what /healthz says; nil: always.
	Ready func() bool
	// Endpoints are the ways in that the page at / shows.
	Endpoints []Endpoint
	// Sites get the requests for paths that nobody has mounted, and the
	// connections of host names that are handed over; nil: there are none.
	Sites *sites.Set
	// HSTS is for how long browsers are told to use nothing but HTTPS (RFC 6797),
	// in what the gateway itself answers; zero: they are not.
	HSTS time.Duration
	// Transport takes connections out of requests; nil: no requests.
	Transport *transport.Handler
	Log       zerolog.Logger

	once   sync.Once
	routes *http.ServeMux  // made by once
	own    *http.ServeMux  // the paths of what is mounted, for every method; made by once
	owned  map[string]bool // the patterns in own, without the names in them
	folded map[string]bool // the paths of MountAnyCase
}

// Limits of a connection. mux bounds how slow the transport may be, and requests
// for the site have a pace in place of requestTimeout.
const (
	headerTimeout  = 10 * time.Second
	requestTimeout = 60 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
	// maxBody is for what is mounted, where that sets no smaller bound of its own.
	// Neither sites nor the transport have one.
	maxBody = 4 << 20
)

// Mount has h serve a pattern of http.ServeMux. It panics when the pattern is
// taken, as ServeMux does. Requests for its path with other methods do not go
// to the site, those for its path on other hosts do, when it names one. A host
// is in lower case, and handlers see it so.
func (s *Server) Mount(pattern string, h http.Handler) {
	s.router().Handle(pattern, h)
	path := pattern[strings.LastIndexAny(pattern[:strings.IndexByte(pattern, '/')], " \t")+1:]
	if bare := wildcard.ReplaceAllString(path, "{$1}"); !s.owned[bare] {
		s.owned[bare] = true
		s.own.Handle(path, http.NotFoundHandler())
	}
}

// MountAnyCase is Mount for a path without wildcards, in lower case, that clients
// write in any case. The handler sees it in lower case.
func (s *Server) MountAnyCase(pattern string, h http.Handler) {
	s.Mount(pattern, h)
	s.folded[pattern[strings.IndexByte(pattern, '/'):]] = true
}

// wildcard is a part of a pattern whose name does not matter.
var wildcard = regexp.MustCompile(`\{[\pL_][\pL\pN_]*(\.\.\.)?\}`)

// named reports whether a host (in the form of hostname) has what is mounted. So
// do all addresses.
func (s *Server) named(host string) bool {
	if s.Sites != nil && s.Sites.HandsOver(host) {
		return false
	}
	return s.Named == nil || host == "" || isAddress(host) || s.Named(host)
}

// owns reports whether a request, in the form of routable, is for a path that
// somebody has mounted.
func (s *Server) owns(r *http.Request) bool {
	_, pattern := s.own.Handler(r)
	return pattern != ""
}

// routable returns a request in the form in which patterns are written.
func (s *Server) routable(r *http.Request) *http.Request {
	host, path := r.Host, r.URL.Path
	if name, port := splitHost(host); name != "" && !isAddress(name) {
		host = name + port
	}
	if lower := strings.ToLower(path); s.folded[lower] && r.URL.RawPath == "" {
		path = lower
	}
	if host == r.Host && path == r.URL.Path {
		return r
	}
	own, target := *r, *r.URL // net/http looks at its own
	target.Path, own.Host, own.URL = path, host, &target
	return &own
}

func (s *Server) router() *http.ServeMux {
	s.once.Do(func() {
		s.routes, s.own, s.owned = http.NewServeMux(), http.NewServeMux(), make(map[string]bool)
		s.folded = make(map[string]bool)
		s.routes.HandleFunc("GET /healthz", s.serveHealth)
		s.own.Handle("/healthz", http.NotFoundHandler())
		s.routes.Handle("GET /{$}", page(s.Endpoints))
	})
	return s.routes
}

// Busy implements mux.Handler.
func (s *Server) Busy() []byte {
	return []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Length: 9\r\nRetry-After: 10\r\nConnection: close\r\n\r\nToo busy\n")
}

// ServeConn implements mux.Handler. Each connection has an http.Server of its
// own, as its Shutdown is the way to let the requests of one connection finish
// and to send GOAWAY on it. A handler that hijacks its connection is done with
// it when it returns, or has left a lifetime.next.
func (s *Server) ServeConn(ctx context.Context, c *mux.Conn) {
	c.Go(func() {
		switch {
		case s.Sites != nil && s.Sites.HandOver(ctx, c):
		case c.Protocol == alpn.HTTP2 && s.Transport != nil && s.carry(ctx, c):
		case c.Protocol != alpn.HTTP2 && s.serveQuickly(ctx, c):
		default:
			s.serve(ctx, c)
		}
	})
}

func (s *Server) serve(ctx context.Context, c *mux.Conn) {
	life := &lifetime{done: make(chan struct{})}
	server := s.newServer(c, life)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		c.SetReason(context.Cause(ctx).Error())
		if !errors.Is(context.Cause(ctx), mux.ErrDraining) || life.unused() {
			server.Close()
			return
		}
		server.Shutdown(context.Background())
	})
	l := newSingle(c, life.done)
	server.Serve(l)
	if l.taken {
		<-life.done
	}
	if !stop() {
		<-ended
	}
	if life.next != nil {
		life.next(ctx, c.Detach())
	}
}

func (s *Server) newServer(c *mux.Conn, life *lifetime) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:                      newFront(s, c, life),
		BaseContext:                  func(net.Listener) context.Context { return context.WithValue(context.Background(), connKey{}, c) },
		ConnState:                    life.changed,
		Protocols:                    protocols,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  requestTimeout,
		WriteTimeout:                 requestTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true, // it would answer OPTIONS * past front
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     256 << 10,
			SendPingTimeout:               time.Minute,
			WriteByteTimeout:              30 * time.Second,
		},
		// net/http's notes on what peers do; panics are front's.
		ErrorLog: log.New(noise{s.Log, c}, "", 0),
	}
}

// noise logs what net/http notes about peers, where it rarely is of interest:
// without their addresses, which may be private, and up to what it quotes of
// theirs, which may be a password that was meant for another protocol.
type noise struct {
	log  zerolog.Logger
	conn *mux.Conn
}

func (n noise) Write(p []byte) (int, error) {
	text, _, _ := strings.Cut(string(p), `"`)
	text = strings.ReplaceAll(strings.TrimSpace(text), n.conn.Remote.String(), "client")
	n.log.Debug().Uint64("id", n.conn.ID).Str("note", text).Msg("net/http")
	return len(p), nil
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if s.Ready != nil && !s.Ready() {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte("not ready\n"))
		return
	}
	w.Write([]byte("ok\n"))
}
