package https

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Site is the web site behind the gateway: an HTTP server that gets the
// requests that are not for the gateway itself. It hears who asks in
// X-Forwarded-For, -Host and -Proto; what a client says in such fields is
// dropped. The Host and the target stay as the client sent them.
type Site struct {
	// AnswerTimeout is how long the site may take from the end of a request to
	// the head of its response; default 2 min. It is set before use.
	AnswerTimeout time.Duration

	upstream  upstream
	proxy     httputil.ReverseProxy
	transport *http.Transport // of requests with a body
	lines     lines           // of the others
	buffers   buffers
	crowd     crowd
	outage    outage
	once      sync.Once
}

// ErrUpstream says that an upstream is none.
var ErrUpstream = errors.New("must be http://HOST:PORT, https://HOST:PORT or unix:/PATH")

// upstream is where the site is.
type upstream struct {
	url              url.URL // scheme and host
	network, address string  // to dial
}

// NewSite returns the site at upstream, which is http://HOST[:PORT],
// https://HOST[:PORT] (its certificate is checked against the system's roots)
// or unix:/PATH. It does not connect yet. The error is ErrUpstream.
func NewSite(upstream string, log zerolog.Logger) (*Site, error) {
	at, err := parseUpstream(upstream)
	if err != nil {
		return nil, err
	}
	return &Site{upstream: at, outage: outage{log: log, upstream: upstream}}, nil
}

func parseUpstream(s string) (upstream, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return upstream{}, fmt.Errorf("%q: %w", s, ErrUpstream)
		}
		return upstream{url.URL{Scheme: "http", Host: "localhost"}, "unix", path}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}) || u.Path != "" && u.Path != "/" {
		return upstream{}, fmt.Errorf("%q: %w", s, ErrUpstream)
	}
	port, ok := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if !ok {
		return upstream{}, fmt.Errorf("%q: %w", s, ErrUpstream)
	}
	address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	return upstream{url.URL{Scheme: u.Scheme, Host: u.Host}, "tcp", address}, nil
}

// Bounds of what goes on between gateway and site.
const (
	connectTimeout  = 10 * time.Second
	continueTimeout = time.Second // for the site to say 100 Continue
	idleConns       = 64
	idleConnTimeout = 55 * time.Second // servers mostly give 60 s or more
	maxAnswerHeader = 256 << 10
)

// open makes ready what the fields decide.
func (s *Site) open() {
	s.transport = &http.Transport{
		DialContext:            s.dial,
		DialTLSContext:         s.dial,
		DisableCompression:     true, // what the client wants is passed on
		MaxIdleConns:           idleConns,
		MaxIdleConnsPerHost:    idleConns,
		IdleConnTimeout:        idleConnTimeout,
		ExpectContinueTimeout:  continueTimeout,
		ResponseHeaderTimeout:  s.answerTimeout(),
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	s.proxy = httputil.ReverseProxy{
		Transport:    s.transport,
		Rewrite:      s.rewrite,
		BufferPool:   &s.buffers,
		ErrorHandler: s.fail,
		ErrorLog:     s.outage.silent(),
	}
}

// serve passes a request on, and the answer back.
func (s *Site) serve(w http.ResponseWriter, r *http.Request, f *front) {
	s.once.Do(s.open)
	leave, ok := s.crowd.enter(f.conn.Remote.Addr())
	if !ok {
		w.Header().Set("Retry-After", "10")
		f.refuse(w, r, http.StatusServiceUnavailable)
		return
	}
	a := newAnswer(w, r, f, leave)
	defer a.done()
	if a.body == nil {
		s.exchange(a, upgrade(r))
		return
	}
	delete(r.Header, "Upgrade")
	s.proxy.ServeHTTP(a, a.request())
}

func (s *Site) answerTimeout() time.Duration { return cmp.Or(s.AnswerTimeout, 2*time.Minute) }

// dial connects to the upstream; network and address are the transport's, and
// known already.
func (s *Site) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, s.upstream.network, s.upstream.address)
	if err != nil || s.upstream.url.Scheme != "https" {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: s.upstream.url.Hostname(), NextProtos: []string{"http/1.1"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// Close closes the idle connections to the site. Requests under way finish.
func (s *Site) Close() {
	s.once.Do(s.open)
	s.transport.CloseIdleConnections()
	s.lines.close()
}

// buffers is an httputil.BufferPool.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buf[:]
	}
	return new([bufferSize]byte)[:]
}

func (b *buffers) Put(buf []byte) { b.pool.Put((*[bufferSize]byte)(buf)) }
