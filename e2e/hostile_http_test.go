package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// statuses returns the status codes in a stream of HTTP/1 responses.
func statuses(out string) (codes []string) {
	for _, m := range statusLine.FindAllStringSubmatch(out, -1) {
		codes = append(codes, m[1])
	}
	return codes
}

// statusLine can stand right behind a body.
var statusLine = regexp.MustCompile(`HTTP/1\.[01] ([0-9]{3})`)

// twofold are requests that two servers could take for different ones.
func twofold(path string) map[string]string {
	post := "POST " + path + " HTTP/1.1\r\nHost: localhost\r\n"
	get := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n"
	return map[string]string{
		"CL and TE":                     post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"TE and CL":                     post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"CL and TE on GET":              get + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"TE twice":                      post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"TE of a list":                  post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"TE unknown":                    post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"TE with VT":                    post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"TE identity":                   post + "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
		"TE with a space before colon":  post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"TE in HTTP/1.0":                "POST " + path + " HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunked":                       post + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a chunk of -1":                 post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
		"a chunk of 0x5":                post + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n",
		"a chunk of 2^64":               post + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nabcde\r\n0\r\n\r\n",
		"a chunk without end":           post + "Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n0\r\n\r\n",
		"a chunk extension with LF":     post + "Transfer-Encoding: chunked\r\n\r\n5;x\nabcde\r\n0\r\n\r\n",
		"trailers":                      post + "Transfer-Encoding: chunked\r\n\r\n0\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"two lengths":                   post + "Content-Length: 0\r\nContent-Length: 50\r\n\r\n",
		"a list of lengths":             post + "Content-Length: 0, 50\r\n\r\n",
		"length +0":                     post + "Content-Length: +0\r\n\r\n",
		"length -1":                     post + "Content-Length: -1\r\n\r\n",
		"length 0x0":                    post + "Content-Length: 0x0\r\n\r\n",
		"length 2^64":                   post + "Content-Length: 18446744073709551616\r\n\r\n",
		"length with a space":           post + "Content-Length : 0\r\n\r\n",
		"obs-fold":                      get + "X: a\r\n b\r\n\r\n",
		"obs-fold with a tab":           get + "X: a\r\n\tb\r\n\r\n",
		"obs-fold of spaces alone":      get + "X: a\r\n   \r\n\r\n",
		"obs-fold behind a bare LF":     get + "X: a\n b\r\n\r\n",
		"obs-fold in TE":                post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
		"obs-fold first":                "GET " + path + " HTTP/1.1\r\n Host: localhost\r\nHost: localhost\r\n\r\n",
		"bare CR in a value":            get + "X: a\rb\r\n\r\n",
		"bare CR before a field":        get + "X: a\rContent-Length: 10\r\n\r\n",
		"NUL in a value":                get + "X: a\x00b\r\n\r\n",
		"NUL in a name":                 get + "X\x00: a\r\n\r\n",
		"NUL in the path":               "GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"a space before the colon":      get + "X : a\r\n\r\n",
		"a name with a space":           get + "X Y: a\r\n\r\n",
		"no colon":                      get + "X\r\n\r\n",
		"an empty name":                 get + ": a\r\n\r\n",
		"no host":                       "GET " + path + " HTTP/1.1\r\n\r\n",
		"two hosts":                     get + "Host: elsewhere.example\r\n\r\n",
		"a host with a space":           "GET " + path + " HTTP/1.1\r\nHost: local host\r\n\r\n",
		"no version":                    "GET " + path + "\r\nHost: localhost\r\n\r\n",
		"an unknown version":            "GET " + path + " HTTP/9.9\r\nHost: localhost\r\n\r\n",
		"HTTP/1.0":                      "GET " + path + " HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
		"a method with a bad letter":    "G(T " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"a request that is no request":  "\r\n\r\n\r\nx\r\n\r\n",
		"SMTP":                          "EHLO localhost\r\nMAIL FROM:<" + alice + ">\r\n\r\n",
		"IMAP":                          "a1 LOGIN alice x\r\n\r\n",
		"the preface of h2 on HTTP/1.1": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"h2c":                           get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	}
}

func TestHostileHTTP(t *testing.T) {
	g := newGateway(t, "domains: [localhost, mail.example.test]\n")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	const second = "GET /healthz?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
	get := "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"

	for name, first := range twofold("/healthz") {
		t.Run("one response, then close: "+name, func(t *testing.T) {
			t.Parallel()
			p := g.in(t).httpOf()
			p.send(first + second)
			out := p.over(12*time.Second + slack)
			if codes := statuses(out); len(codes) != 1 {
				t.Errorf("%q: %.500q", codes, out)
			}
		})
	}

	t.Run("path traversal, strange targets, and no open redirect", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, target := range []string{
			"/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", `/..\..\etc\passwd`, "/..%5c..%5c", "/./healthz", "/healthz/..",
			"//elsewhere.example/", "//elsewhere.example/..", "/\\elsewhere.example", "/%5celsewhere.example", "/%00", "/%0d%0aX:%20y", "/healthz%00", "/%zz", "*",
			"http://elsewhere.example/healthz", "https://localhost@elsewhere.example/", "elsewhere.example:443", "/healthz/../../x", "/nothing", "/metrics", "/debug/pprof/", "/admin", "/v1/accounts",
		} {
			for _, method := range []string{"GET", "POST", "CONNECT", "OPTIONS", "TRACE", "PROPFIND"} {
				p := g.httpOf()
				p.send(method + " " + target + " HTTP/1.1\r\nHost: localhost\r\nX-Secret: echo\r\nConnection: close\r\n\r\n")
				out := p.over(12 * time.Second)
				codes := statuses(out)
				if len(codes) != 1 || codes[0][0] != '4' && codes[0] != "501" {
					t.Errorf("%s %s: %.300q", method, target, out)
				}
				if strings.Contains(out, "root:") || strings.Contains(out, "X-Secret") || strings.Contains(out, "\nX: y") || strings.Contains(out, "Location:") {
					t.Errorf("%s %s: %.300q", method, target, out)
				}
			}
		}
	})

	t.Run("hosts of strangers, and a host that is not the server name", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, v := range []struct{ sni, host string }{
			{"localhost", "elsewhere.example"}, {"localhost", "mail.example.test"}, {"mail.example.test", "localhost"}, {"localhost", "127.0.0.1"},
			{"", "elsewhere.example"}, {"localhost", "localhost.elsewhere.example"}, {"localhost", "localhost:x"}, {"localhost", ""}, {"localhost", "localhost\x00"},
		} {
			config := g.tlsConfig("", "http/1.1")
			config.ServerName, config.InsecureSkipVerify = v.sni, true
			p := g.secure(g.shared, config)
			p.send("GET /healthz HTTP/1.1\r\nHost: " + v.host + "\r\nConnection: close\r\n\r\n")
			out := p.over(12 * time.Second)
			if codes := statuses(out); len(codes) != 1 || codes[0][0] != '4' {
				t.Errorf("%q by %q: %.200q", v.host, v.sni, out)
			}
		}
	})

	t.Run("headers of every response", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, request := range []string{"GET / HTTP/1.1", "GET /healthz HTTP/1.1", "GET /nothing HTTP/1.1", "POST / HTTP/1.1"} {
			config := g.tlsConfig("", "http/1.1")
			config.ServerName, config.InsecureSkipVerify = "mail.example.test", true
			p := g.secure(g.shared, config)
			p.send(request + "\r\nHost: mail.example.test\r\nOrigin: https://elsewhere.example\r\nConnection: close\r\n\r\n")
			out := p.over(12 * time.Second)
			for _, want := range []string{"\r\nContent-Security-Policy: ", "frame-ancestors 'none'", "\r\nX-Content-Type-Options: nosniff\r\n",
				"\r\nStrict-Transport-Security: max-age=", "\r\nCross-Origin-Opener-Policy: same-origin\r\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("%s: no %q in %.1000q", request, want, out)
				}
			}
			for _, bad := range []string{"unsafe-inline", "Access-Control-Allow", "\r\nServer:", "Set-Cookie"} {
				if strings.Contains(out, bad) {
					t.Errorf("%s: %q in %.1000q", request, bad, out)
				}
			}
		}
	})

	for name, head := range map[string]string{
		"a URL of 2 MB":    "GET /" + strings.Repeat("x", 2<<20) + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"cookies of 2 MB":  get + "Cookie: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
		"50,000 fields":    get + strings.Repeat("X: y\r\n", 50000) + "\r\n",
		"a name of 2 MB":   get + strings.Repeat("X", 2<<20) + ": y\r\n\r\n",
		"a method of 2 MB": strings.Repeat("G", 2<<20) + " / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		t.Run("431: "+name, func(t *testing.T) {
			t.Parallel()
			p := g.in(t).httpOf()
			go p.send(head)
			out := p.over(12 * time.Second)
			if codes := statuses(out); len(codes) != 1 || codes[0] != "431" {
				t.Errorf("%q: %.200q", codes, out)
			}
		})
	}

	for name, head := range map[string]string{"headers": get + "X: ", "a request line": "GET /", "nothing": "", "no ALPN": "GET / HTTP/1.1\r\n"} {
		t.Run("slow ones end in time: "+name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			config := g.tlsConfig("", "http/1.1")
			if name == "no ALPN" {
				config.NextProtos = nil
			}
			p := g.secure(g.shared, config)
			p.send(head)
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				if head == "" {
					return
				}
				for range time.Tick(300 * time.Millisecond) {
					if _, err := io.WriteString(p.Conn, "x"); err != nil {
						return
					}
				}
			}()
			p.over(12*time.Second + slack)
			p.Close()
			<-gone
		})
	}
	t.Cleanup(func() {
		g.in(t).alive(pemFile)
		if rss := g.proc("VmHWM"); rss > 300<<10 {
			t.Errorf("the gateway grew to %d kB", rss)
		}
	})
}

// flooder speaks HTTP/2 in frames.
type flooder struct {
	t testing.TB
	*peer
	*http2.Framer
	buf    bytes.Buffer // of the header encoder
	hpack  *hpack.Encoder
	stream uint32
	path   string // of what open asks for
}

func (g *gateway) flooder() *flooder {
	g.t.Helper()
	p := g.secure(g.shared, g.tlsConfig("", "h2"))
	f := &flooder{t: g.t, peer: p, Framer: http2.NewFramer(p.Conn, p.r)}
	f.hpack = hpack.NewEncoder(&f.buf)
	f.stream, f.path = 1, "/healthz"
	f.send(http2.ClientPreface)
	_ = f.WriteSettings()
	return f
}

// headers encodes a request for a path.
func (f *flooder) headers(method, path string, more ...hpack.HeaderField) []byte {
	f.buf.Reset()
	for _, field := range append([]hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "localhost"}, {Name: ":path", Value: path}}, more...) {
		_ = f.hpack.WriteField(field)
	}
	return slices.Clone(f.buf.Bytes())
}

// open begins a stream.
func (f *flooder) open(method string, end bool) (id uint32, err error) {
	id = f.stream
	f.stream += 2
	return id, f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.headers(method, f.path), EndStream: end, EndHeaders: true})
}

// floods are what somebody sends over and over again, each with its number.
func floods() map[string]func(f *flooder, i int) error {
	return map[string]func(f *flooder, i int) error{
		"rapid reset": func(f *flooder, _ int) error {
			id, err := f.open("GET", true)
			if err != nil {
				return err
			}
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"made you reset": func(f *flooder, _ int) error {
			id, err := f.open("POST", false)
			if err != nil {
				return err
			}
			return f.WriteWindowUpdate(id, 1<<31-1)
		},
		"streams": func(f *flooder, _ int) error {
			_, err := f.open("POST", false)
			return err
		},
		"SETTINGS": func(f *flooder, _ int) error { return f.WriteSettings() },
		"SETTINGS of 6": func(f *flooder, i int) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(i)})
		},
		"PING": func(f *flooder, _ int) error { return f.WritePing(false, [8]byte{}) },
		"PRIORITY": func(f *flooder, i int) error {
			return f.WritePriority(uint32(2*i+1), http2.PriorityParam{StreamDep: uint32(2*i + 3)})
		},
		"WINDOW_UPDATE": func(f *flooder, _ int) error { return f.WriteWindowUpdate(0, 1) },
		"unknown type":  func(f *flooder, i int) error { return f.WriteRawFrame(0xff, 0, uint32(i), []byte("x")) },
		"empty DATA": func(f *flooder, i int) error {
			if i == 0 {
				_, err := f.open("POST", false)
				return err
			}
			return f.WriteData(1, false, nil)
		},
		"empty CONTINUATION": func(f *flooder, i int) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.headers("GET", f.path)})
			}
			return f.WriteContinuation(1, false, nil)
		},
		"CONTINUATION": func(f *flooder, i int) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.headers("GET", f.path)})
			}
			return f.WriteContinuation(1, false, bytes.Repeat([]byte("\x00\x01a\x01b"), 3000))
		},
		"HPACK bomb": func(f *flooder, i int) error {
			big := hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 3900)}
			fields := slices.Repeat([]hpack.HeaderField{big}, 3000)
			id := f.stream
			f.stream += 2
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.headers("GET", f.path, fields...), EndStream: true, EndHeaders: true})
		},
		"zero window": func(f *flooder, i int) error {
			if i == 0 {
				return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			}
			_, err := f.open("GET", true)
			return err
		},
	}
}

// withstand has a flood of requests for a path come, and others served meanwhile.
// before is the memory that the gateway took, in kB.
func (g *gateway) withstand(path string, flood func(f *flooder, i int) error, before int) {
	t := g.t
	f := g.flooder()
	f.path = path
	_ = f.SetDeadline(time.Now().Add(2 * time.Second))
	done := make(chan int)
	go func() {
		n := 0
		for n < 100000 && flood(f, n) == nil {
			n++
		}
		done <- n
	}()
	others := newHTTPClient(g)
	for range 5 {
		start := time.Now()
		r, err := others.Get("https://localhost:" + port(g.shared) + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if took := time.Since(start); r.StatusCode >= 400 || took > 5*time.Second {
			t.Errorf("others get %s after %v", r.Status, took)
		}
	}
	n := <-done
	if after := g.proc("VmRSS"); after > before+128<<10 {
		t.Errorf("after %d the gateway grew from %d to %d kB", n, before, after)
	}
	f.Close()
}

func TestHostileHTTP2(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	g.alive(pemFile)
	before := g.proc("VmRSS")

	for name, flood := range floods() {
		t.Run("a flood is bounded, and others are served: "+name, func(t *testing.T) {
			g.in(t).withstand("/healthz", flood, before)
		})
	}

	t.Run("requests that are none", func(t *testing.T) {
		g := g.in(t)
		for name, fields := range map[string][]hpack.HeaderField{
			"upper case":      {{Name: "X", Value: "y"}},
			"connection":      {{Name: "connection", Value: "close"}},
			"TE":              {{Name: "transfer-encoding", Value: "chunked"}},
			"CRLF in a value": {{Name: "x", Value: "a\r\nb"}},
			"NUL in a value":  {{Name: "x", Value: "a\x00b"}},
			"colon in a name": {{Name: "x:y", Value: "z"}},
			"a late pseudo":   {{Name: "x", Value: "y"}, {Name: ":path", Value: "/"}},
			"an unknown one":  {{Name: ":x", Value: "y"}},
			"another host":    {{Name: "host", Value: "elsewhere.example"}},
		} {
			f := g.flooder()
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.headers("GET", "/healthz", fields...), EndStream: true, EndHeaders: true})
			if status := f.status(); status == "200" && name != "another host" {
				t.Errorf("%s: 200", name)
			}
		}
		f := g.flooder()
		f.buf.Reset()
		for _, field := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "elsewhere.example"}, {Name: ":path", Value: "/healthz"}} {
			_ = f.hpack.WriteField(field)
		}
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.buf.Bytes(), EndStream: true, EndHeaders: true})
		if status := f.status(); status != "421" {
			t.Errorf("a foreign authority: %s", status)
		}
	})
	g.alive(pemFile)
}

// status waits for the status of stream 1; it is empty when there is none.
func (f *flooder) status() (status string) {
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return fmt.Sprint(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}

// newHTTPClient is somebody who has nothing to do with what is going on.
func newHTTPClient(g *gateway) *http.Client {
	transport := &http.Transport{TLSClientConfig: g.tlsConfig(""), ForceAttemptHTTP2: true, DisableKeepAlives: true}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience, CheckRedirect: stay}
}
