package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// ErrRunning says that a gateway answers on a socket already.
var ErrRunning = errors.New("a gateway is running there already")

// ErrSocketPath says that a path is too long for a unix socket.
var ErrSocketPath = fmt.Errorf("the path is longer than %d bytes", maxSocketPath)

// maxSocketPath is what fits in a unix socket's address (sun_path).
const maxSocketPath = 107

// Listen listens on a unix socket that only its owner can open. What a gateway
// that was killed left at path is replaced; one that is alive is ErrRunning.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("admin socket %s: %w", path, ErrSocketPath)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("admin socket %s: %w", path, ErrRunning)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("admin socket %s: something that is not a socket is there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return ln, nil
}

// Server serves a Service, metrics and health.
type Server struct {
	Service *Service
	Metrics prometheus.Gatherer
	Log     zerolog.Logger
	// Grace is how long running requests may take after ctx has ended;
	// default 5 s.
	Grace time.Duration
}

// Serve serves the operations, /metrics and /healthz on a unix socket, which
// it closes, until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	m := s.open()
	m.Handle(APIPath+"/", s.Service.Handler(peerActor))
	return s.serve(ctx, ln, m)
}

// ServeMetrics serves /metrics and /healthz, and nothing else, on ln, which it
// closes, until ctx ends.
func (s *Server) ServeMetrics(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, s.open())
}

// open is what everybody may see who can connect.
func (s *Server) open() *http.ServeMux {
	m := http.NewServeMux()
	m.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{}))
	m.HandleFunc("GET /healthz", s.Service.healthz)
	return m
}

func (s *Server) serve(ctx context.Context, ln net.Listener, handler http.Handler) error {
	g := &gate{handler: handler}
	h := &http.Server{
		Handler:           g,
		ConnContext:       withPeer,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          log.New(errorLog{s.Log}, "", 0),
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(s.Grace, 5*time.Second))
	defer cancel()
	if err := h.Shutdown(stop); err != nil {
		h.Close()
	}
	<-served
	g.close()
	return nil
}

// gate lets requests through to a handler until it is closed.
type gate struct {
	handler http.Handler
	mu      sync.RWMutex // held by every request; guards closed
	closed  bool
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if !g.closed {
		g.handler.ServeHTTP(w, r)
	}
}

// close waits for the requests that are under way, which http.Server's Close
// does not.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// errorLog takes what net/http complains about.
type errorLog struct{ log zerolog.Logger }

func (l errorLog) Write(line []byte) (int, error) {
	l.log.Warn().Str("note", strings.TrimSpace(string(line))).Msg("net/http")
	return len(line), nil
}

// healthz answers 200 while the gateway serves, and 503 before and after.
func (s *Service) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if s.State() != Serving {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, s.State())
}

// peerKey is where a connection's context holds who is at the other end.
type peerKey struct{}

// withPeer notes the user that the kernel says is at the other end of a unix
// socket, when it may administer: root, or the gateway's own user.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uid, err := peerUID(c)
	if err != nil || !mayAdminister(uid) {
		return ctx
	}
	who := Actor{Name: fmt.Sprintf("uid %d (unix socket)", uid), Operator: true}
	return context.WithValue(ctx, peerKey{}, who)
}

func mayAdminister(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

func peerActor(r *http.Request) (Actor, error) {
	who, ok := r.Context().Value(peerKey{}).(Actor)
	if !ok {
		p := &Problem{Status: http.StatusForbidden, Code: CodeForbidden, Detail: "only root and the gateway's own user may administer",
			Hint: "run the command with sudo, or as the gateway's user"}
		return Actor{Name: "a stranger on the unix socket"}, p.complete()
	}
	return who, nil
}

func peerUID(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("peer of %T is not known", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, cerr); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
