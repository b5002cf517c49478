package sites

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

// Upstream is an HTTP server that answers for a site. It hears who asks in
// X-Forwarded-For, -Host and -Proto; what a client says in such fields is
// dropped. The Host and the target stay as the client sent them.
type Upstream struct {
	// URL is http://HOST[:PORT], https://HOST[:PORT] or unix:/PATH.
	URL string
	// TLS is a template for connections to an https URL; its ServerName defaults
	// to the URL's host. Nil: certificates are checked against the system's roots.
	TLS *tls.Config
	// ConnectTimeout is for a connection and TLS on it; default 10 s.
	ConnectTimeout time.Duration
	// AnswerTimeout is how long the site may take from the end of a request to
	// the head of its response; default 2 min.
	AnswerTimeout time.Duration
}

// ErrUpstream says that an upstream is none.
var ErrUpstream = errors.New("must be http://HOST:PORT, https://HOST:PORT or unix:/PATH")

// proxy passes requests on to an Upstream.
type proxy struct {
	url                           url.URL // scheme and host
	network, address              string  // to dial
	tls                           *tls.Config
	connectTimeout, answerTimeout time.Duration

	reverse   httputil.ReverseProxy
	transport *http.Transport // of requests with a body
	lines     lines           // of the others
	buffers   buffers
	outage    outage
}

// Bounds of what goes on between gateway and site.
const (
	defaultConnectTimeout = 10 * time.Second
	defaultAnswerTimeout  = 2 * time.Minute
	continueTimeout       = time.Second // for the site to say 100 Continue
	idleConns             = 64
	idleConnTimeout       = 55 * time.Second // servers mostly give 60 s or more
	maxAnswerHeader       = 256 << 10
)

// newProxy does not connect yet. The error is ErrUpstream.
func newProxy(u *Upstream, log zerolog.Logger) (*proxy, error) {
	p := &proxy{
		connectTimeout: cmp.Or(u.ConnectTimeout, defaultConnectTimeout),
		answerTimeout:  cmp.Or(u.AnswerTimeout, defaultAnswerTimeout),
		outage:         outage{log: log, upstream: u.URL},
	}
	if err := p.locate(u.URL); err != nil {
		return nil, err
	}
	if p.url.Scheme == "https" {
		p.tls = &tls.Config{}
		if u.TLS != nil {
			p.tls = u.TLS.Clone()
		}
		p.secure()
	}
	p.transport = &http.Transport{
		DialContext:            p.dial,
		DialTLSContext:         p.dial,
		DisableCompression:     true, // what the client wants is passed on
		MaxIdleConns:           idleConns,
		MaxIdleConnsPerHost:    idleConns,
		IdleConnTimeout:        idleConnTimeout,
		ExpectContinueTimeout:  continueTimeout,
		ResponseHeaderTimeout:  p.answerTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	p.reverse = httputil.ReverseProxy{
		Transport:    p.transport,
		Rewrite:      p.rewrite,
		BufferPool:   &p.buffers,
		ErrorHandler: p.fail,
		ModifyResponse: func(res *http.Response) error {
			keepCookies(res.Header)
			return nil
		},
		ErrorLog: p.outage.silent(),
	}
	return p, nil
}

// locate finds out where an upstream is.
func (s *proxy) locate(at string) error {
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%q: %w", at, ErrUpstream)
		}
		s.url, s.network, s.address = url.URL{Scheme: "http", Host: "localhost"}, "unix", path
		return nil
	}
	u, err := url.Parse(at)
	if err != nil || u.Hostname() == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}) || u.Path != "" && u.Path != "/" {
		return fmt.Errorf("%q: %w", at, ErrUpstream)
	}
	port, ok := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if !ok {
		return fmt.Errorf("%q: %w", at, ErrUpstream)
	}
	s.url, s.network = url.URL{Scheme: u.Scheme, Host: u.Host}, "tcp"
	s.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	return nil
}

// secure completes the template for the upstream.
func (s *proxy) secure() {
	s.tls.ServerName = cmp.Or(s.tls.ServerName, s.url.Hostname())
	s.tls.NextProtos = []string{"http/1.1"}
	if verify := s.tls.VerifyConnection; verify != nil {
		s.tls.VerifyConnection = func(state tls.ConnectionState) error {
			state.ServerName = s.tls.ServerName // crypto/tls leaves out IP addresses
			return verify(state)
		}
	}
}

// serve passes a request on, and the answer back.
func (s *proxy) serve(a *answer) {
	hideCookies(a.r.Header)
	a.takeBody()
	if a.body == nil {
		s.exchange(a, upgrade(a.r))
		return
	}
	delete(a.r.Header, "Upgrade")
	s.reverse.ServeHTTP(a, a.request())
}

// dial connects to the upstream; network and address are the transport's, and
// known already.
func (s *proxy) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.connectTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, s.network, s.address)
	if err != nil || s.tls == nil {
		return conn, err
	}
	secure := tls.Client(conn, s.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// close closes the idle connections to the site. Requests under way finish.
func (s *proxy) close() {
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
