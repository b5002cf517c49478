package https_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"posthorn/mux/muxtest"
)

// tap is a site that answers 200 to whatever comes, and keeps what it read.
type tap struct {
	net.Listener
	heard    muxtest.Log
	mu       sync.Mutex
	requests []string // method and target; guarded by mu
}

func newTap(t testing.TB) (*tap, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{Listener: ln}
	server := &http.Server{Handler: p, DisableGeneralOptionsHandler: true}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(p) })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return p, "http://" + ln.Addr().String()
}

func (p *tap) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tapped{c, &p.heard}, nil
}

type tapped struct {
	net.Conn
	heard io.Writer
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.heard.Write(b[:n])
	return n, err
}

func (p *tap) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, r.Method+" "+r.RequestURI)
}

// TestTargets: the site gets the target as the client has sent it, unless it
// leads up or around, or names another server.
func TestTargets(t *testing.T) {
	p, upstream := newTap(t)
	g := putBehind(t, upstream, nil)
	for _, c := range []struct{ target, want string }{
		{"/", "/"},
		{"/?", "/?"},
		{"/a%2fb/c%2Fd", "/a%2fb/c%2Fd"},
		{"/a//b", "/a//b"},
		{"//elsewhere.example/x", "//elsewhere.example/x"},
		{"/%e4%ff%3f%23?a=%zz;b&c=%41", "/%e4%ff%3f%23?a=%zz;b&c=%41"},
		{"/.well-known/x", "/.well-known/x"},
		{"/a/...", "/a/..."},
		{"/%252e%252e/x", "/%252e%252e/x"},
		{"/x:y@z", "/x:y@z"},
		{"/a#b", "/a%23b"},
		{"https://" + serverName + "/x?y", "/x?y"},
		{"http://" + serverName + ":80/x", "/x"},
		{"https://" + serverName, "/"},
		{"/../x", ""},
		{"/a/..", ""},
		{"/a/./b", ""},
		{"/%2e%2e/x", ""},
		{"/a%2f..%2fb", ""},
		{"/a/..;x/b", ""},
		{`/a\..\b`, ""},
		{"/a%5c%2e%2e%5cb", ""},
		{"/a%00", ""},
		{"https://user@" + serverName + "/x", ""},
		{"https://elsewhere.example/x", ""},
		{"*", ""},
		{"x", ""},
		{"elsewhere.example:443", ""},
		{"ftp://" + serverName + "/x", ""},
		{"/%zz", ""},
	} {
		p.requests = nil
		out := g.raw("GET " + c.target + " HTTP/1.1\r\nHost: " + serverName + "\r\nConnection: close\r\n\r\n")
		p.mu.Lock()
		got := strings.Join(p.requests, ", ")
		p.mu.Unlock()
		switch codes := statuses(out); {
		case len(codes) != 1:
			t.Errorf("%s: %q", c.target, out)
		case c.want == "" && (codes[0][0] != '4' || got != ""):
			t.Errorf("%s: %s, and the site got %q", c.target, codes[0], got)
		case c.want != "" && (codes[0] != "200" || got != "GET "+c.want):
			t.Errorf("%s: %s, and the site got %q", c.target, codes[0], got)
		}
	}
}

// TestUnderscore: host names with an underscore are served, also in the
// absolute form that Delta Chat sends.
func TestUnderscore(t *testing.T) {
	const name = "_relay.example.org"
	g := newSite(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", r.Host, r.RequestURI) })
	for _, head := range []string{
		"POST https://" + name + "/new HTTP/1.1\r\nHost: " + name + "\r\n",
		"POST https://" + name + "/new HTTP/1.1\r\nHost: elsewhere.example\r\n", // RFC 9112 section 3.2.2
		"POST /new HTTP/1.1\r\nHost: " + name + "\r\n",
	} {
		c := g.dial(name)
		io.WriteString(c, head+"Content-Length: 0\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") || !strings.HasSuffix(string(b), "\r\n\r\n"+name+" /new") {
			t.Errorf("%q: %q, %v", head, b, err)
		}
	}
}

var (
	// heads finds the first line of requests in what a site has read; it can
	// stand right behind a body.
	heads    = regexp.MustCompile(`[A-Z]+ \S+ HTTP/1\.1\r\n`)
	bothEnds = regexp.MustCompile(`(?is)content-length:.*\r\ntransfer-encoding:|transfer-encoding:.*\r\ncontent-length:`)
)

// TestNothingIsSmuggled: whatever a client sends, the site reads no more
// requests than the gateway has answered, none of which can be read in two
// ways.
func TestNothingIsSmuggled(t *testing.T) {
	const (
		get   = "GET /first HTTP/1.1\r\nHost: " + serverName + "\r\n"
		post  = "POST /first HTTP/1.1\r\nHost: " + serverName + "\r\n"
		inner = "GET /smuggled HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n"
		plain = post + "Content-Length: 3\r\n"
	)
	for name, first := range map[string]string{
		"CL and TE":               post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"TE and CL":               post + "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX",
		"chunked":                 post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"two CL":                  post + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
		"two equal CL":            post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"list of CL":              post + "Content-Length: 3, 3\r\n\r\nabc",
		"CL +3":                   post + "Content-Length: +3\r\n\r\nabc",
		"CL 0x3":                  post + "Content-Length: 0x3\r\n\r\nabc",
		"CL and a space":          post + "Content-Length : 3\r\n\r\nabc",
		"CL in Connection":        plain + "Connection: Content-Length\r\n\r\nabc",
		"TE in Connection":        post + "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n\r\n0\r\n\r\n",
		"Host in Connection":      get + "Connection: Host\r\n\r\n",
		"TE xchunked":             post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"TE chunked, identity":    post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"TE with VT":              post + "Transfer-Encoding:\x0bchunked\r\nContent-Length: 3\r\n\r\nabc",
		"TE_ with underscore":     plain + "Transfer_Encoding: chunked\r\n\r\nabc",
		"folded TE":               plain + "Transfer-Encoding:\r\n chunked\r\n\r\nabc",
		"folded field":            plain + "X: a\r\n b\r\n\r\nabc",
		"bare LF":                 "POST /first HTTP/1.1\nHost: " + serverName + "\nContent-Length: 3\n\nabc",
		"bare CR":                 plain + "X: a\rTransfer-Encoding: chunked\r\n\r\nabc",
		"NUL":                     plain + "X: a\x00b\r\n\r\nabc",
		"space in a name":         plain + "X Y: a\r\n\r\nabc",
		"chunk extension":         post + "Transfer-Encoding: chunked\r\n\r\n3;x=\"\r\n\r\nabc\r\n0\r\n\r\n",
		"chunk extension and LF":  post + "Transfer-Encoding: chunked\r\n\r\n3;x\nabc\r\n0\r\n\r\n",
		"chunk size 2^64":         post + "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
		"chunk size -3":           post + "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
		"chunk without end":       post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcdefgh\r\n0\r\n\r\n",
		"trailer TE":              post + "Trailer: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"trailer CL, unannounced": post + "Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\nContent-Length: 44\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
		"a body behind GET":       get + "Content-Length: 3\r\n\r\nabc",
		"HTTP/1.0":                "GET /first HTTP/1.0\r\nConnection: keep-alive\r\nHost: " + serverName + "\r\n\r\n",
		"HTTP/1.0 with TE":        "POST /first HTTP/1.0\r\nHost: " + serverName + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"CONNECT":                 "CONNECT " + serverName + ":443 HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n",
		"TRACE":                   "TRACE / HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n",
		"CRLF in the target":      "GET /first%0d%0aX:%20y HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n",
		"a space in the target":   "GET /first x HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n",
		"h2c":                     get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
		"a list of upgrades":      get + "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
		"h2c among words":         get + "Connection: Upgrade\r\nUpgrade: iroh h2c/1\r\n\r\n",
		"two upgrades":            get + "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
		"upgrade with a body":     plain + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nabc",
		"upgrade of HTTP/1.0":     "GET /first HTTP/1.0\r\nHost: " + serverName + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"upgrade without meaning": get + "Upgrade: websocket\r\n\r\n",
		"upgrade to 8 bits":       get + "Connection: Upgrade\r\nUpgrade: w\xe9bsocket\r\n\r\n",
		"upgrade refused":         get + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"expect":                  plain + "Expect: 200-ok\r\n\r\nabc",
		"two hosts":               get + "Host: elsewhere.example\r\n\r\n",
		"hop by hop":              get + "Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\r\n",
	} {
		p, upstream := newTap(t)
		g := putBehind(t, upstream, nil)
		out := g.raw(first + inner + "GET /third HTTP/1.1\r\nHost: " + serverName + "\r\nConnection: close\r\n\r\n")
		g.stop()
		p.mu.Lock()
		requests := p.requests
		p.mu.Unlock()
		heard := p.heard.String()
		if codes := statuses(out); len(codes) == 0 || len(requests) > len(codes) || len(heads.FindAllString(heard, -1)) > len(codes) {
			t.Errorf("%s: %q, and the site read %q as %q", name, codes, heard, requests)
		}
		if bothEnds.MatchString(strings.SplitN(heard, "\r\n\r\n", 2)[0]) {
			t.Errorf("%s: the site read %q", name, heard)
		}
		for _, bad := range []string{"\r\n ", "\r\n\t", "Upgrade: h2c", ", h2c", "HTTP2-Settings", "X-Hop", "Proxy-", "Keep-Alive", "Forwarded-For: 192", "Te: gzip", "\x00"} {
			if strings.Contains(heard, bad) {
				t.Errorf("%s: the site read %q", name, heard)
			}
		}
		if strings.Contains(strings.ReplaceAll(heard, "\r\n", ""), "\r") {
			t.Errorf("%s: a bare CR in %q", name, heard)
		}
	}
}

// TestNothingIsSmuggledOnHTTP2: what HTTP/2 can say in a field, and HTTP/1.1
// would read as more than one, does not reach the site.
func TestNothingIsSmuggledOnHTTP2(t *testing.T) {
	for name, edit := range map[string]func(fields map[string]string){
		"space in the method":    func(f map[string]string) { f[":method"] = "GET /smuggled HTTP/1.1" },
		"CRLF in the method":     func(f map[string]string) { f[":method"] = "GET / HTTP/1.1\r\nX: y" },
		"empty method":           func(f map[string]string) { f[":method"] = "" },
		"space in the path":      func(f map[string]string) { f[":path"] = "/ HTTP/1.1" },
		"space in the query":     func(f map[string]string) { f[":path"] = "/?a HTTP/1.1" },
		"CRLF in the path":       func(f map[string]string) { f[":path"] = "/ HTTP/1.1\r\nX: y" },
		"LF in the query":        func(f map[string]string) { f[":path"] = "/?\nX: y" },
		"DEL in the query":       func(f map[string]string) { f[":path"] = "/?\x7f" },
		"path that is none":      func(f map[string]string) { f[":path"] = "x" },
		"another host":           func(f map[string]string) { f[":authority"] = "elsewhere.example" },
		"space in the host":      func(f map[string]string) { f[":authority"] = serverName + " x" },
		"CRLF in a value":        func(f map[string]string) { f["x"] = "a\r\nContent-Length: 5" },
		"LF in a value":          func(f map[string]string) { f["x"] = "a\ny" },
		"NUL in a value":         func(f map[string]string) { f["x"] = "a\x00" },
		"colon in a name":        func(f map[string]string) { f["x: y\r\nz"] = "a" },
		"space in a name":        func(f map[string]string) { f["content-length "] = "5" },
		"transfer-encoding":      func(f map[string]string) { f["transfer-encoding"] = "chunked" },
		"connection":             func(f map[string]string) { f["connection"] = "x" },
		"upgrade":                func(f map[string]string) { f["upgrade"] = "websocket" },
		"a length, but no body":  func(f map[string]string) { f["content-length"] = "5" },
		"a length that is none":  func(f map[string]string) { f["content-length"] = "+0" },
		"a scheme with a target": func(f map[string]string) { f[":scheme"] = "https://elsewhere.example/?" },
		"TE":                     func(f map[string]string) { f["te"] = "chunked" },
	} {
		p, upstream := newTap(t)
		g := putBehind(t, upstream, nil)
		fields := map[string]string{":method": "GET", ":scheme": "https", ":authority": serverName, ":path": "/"}
		edit(fields)
		status := g.rawHTTP2(fields)
		g.stop()
		heard := p.heard.String()
		want := map[string]string{ // harmless, as the gateway says it
			"space in the path":     "GET /%20HTTP/1.1 HTTP/1.1\r\n",
			"a length, but no body": "GET / HTTP/1.1\r\n",
			"a length that is none": "GET / HTTP/1.1\r\n",
		}[name]
		if (status == "200") != (want != "") || !strings.HasPrefix(heard, want) || want == "" && heard != "" || strings.Contains(heard, "Content-Length") {
			t.Errorf("%s: %q, and the site read %q", name, status, heard)
		}
	}
}

// rawHTTP2 sends one request and returns the status of the response; empty when
// there is none.
func (g *gateway) rawHTTP2(fields map[string]string) string {
	g.t.Helper()
	c := g.dial(serverName, "h2")
	defer c.Close()
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, pseudo := range []bool{true, false} { // these come first
		for name, value := range fields {
			if strings.HasPrefix(name, ":") == pseudo {
				enc.WriteField(hpack.HeaderField{Name: name, Value: value})
			}
		}
	}
	io.WriteString(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.WriteSettings()
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
	for {
		switch frame, err := framer.ReadFrame(); frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		default:
			if err != nil {
				return ""
			}
		}
	}
}

// TestGoneAtOnce: clients that take back what they ask for, in the same moment,
// cost themselves their answers, and nobody anything else.
func TestGoneAtOnce(t *testing.T) {
	g := newSite(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	cl := g.client(true)
	get(t, cl, "/") // so that there is a connection, which they all use
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := range 300 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%50)*20*time.Microsecond)
				r, err := http.NewRequestWithContext(ctx, "GET", "https://"+serverName+"/", nil)
				if err != nil {
					t.Error(err)
				}
				if res, err := cl.Do(r); err == nil {
					res.Body.Close()
				}
				cancel()
			}
		})
	}
	clients.Wait()
	for _, cl := range []*http.Client{cl, g.client(true)} {
		if r, body := get(t, cl, "/"); r.StatusCode != 200 || body != "hello" {
			t.Errorf("%s %q", r.Status, body)
		}
	}
}
