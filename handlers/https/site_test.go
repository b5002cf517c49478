package https_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"posthorn/handlers/https"
	"posthorn/handlers/https/sites"
	"posthorn/mux/muxtest"
)

// behind is a site behind a gateway.
type behind struct {
	*gateway
	sites   *sites.Set
	siteLog muxtest.Log
}

// serveSite starts an HTTP server and returns its address.
func serveSite(t testing.TB, network string, h http.Handler) string {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "site.sock")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(ln) })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	if network == "unix" {
		return "unix:" + address
	}
	return "http://" + ln.Addr().String()
}

// putBehind starts a gateway before the site at upstream.
func putBehind(t testing.TB, upstream string, edit func(*https.Server)) *behind {
	t.Helper()
	return putAllBehind(t, []sites.Site{{Upstream: &sites.Upstream{URL: upstream}}}, edit)
}

// putAllBehind starts a gateway before several sites.
func putAllBehind(t testing.TB, all []sites.Site, edit func(*https.Server)) *behind {
	t.Helper()
	return startBehind(t, start, all, edit)
}

// startBehind is putAllBehind for a gateway that is started in some way.
func startBehind(t testing.TB, start func(testing.TB, func(*https.Server)) *gateway, all []sites.Site, edit func(*https.Server)) *behind {
	t.Helper()
	b := new(behind)
	var err error
	if b.sites, err = sites.New(all, zerolog.New(&b.siteLog)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.sites.Close) // after the gateway has stopped
	b.gateway = start(t, func(s *https.Server) {
		s.Sites = b.sites
		s.Serves = func(host string) bool {
			return host == serverName || host == "localhost" || host == "_relay.example.org"
		}
		if edit != nil {
			edit(s)
		}
	})
	return b
}

// newSite is a site that handler is, on a TCP port.
func newSite(t testing.TB, handler http.HandlerFunc) *behind {
	t.Helper()
	return putBehind(t, serveSite(t, "tcp", handler), nil)
}

func TestUpstreams(t *testing.T) {
	for _, bad := range []string{
		"", "http://", "ftp://localhost", "localhost:8080", "unix:", "unix:site.sock", "http://localhost/path",
		"http://user@localhost", "http://localhost?x", "http://localhost#x", "http://local host", "http://localhost:x", "/run/site.sock",
	} {
		if _, err := sites.New([]sites.Site{{Upstream: &sites.Upstream{URL: bad}}}, zerolog.Nop()); !errors.Is(err, sites.ErrUpstream) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s", r.Host) })
	for _, network := range []string{"tcp", "unix"} {
		g := putBehind(t, serveSite(t, network, hello), nil)
		for _, h2 := range []bool{false, true} {
			if r, body := get(t, g.client(h2), "/hello"); r.StatusCode != 200 || body != "hello "+serverName {
				t.Errorf("%s: %s %q", network, r.Status, body)
			}
		}
	}
}

// TestWhoseRequest: what the gateway has mounted is its own, whatever the
// method; everything else is the site's, as are the headers of its responses.
func TestWhoseRequest(t *testing.T) {
	site := serveSite(t, "tcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "site "+r.RequestURI) }))
	g := putBehind(t, site, func(s *https.Server) {
		for _, pattern := range []string{"GET /account/{name}", "POST /account/{other}", "/v1/{rest...}"} {
			s.Mount(pattern, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own") }))
		}
	})
	for _, c := range []struct{ request, want string }{
		{"GET /", "200 site /"},
		{"GET /healthz", "200 ok\n"},
		{"POST /healthz", "405 Method Not Allowed\n"},
		{"GET /%68ealthz", "200 ok\n"},
		{"GET /healthz/", "200 site /healthz/"},
		{"GET //healthz", "200 site //healthz"},
		{"GET /account/alice", "200 own"},
		{"DELETE /account/alice", "405 Method Not Allowed\n"},
		{"GET /account", "200 site /account"},
		{"GET /v1/a/b", "200 own"},
		{"PROPFIND /x", "200 site /x"},
	} {
		out := g.raw(c.request + " HTTP/1.1\r\nHost: " + serverName + "\r\nConnection: close\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(out)), nil)
		if err != nil {
			t.Fatalf("%s: %q", c.request, out)
		}
		body, _ := io.ReadAll(r.Body)
		if got := fmt.Sprintf("%d %s", r.StatusCode, body); got != c.want {
			t.Errorf("%s: %q, want %q", c.request, got, c.want)
		}
		theirs := strings.HasPrefix(string(body), "site ")
		for _, name := range []string{"Content-Security-Policy", "X-Frame-Options", "Strict-Transport-Security", "X-Content-Type-Options"} {
			if (r.Header.Get(name) == "") != theirs {
				t.Errorf("%s: %s is %q", c.request, name, r.Header.Get(name))
			}
		}
	}
}

// TestForwarded: the site hears who asks from the gateway alone.
func TestForwarded(t *testing.T) {
	got := make(chan *http.Request, 1)
	g := newSite(t, func(_ http.ResponseWriter, r *http.Request) { got <- r })
	for _, h2 := range []bool{false, true} {
		r, err := http.NewRequest("GET", "https://"+serverName+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{
			"Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP",
			"X_Forwarded_For", "x_forwarded-for", "X-Forwarded_Proto", "X_Real_IP", "X-FORWARDED-ANYTHING",
		} {
			r.Header[name] = []string{"192.0.2.1"} // also in spellings that Go would not send
		}
		r.Header.Set("Connection", "X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host")
		if h2 {
			r.Header.Del("Connection")
		}
		r.Header.Set("X-Forward", "stays")
		res, err := g.client(h2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		in := <-got
		for name, values := range in.Header {
			lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
			if !strings.HasPrefix(lower, "x-forwarded") && lower != "forwarded" && lower != "x-real-ip" {
				continue
			}
			want := map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": serverName}[name]
			if len(values) != 1 || values[0] != want {
				t.Errorf("HTTP/2 %v: %s: %q, want %q", h2, name, values, want)
			}
			delete(in.Header, name)
		}
		if in.Host != serverName || in.Header.Get("X-Forward") != "stays" || in.Header.Get("Via") != "" {
			t.Errorf("got %q, %v", in.Host, in.Header)
		}
	}
}

// TestCookies: the gateway's own cookies, which sign somebody in, are neither shown
// to a site on the same host nor set by it.
func TestCookies(t *testing.T) {
	got := make(chan []string, 1)
	g := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header["Cookie"]
		for _, c := range []string{"__Host-posthorn=x; Path=/; Secure", "a=b", "__Host-posthorn-flash=x; Path=/; Secure"} {
			w.Header().Add("Set-Cookie", c)
		}
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "echo")
			w.WriteHeader(http.StatusSwitchingProtocols)
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close()
			}
		}
	})
	for _, c := range []struct {
		sent []string
		want []string
	}{
		{[]string{"a=b; __Host-posthorn=secret; c=d"}, []string{"a=b; c=d"}},
		{[]string{"__Host-posthorn=secret"}, nil},
		{[]string{"__Host-posthorn=secret;a=b", "__Host-posthorn-flash=x"}, []string{"a=b"}},
		{[]string{"a=\"; __Host-posthorn=secret\"", "x"}, []string{"a=\"", "x"}},
		{[]string{"  __Host-posthorn-passkey=secret ; b"}, []string{"b"}},
		{[]string{"a=__Host-posthorn=1;b;; c"}, []string{"a=__Host-posthorn=1;b;; c"}}, // as it came
	} {
		for _, how := range []string{"GET", "POST", "upgrade"} {
			fields := "Host: " + serverName + "\r\n"
			for _, s := range c.sent {
				fields += "Cookie: " + s + "\r\n"
			}
			method, more := how, "Connection: close\r\n\r\n"
			switch how {
			case "POST":
				more = "Content-Length: 1\r\nConnection: close\r\n\r\n1"
			case "upgrade":
				method, more = "GET", "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
			}
			out := g.raw(method + " / HTTP/1.1\r\n" + fields + more)
			if seen := <-got; !slices.Equal(seen, c.want) {
				t.Errorf("%s with %q: the site sees %q, want %q", how, c.sent, seen, c.want)
			}
			if n := strings.Count(strings.ToLower(out), "set-cookie:"); n != 1 || !strings.Contains(out, "a=b") {
				t.Errorf("%s: the client gets %q", how, out)
			}
		}
	}
}

// TestDown: a site that does not answer costs a short response for each
// request, and a line in the log for all.
func TestDown(t *testing.T) {
	const closedPort = "127.0.0.1:1"
	g := putBehind(t, "http://"+closedPort, nil)
	for _, header := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
		out := g.raw("GET /secret?secret HTTP/1.1\r\nHost: " + serverName + "\r\nX: secret\r\n" + header + "\r\n" +
			"GET /secret?secret HTTP/1.1\r\nHost: " + serverName + "\r\nConnection: close\r\n\r\n")
		if got := statuses(out); len(got) == 0 || got[0] != "502" || strings.Contains(out, "secret") || strings.Contains(out, closedPort) {
			t.Errorf("got %q", out)
		}
	}
	if log := g.siteLog.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "connection refused") || strings.Contains(log, "secret") {
		t.Errorf("the log has %s", log)
	}
}

// TestSlow: 504 when the site takes too long; its connection is closed.
func TestSlow(t *testing.T) {
	gone := make(chan struct{}, 10)
	site := serveSite(t, "tcp", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	g := putAllBehind(t, []sites.Site{{Upstream: &sites.Upstream{URL: site, AnswerTimeout: 50 * time.Millisecond}}}, nil)
	for _, header := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
		out := g.raw("GET / HTTP/1.1\r\nHost: " + serverName + "\r\n" + header + "\r\nGET / HTTP/1.1\r\nHost: " + serverName + "\r\nConnection: close\r\n\r\n")
		if got := statuses(out); len(got) == 0 || got[0] != "504" {
			t.Errorf("got %q", out)
		}
		<-gone
	}
}
