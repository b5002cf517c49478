package client_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/client"
	"posthorn/client/clienttest"
)

func through(u *url.URL) func(*client.Config) {
	return func(c *client.Config) { c.Proxy = client.FixedProxy(u) }
}

// Where only a proxy leads out, every route goes through it, and nothing past it.
func TestThroughProxies(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{OnlyProxies: clienttest.Refuse})
	login := clienttest.Proxy{User: "u s:er", Password: "p@ss/wörd"}
	for name, u := range map[string]*url.URL{
		"HTTP": n.HTTPProxy(clienttest.Proxy{}), "HTTP with password": n.HTTPProxy(clienttest.Proxy{User: "user", Password: "p@ss/wörd:x"}),
		"SOCKS": n.SOCKSProxy(clienttest.Proxy{}), "SOCKS with password": n.SOCKSProxy(login),
	} {
		for _, kind := range client.AllRoutes() {
			t.Run(name+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				tryRoute(t, g.dialer(n, only(kind), through(u), patient), want{})
			})
		}
	}
}

// TestProxiesRefuse: each refusal is told from others.
func TestProxiesRefuse(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{OnlyProxies: clienttest.Refuse})
	shared := clienttest.Proxy{Ports: []uint16{443}}
	secret := clienttest.Proxy{User: "user", Password: "password"}
	wrong := func(u *url.URL, user *url.Userinfo) *url.URL {
		v := *u
		v.User = user
		return &v
	}
	tests := map[string]struct {
		proxy  *url.URL
		class  client.Class
		status int
	}{
		"HTTP, no password":     {wrong(n.HTTPProxy(secret), nil), client.ProxyFault, 407},
		"HTTP, a wrong one":     {wrong(n.HTTPProxy(secret), url.UserPassword("user", "x")), client.ProxyFault, 407},
		"HTTP, the port":        {n.HTTPProxy(shared), client.ProxyFault, 403},
		"HTTP, garbage":         {n.HTTPProxy(clienttest.Proxy{Answer: "\x00\x01\x02\r\n\r\n"}), client.ProxyFault, 0},
		"HTTP, a page":          {n.HTTPProxy(clienttest.Proxy{Answer: "HTTP/1.1 503 Go away\x1b[31m\r\n\r\n"}), client.ProxyFault, 503},
		"HTTP, an endless head": {n.HTTPProxy(clienttest.Proxy{Answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 50000)}), client.ProxyFault, 0},
		"HTTP, then a portal":   {n.HTTPProxy(clienttest.Proxy{Answer: "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"}), client.HTTP, 0},
		"HTTP, silent":          {n.HTTPProxy(clienttest.Proxy{Silent: true}), client.Silence, 0},
		"SOCKS, no password":    {wrong(n.SOCKSProxy(secret), nil), client.ProxyFault, 0},
		"SOCKS, a wrong one":    {wrong(n.SOCKSProxy(secret), url.UserPassword("user", "x")), client.ProxyFault, 0},
		"SOCKS, the port":       {n.SOCKSProxy(shared), client.ProxyFault, 0},
		"SOCKS, garbage":        {n.SOCKSProxy(clienttest.Proxy{Answer: "HTTP/1.1 200 OK\r\n\r\n"}), client.ProxyFault, 0},
		"SOCKS, silent":         {n.SOCKSProxy(clienttest.Proxy{Silent: true}), client.Silence, 0},
		"no proxy there":        {&url.URL{Scheme: "http", Host: "127.0.0.1:1"}, client.Refused, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := g.dialer(n, only(client.Dedicated), through(tt.proxy), func(c *client.Config) { c.Timeout = time.Second })
			_, err := d.IMAP(within(t, 20*time.Second), nil)
			checkRoute(t, name, err, want{class: tt.class})
			var failed *client.RouteError
			if !errors.As(err, &failed) || failed.Status != tt.status || strings.Contains(err.Error(), "password:") || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("%v, status %d", err, failed.Status)
			}
		})
	}
	t.Run("443 alone", func(t *testing.T) {
		c, err := g.dialer(n, through(n.HTTPProxy(shared))).IMAP(within(t, 20*time.Second), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

// With a proxy no name is resolved, and no address connected to, but the proxy's:
// who goes through Tor does not want to be seen beside it.
func TestNothingGoesPastTheProxy(t *testing.T) {
	g := start(t)
	g.TellsECH.Store(true)
	n := g.network(clienttest.Rules{OnlyProxies: clienttest.Refuse})
	asked := dnsServer(t, nil)
	u := n.SOCKSProxy(clienttest.Proxy{})
	var mu sync.Mutex
	dialled := map[string]bool{}
	d := g.dialer(n, through(u), func(c *client.Config) {
		c.ECHConfigList, c.Resolver, c.Routes, c.InOrder = nil, asked.address, []client.Kind{client.ECH}, true
		c.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			dialled[address] = true
			mu.Unlock()
			return n.DialContext(ctx, network, address)
		}
	})
	c, err := d.Dial(within(t, 20*time.Second), alpn.IMAP)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(dialled) != 1 || !dialled[u.Host] || asked.queries.Load() != 0 {
		t.Errorf("dialled %v, %d questions to the resolver", dialled, asked.queries.Load())
	}
}

func TestProxyFromEnvironment(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		want string
	}{
		"nothing":   {nil, ""},
		"https":     {map[string]string{"HTTPS_PROXY": "http://a:1", "ALL_PROXY": "socks5://b:2"}, "http://a:1"},
		"all":       {map[string]string{"ALL_PROXY": "socks5://b:2"}, "socks5://b:2"},
		"low":       {map[string]string{"all_proxy": "socks5h://u:p@b:2"}, "socks5h://u:p@b:2"},
		"exempt":    {map[string]string{"ALL_PROXY": "socks5://b:2", "NO_PROXY": ".example.org"}, ""},
		"by port":   {map[string]string{"ALL_PROXY": "socks5://b:2", "NO_PROXY": "mail.example.org:443"}, ""},
		"http only": {map[string]string{"HTTP_PROXY": "http://a:1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
				t.Setenv(v, tt.env[v])
				t.Setenv(strings.ToLower(v), tt.env[strings.ToLower(v)])
			}
			u, err := client.ProxyFromEnvironment(&url.URL{Scheme: "https", Host: host + ":443"})
			got := ""
			if u != nil {
				got = u.String()
			}
			if err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
	for _, bad := range []string{"", "ftp://x", "http://", "x:1", "http://user:secret@ho st"} {
		if u, err := client.ParseProxy(bad); !errors.Is(err, client.ErrProxyScheme) {
			t.Errorf("%q: %v, %v", bad, u, err)
		}
	}
}
