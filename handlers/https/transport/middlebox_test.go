package transport_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"posthorn/client/webtransport"
	"posthorn/mux/muxtest"
)

// middlebox stands before a gateway with a certificate of its own, as a company's
// proxy or a CDN does, and passes requests on with net/http.
type middlebox struct {
	pair     tls.Certificate
	addr     string
	requests chan string
}

// newMiddlebox makes one; pass stands before what passes requests on.
func newMiddlebox(t *testing.T, g *gateway, pass func(http.Handler) http.Handler) *middlebox {
	t.Helper()
	m := &middlebox{pair: muxtest.KeyPair(t, host), requests: make(chan string, 100)}
	onward := &http.Transport{
		TLSClientConfig: g.outerConfig(), ForceAttemptHTTP2: true, DialContext: g.dialer(0).DialContext,
	}
	upgrades := onward.Clone()
	upgrades.ForceAttemptHTTP2 = false
	upgrades.TLSClientConfig.NextProtos = []string{"http/1.1"}
	target := &url.URL{Scheme: "https", Host: host}
	proxy := func(tr *http.Transport) http.Handler {
		return &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport: tr, FlushInterval: -1, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		}
	}
	streams, sockets := proxy(onward), proxy(upgrades)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests <- r.Proto + " " + r.Method
		if r.Header.Get("Upgrade") != "" {
			sockets.ServeHTTP(w, r)
			return
		}
		pass(streams).ServeHTTP(w, r)
	})}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{m.pair}, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	m.addr = ln.Addr().String()
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(ln) }()
	t.Cleanup(func() {
		server.Close()
		<-served
		onward.CloseIdleConnections()
		upgrades.CloseIdleConnections()
	})
	return m
}

// dial goes through the middlebox, whose certificate is trusted outside.
func (m *middlebox) dial(t *testing.T, within time.Duration) (net.Conn, error) {
	t.Helper()
	leaf, err := x509.ParseCertificate(m.pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	d := &webtransport.Dialer{
		TLSConfig: &tls.Config{RootCAs: roots}, Subprotocol: "imap",
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, m.addr)
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	nc, err := d.Dial(ctx, host)
	if err == nil {
		t.Cleanup(func() { nc.Close() })
	}
	return nc, err
}

// heard are the requests that a middlebox has seen.
func (m *middlebox) heard() string {
	var all []string
	for len(m.requests) > 0 {
		all = append(all, <-m.requests)
	}
	return strings.Join(all, ", ")
}

// A middlebox made of net/http, which grants little at a time, carries the stream
// as it comes.
func TestMiddleboxCarries(t *testing.T) {
	g := start(t)
	m := newMiddlebox(t, g, func(h http.Handler) http.Handler { return h })
	nc, err := m.dial(t, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	g.bothWays(nc, 10<<20)
	wait(t, g.nothingInside)
	if got := m.heard(); got != "HTTP/2.0 POST" {
		t.Errorf("requests: %s", got)
	}
}

// One that wants all of a request, or of an answer, before it passes it on, gets a
// WebSocket on a second connection.
func TestMiddleboxKeeps(t *testing.T) {
	for name, pass := range map[string]func(http.Handler) http.Handler{
		"the request": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err == nil {
					r.Body = io.NopCloser(bytes.NewReader(body))
					h.ServeHTTP(w, r)
				}
			})
		},
		"the answer": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				kept := &kept{header: http.Header{}}
				h.ServeHTTP(kept, r)
				w.WriteHeader(max(kept.status, 200))
				w.Write(kept.body.Bytes())
			})
		},
		"all but an error": func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusLengthRequired) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			m := newMiddlebox(t, g, pass)
			nc, err := m.dial(t, 4*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			g.bothWays(nc, 10<<20)
			wait(t, g.nothingInside)
			if got := m.heard(); got != "HTTP/2.0 POST, HTTP/1.1 GET" {
				t.Errorf("requests: %s", got)
			}
		})
	}
}

// kept is an answer that is kept until it is complete.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *kept) Header() http.Header         { return k.header }
func (k *kept) WriteHeader(status int)      { k.status = status }
func (k *kept) Write(b []byte) (int, error) { return k.body.Write(b) }
