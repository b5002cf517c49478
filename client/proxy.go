package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/proxy"
)

// ProxyError says that a proxy does not lead to the gateway.
type ProxyError struct {
	Proxy  string // without its password
	Status int    // of its answer to CONNECT; 0: SOCKS, or no HTTP
	Err    error
}

func (e *ProxyError) Error() string { return "proxy " + e.Proxy + ": " + e.Err.Error() }

// Unwrap returns what the proxy said.
func (e *ProxyError) Unwrap() error { return e.Err }

// ErrProxyScheme says that a proxy's URL is of a kind that is not known.
var ErrProxyScheme = errors.New("a proxy is http://, https://, socks5:// or socks5h://")

// ProxyFromEnvironment returns the proxy that HTTPS_PROXY, else ALL_PROXY, names,
// unless NO_PROXY exempts the host; in lower case too. There is none for
// localhost.
func ProxyFromEnvironment(u *url.URL) (*url.URL, error) {
	env := httpproxy.FromEnvironment()
	for _, name := range []string{"all_proxy", "ALL_PROXY"} {
		if env.HTTPSProxy == "" {
			env.HTTPSProxy = os.Getenv(name)
		}
	}
	return env.ProxyFunc()(u)
}

// FixedProxy is for Config.Proxy: always the same one; nil: none.
func FixedProxy(u *url.URL) func(*url.URL) (*url.URL, error) {
	return func(*url.URL) (*url.URL, error) { return u, nil }
}

// ParseProxy reads the URL of a proxy; "none" is none. Its error is
// ErrProxyScheme.
func ParseProxy(s string) (*url.URL, error) {
	if s == "none" {
		return nil, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || proxyPorts[u.Scheme] == "" {
		return nil, ErrProxyScheme // the text may have a password in it
	}
	return u, nil
}

var proxyPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// connect makes a TCP connection to an address, through a proxy if there is one.
// With a proxy, names are its to resolve.
func (d *Dialer) connect(ctx context.Context, address string, via *url.URL) (net.Conn, error) {
	if via == nil {
		return d.config.DialContext(ctx, "tcp", address)
	}
	port := proxyPorts[via.Scheme]
	if port == "" {
		return nil, ErrProxyScheme
	}
	if via.Port() != "" {
		port = via.Port()
	}
	nc, err := d.config.DialContext(ctx, "tcp", net.JoinHostPort(via.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", via.Host, err)
	}
	stop := wake(ctx, nc)
	through, err := d.through(ctx, nc, via, address)
	stop()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil:
		return through, nil
	}
	nc.Close()
	return nil, err
}

// through asks the proxy at the other end of nc for a connection.
func (d *Dialer) through(ctx context.Context, nc net.Conn, via *url.URL, address string) (net.Conn, error) {
	switch via.Scheme {
	case "socks5", "socks5h":
		return socks(ctx, nc, via, address)
	case "https":
		tc := tls.Client(nc, &tls.Config{ServerName: via.Hostname(), RootCAs: d.config.RootCAs, NextProtos: []string{"http/1.1"}})
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, &ProxyError{Proxy: via.Host, Err: err}
		}
		nc = tc
	}
	return tunnel(nc, via, address)
}

// made is a proxy.Dialer that has made its connection already.
type made struct{ net.Conn }

func (m made) Dial(string, string) (net.Conn, error) { return m.Conn, nil }

func (m made) DialContext(context.Context, string, string) (net.Conn, error) { return m.Conn, nil }

// socks asks a SOCKS5 proxy (RFC 1928, RFC 1929).
func socks(ctx context.Context, nc net.Conn, via *url.URL, address string) (net.Conn, error) {
	var auth *proxy.Auth
	if via.User != nil {
		auth = &proxy.Auth{User: via.User.Username()}
		auth.Password, _ = via.User.Password()
	}
	dialer, err := proxy.SOCKS5("tcp", via.Host, auth, made{nc})
	if err != nil {
		return nil, err
	}
	c, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &ProxyError{Proxy: via.Host, Err: err}
	}
	return c, nil
}

// maxProxyAnswer bounds the header of a proxy's answer.
const maxProxyAnswer = 64 << 10

// tunnel asks an HTTP proxy (RFC 9110 section 9.3.6).
func tunnel(nc net.Conn, via *url.URL, address string) (net.Conn, error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{"User-Agent": {""}}}
	if via.User != nil {
		password, _ := via.User.Password()
		both := via.User.Username() + ":" + password
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(both)))
	}
	if err := req.Write(nc); err != nil {
		return nil, fmt.Errorf("proxy %s: %w", via.Host, err)
	}
	in := bufio.NewReader(io.LimitReader(nc, maxProxyAnswer))
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, &ProxyError{Proxy: via.Host, Err: err}
	}
	if resp.StatusCode/100 != 2 {
		return nil, &ProxyError{Proxy: via.Host, Status: resp.StatusCode, Err: errors.New(oneLine(resp.Status))}
	}
	early, _ := in.Peek(in.Buffered())
	if len(early) == 0 {
		return nc, nil
	}
	return &prefixed{Conn: nc, early: bytes.NewReader(bytes.Clone(early))}, nil
}

// prefixed is a connection of which some octets have been read already.
type prefixed struct {
	net.Conn
	early *bytes.Reader
}

func (p *prefixed) Read(b []byte) (int, error) {
	if p.early.Len() > 0 {
		return p.early.Read(b)
	}
	return p.Conn.Read(b)
}
