package transport_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"posthorn/await"
	"posthorn/client/webtransport"
	"posthorn/handlers/https/sites"
	"posthorn/handlers/https/transport"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

// dial makes a TLS connection that speaks a protocol of the web.
func (g *gateway) dial(proto string) *tls.Conn {
	g.t.Helper()
	nc, err := g.connect()
	if err != nil {
		g.t.Fatal(err)
	}
	c := g.outerConfig()
	c.ServerName, c.NextProtos = host, []string{proto}
	tc := tls.Client(nc, c)
	tc.SetDeadline(time.Now().Add(20 * time.Second))
	if err := tc.Handshake(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { tc.Close() })
	return tc
}

// http1 makes a connection of HTTP/1.1.
func (g *gateway) http1() *session {
	g.t.Helper()
	tc := g.dial("http/1.1")
	return &session{Conn: tc, t: g.t, r: bufio.NewReader(tc)}
}

// ask sends a request and returns the answer with its body.
func (g *gateway) ask(request string) (*http.Response, string) {
	g.t.Helper()
	s := g.http1()
	if _, err := io.WriteString(s, strings.ReplaceAll(request, "\n", "\r\n")+"\r\n\r\n"); err != nil {
		g.t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(s.r, &http.Request{Method: method})
	if err != nil {
		g.t.Fatal(err)
	}
	body := []byte(nil)
	if res.StatusCode != http.StatusSwitchingProtocols {
		if body, err = io.ReadAll(res.Body); err != nil {
			g.t.Fatal(err)
		}
	}
	return res, string(body)
}

const upgrade = `GET /.well-known/posthorn/imap HTTP/1.1
Host: mail.example.org
Connection: keep-alive, Upgrade
Upgrade: WebSocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Protocol: chat, imap`

func TestUpgrade(t *testing.T) {
	g := start(t, func(g *gateway, _ *mux.Config) {
		g.web.Transport.Origins = []string{"https://webmail.example.org"}
	})
	without := func(field string) string {
		var lines []string
		for line := range strings.SplitSeq(upgrade, "\n") {
			if !strings.HasPrefix(line, field+":") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "\n")
	}
	for name, tt := range map[string]struct {
		request string
		status  int
	}{
		"good":                   {upgrade, 101},
		"origin":                 {upgrade + "\nOrigin: https://webmail.example.org", 101},
		"origin, other case":     {upgrade + "\nOrigin: https://WEBMAIL.example.org", 101},
		"own origin":             {upgrade + "\nOrigin: https://mail.example.org", 403},
		"other scheme":           {upgrade + "\nOrigin: http://webmail.example.org", 403},
		"other port":             {upgrade + "\nOrigin: https://webmail.example.org:8443", 403},
		"longer":                 {upgrade + "\nOrigin: https://webmail.example.org.evil.net", 403},
		"null":                   {upgrade + "\nOrigin: null", 403},
		"empty":                  {upgrade + "\nOrigin:", 403},
		"two":                    {upgrade + "\nOrigin: https://webmail.example.org\nOrigin: https://evil.net", 403},
		"no version":             {without("Sec-WebSocket-Version"), 426},
		"old version":            {strings.Replace(upgrade, "Version: 13", "Version: 8", 1), 426},
		"no key":                 {without("Sec-WebSocket-Key"), 400},
		"two keys":               {upgrade + "\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400},
		"short key":              {strings.Replace(upgrade, "dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 1), 400},
		"no subprotocol":         {without("Sec-WebSocket-Protocol"), 400},
		"another subprotocol":    {strings.Replace(upgrade, "chat, imap", "smtp", 1), 400},
		"body":                   {upgrade + "\nContent-Length: 3", 400},
		"no upgrade":             {without("Upgrade"), 404},
		"no connection: upgrade": {without("Connection"), 404},
		"HTTP/1.0":               {strings.Replace(upgrade, "HTTP/1.1", "HTTP/1.0", 1), 404},
		"POST":                   {strings.Replace(upgrade, "GET", "POST", 1) + "\nContent-Length: 0", 404},
		"other path":             {strings.Replace(upgrade, "/imap ", "/pop3 ", 1), 404},
		"path with more":         {strings.Replace(upgrade, "/imap ", "/imap/ ", 1), 404},
		"other host":             {strings.Replace(upgrade, "mail.example.org", "evil.net", 1), 421},
	} {
		t.Run(name, func(t *testing.T) {
			res, _ := g.ask(tt.request)
			if res.StatusCode != tt.status {
				t.Fatalf("status %d, want %d", res.StatusCode, tt.status)
			}
			// The answer to the key of RFC 6455 section 1.3.
			if res.StatusCode == 101 && (res.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
				res.Header.Get("Sec-Websocket-Protocol") != "imap") {
				t.Errorf("%v", res.Header)
			}
			if tt.status == 426 && res.Header.Get("Sec-Websocket-Version") != "13" {
				t.Errorf("%v", res.Header)
			}
		})
	}
}

// Who does not ask for the transport at its path sees what is at any other, with
// a site behind and without.
func TestHidden(t *testing.T) {
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "the site has no such page", http.StatusNotFound)
	}))
	defer behind.Close()
	set, err := sites.New([]sites.Site{{Upstream: &sites.Upstream{URL: behind.URL}}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	for name, site := range map[string]*sites.Set{"alone": nil, "site": set} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(g *gateway, _ *mux.Config) { g.web.Sites = site })
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"} {
				for _, path := range []string{"/.well-known/posthorn/imap", "/.well-known/posthorn/submission", "/.well-known/posthorn", "/.well-known/posthorn/"} {
					there, elsewhere := g.look(method, path), g.look(method, "/.well-known/posthorm/imap")
					if there != elsewhere || !strings.HasPrefix(there, "404") {
						t.Errorf("%s %s: %s\nelsewhere: %s", method, path, there, elsewhere)
					}
					if site != nil && method == "GET" && !strings.Contains(there, "the site has no such page") {
						t.Errorf("%s: %s", path, there)
					}
				}
			}
		})
	}
}

// look is all of the answer to a request, but for its date.
func (g *gateway) look(method, path string) string {
	g.t.Helper()
	res, body := g.ask(method + " " + path + " HTTP/1.1\nHost: mail.example.org\nContent-Length: 0\nConnection: close")
	res.Header.Del("Date")
	var b strings.Builder
	res.Header.Write(&b)
	return res.Status + "\n" + b.String() + body
}

// Off is off, and a secret path is where it is alone.
func TestPath(t *testing.T) {
	g := start(t, func(g *gateway, _ *mux.Config) { g.web.Transport.Path = "/s3cret" })
	d := g.dialer(webtransport.Auto)
	for path, want := range map[string]int{"": 404, "/s3cret": 0, "/S3CRET": 404} {
		d.Path = path
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		nc, err := d.Dial(ctx, host)
		cancel()
		var status *webtransport.StatusError
		switch {
		case want == 0 && err != nil, want != 0 && (!errors.As(err, &status) || status.Code != want):
			t.Errorf("%q: %v", path, err)
		case err == nil:
			nc.Close()
		}
	}
	off := start(t, func(g *gateway, _ *mux.Config) { g.web.Transport = nil })
	if _, err := off.dialer(webtransport.HTTP2).Dial(t.Context(), host); err == nil {
		t.Error("off, and there")
	}
}

// A client whose connection net/http serves, as it asks for other things too.
func (g *gateway) browser() *http.Client {
	tr := &http.Transport{TLSClientConfig: g.outerConfig(), ForceAttemptHTTP2: true,
		DialContext: g.dialer(0).DialContext}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// The same through net/http, several on one connection, beside other requests.
func TestSharedConnection(t *testing.T) {
	g := start(t)
	c := g.browser()
	for range 3 {
		nc := g.stream(c)
		s := g.inner(nc, muxtest.KeyPair(t))
		s.line()
		s.send("hello")
		if got := s.line(); got != "hello" {
			t.Fatal(got)
		}
	}
	res, err := c.Get("https://" + host + "/healthz")
	if err != nil || res.ProtoMajor != 2 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	outer, inner := 0, 0
	for _, info := range g.Conns() {
		if info.Via == 0 {
			outer++
		} else {
			inner++
		}
	}
	if outer != 1 || inner != 3 {
		t.Errorf("%d connections with %d inside", outer, inner)
	}
	if n := g.Close(func(i mux.Info) bool { return i.Via == 0 }, mux.ErrEvicted); n != 1 {
		t.Error(n)
	}
	wait(t, func() bool { return len(g.Conns()) == 0 })
}

// halves is a request's body and its answer's.
type halves struct {
	*tls.Conn // nil
	r         io.ReadCloser
	w         io.WriteCloser
}

func (h halves) Read(b []byte) (int, error)  { return h.r.Read(b) }
func (h halves) Write(b []byte) (int, error) { return h.w.Write(b) }
func (h halves) Close() error                { h.w.Close(); return h.r.Close() }
func (h halves) SetDeadline(time.Time) error { return nil }

func (h halves) SetWriteDeadline(time.Time) error { return nil }

func (g *gateway) stream(c *http.Client) halves {
	g.t.Helper()
	body, w := io.Pipe()
	req := httptest.NewRequest("POST", "https://"+host+"/.well-known/posthorn/imap", body)
	req.RequestURI, req.ContentLength = "", -1
	req.Header.Set("Content-Type", transport.ContentType)
	res, err := c.Do(req)
	if err != nil || res.StatusCode != 200 || res.ProtoMajor != 2 {
		g.t.Fatal(res, err)
	}
	h := halves{nil, res.Body, w}
	g.t.Cleanup(func() { h.Close() })
	return h
}

// Streams that are opened and reset as fast as can be leave nothing behind, and
// others are served meanwhile.
func TestRapidReset(t *testing.T) {
	g := start(t, func(_ *gateway, c *mux.Config) { c.Limits.UnauthPerSource = 20 })
	c := g.browser()
	for range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: cancel})
		body, w := io.Pipe()
		req, _ := http.NewRequestWithContext(ctx, "POST", "https://"+host+"/.well-known/posthorn/imap", body)
		req.Header.Set("Content-Type", transport.ContentType)
		if res, err := c.Do(req); err == nil {
			res.Body.Close()
		}
		w.Close()
		cancel()
	}
	// Another source's: where they come from they crowd out each other, and others.
	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	g.connect = func() (net.Conn, error) { return elsewhere.Dial("tcp", g.addr) }
	s := g.inner(g.open(webtransport.WebSocket))
	s.line()
	s.Close()
	wait(t, func() bool {
		c.CloseIdleConnections() // it is idle once the last reset is answered
		return len(g.Conns()) == 0
	})
}

// A client that opens many inside one connection is counted for each of them,
// and one that has to come this way counts once.
func TestCounts(t *testing.T) {
	g := start(t, func(_ *gateway, c *mux.Config) { c.Limits.ConnsPerSource = 3 })
	for range 3 {
		s := g.inner(g.open(webtransport.Auto))
		if line := s.line(); !strings.HasPrefix(line, "* PREAUTH") {
			t.Fatalf("an honest client hears %q", line)
		}
	}
	g2 := start(t, func(_ *gateway, c *mux.Config) { c.Limits.ConnsPerSource = 3 })
	c := g2.browser()
	var heard []string
	for range 4 {
		heard = append(heard, g2.inner(g2.stream(c)).line())
	}
	if heard[2] == heard[3] || heard[3] != "* BYE busy" {
		t.Errorf("%q", heard)
	}
}

// wait waits until something has come about.
func wait(t testing.TB, is func() bool) {
	t.Helper()
	await.Until(t, "what the test waits for", is)
}

// parked waits until nobody carries octets: all connections that are spliced wait
// without a goroutine.
func parked(t testing.TB) {
	t.Helper()
	await.Until(t, "all is parked", func() bool {
		var b strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(b.String(), "splice.(*carrier)")
	})
}

const noProtocol = "tls: no application protocol"

// Inside, a protocol of the web is as foreign as on a dedicated port.
func TestStrictInside(t *testing.T) {
	g := start(t)
	for _, protos := range [][]string{{"h2", "http/1.1"}, {"smtp"}, {"acme-tls/1"}} {
		c := g.outerConfig()
		c.ServerName, c.NextProtos = host, protos
		tc := tls.Client(g.open(webtransport.Auto), c)
		var remote *net.OpError // crypto/tls keeps the alert's type to itself
		if err := tc.Handshake(); !errors.As(err, &remote) || remote.Op != "remote error" || remote.Err.Error() != noProtocol {
			t.Errorf("%q: %v", protos, err)
		}
	}
}
