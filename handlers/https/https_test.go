package https_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"posthorn/handlers/https"
	"posthorn/mux"
)

func TestHealth(t *testing.T) {
	ready := true
	g := start(t, func(s *https.Server) { s.Ready = func() bool { return ready } })
	for _, h2 := range []bool{false, true} {
		cl := g.client(h2)
		ready = true
		r, body := get(t, cl, "/healthz")
		if r.StatusCode != 200 || body != "ok\n" || (r.ProtoMajor == 2) != h2 || r.TLS == nil {
			t.Errorf("got %v %q over %s", r.Status, body, r.Proto)
		}
		ready = false
		if r, _ = get(t, cl, "/healthz"); r.StatusCode != 503 {
			t.Errorf("got %v when not ready", r.Status)
		}
		if r, _ = get(t, cl, "/nowhere"); r.StatusCode != 404 {
			t.Errorf("got %v for nothing", r.Status)
		}
		r, err := cl.Post("https://"+serverName+"/healthz", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Body.Close(); r.StatusCode != 405 {
			t.Errorf("got %v for POST", r.Status)
		}
	}
}

func TestHeaders(t *testing.T) {
	g := start(t, nil)
	for _, path := range []string{"/", "/healthz", "/nowhere"} {
		r, _ := get(t, g.client(true), path)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
			"X-Frame-Options": "DENY", "Strict-Transport-Security": "max-age=63072000",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		csp := r.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; ") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
	c := g.dial("localhost", "http/1.1")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n")
	if b, _ := io.ReadAll(c); strings.Contains(string(b), "Strict-Transport") || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
		t.Errorf("localhost: got %q", b)
	}
}

func TestPage(t *testing.T) {
	g := start(t, func(s *https.Server) {
		s.Endpoints = []https.Endpoint{
			{Protocol: "IMAP", Host: "imap.<b>", Port: 443, Security: "TLS"},
			{Protocol: "Submission", Host: "smtp.example.org", Port: 443, Security: "TLS"},
			{Protocol: "IMAP", Host: "example.org", Port: 993, Security: "TLS"},
		}
	})
	r, body := get(t, g.client(true), "/")
	if !strings.Contains(body, "<code>imap.&lt;b&gt;</code>") || !strings.Contains(body, "<code>443</code>") {
		t.Errorf("got %s", body)
	}
	if strings.Count(body, "<h2>IMAP</h2>") != 1 || strings.Index(body, ">993<") > strings.Index(body, "<h2>Submission</h2>") {
		t.Errorf("not grouped by protocol: %s", body)
	}
	_, style, _ := strings.Cut(body, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	hash := sha256.Sum256([]byte(style))
	if !strings.Contains(r.Header.Get("Content-Security-Policy"), "'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+"'") {
		t.Errorf("%q does not allow the page's style", r.Header.Get("Content-Security-Policy"))
	}
	if strings.Contains(body, "<script") || strings.Contains(body, "src=") || strings.Contains(body, "href=") {
		t.Errorf("the page loads something: %s", body)
	}
}

// A client without ALPN speaks HTTP/1.1, and handlers see its TLS state.
func TestSniffed(t *testing.T) {
	g := start(t, func(s *https.Server) {
		s.Mount("GET /tls", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %v", r.TLS.ServerName, https.Conn(r).Remote.String() == r.RemoteAddr)
		}))
	})
	c := g.dial(serverName)
	io.WriteString(c, "GET /tls HTTP/1.1\r\nHost: "+serverName+"\r\nConnection: close\r\n\r\n")
	if b, _ := io.ReadAll(c); !strings.HasSuffix(string(b), "\r\n\r\n"+serverName+" true") {
		t.Errorf("got %q", b)
	}
}

func TestDirected(t *testing.T) {
	g := start(t, nil)
	for _, c := range []struct{ sni, request, want string }{
		{serverName, "GET /healthz HTTP/1.1\r\nHost: " + serverName, "200"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: MAIL.example.org.:443", "200"},
		{serverName, "GET https://" + serverName + "/healthz HTTP/1.1\r\nHost: evil.test", "200"},
		{serverName, "GET https://evil.test/healthz HTTP/1.1\r\nHost: " + serverName, "421"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: localhost", "421"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: " + serverName + ":443", "200"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: " + serverName + ":x", "400"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: [" + serverName + "]", "400"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: [" + serverName + "]:443", "400"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: [" + serverName, "400"},
		{serverName, "GET /healthz HTTP/1.0\r\nHost: " + serverName + "]", "400"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: " + serverName + ":", "200"}, // RFC 3986 section 3.2.3
		{serverName, "GET /healthz HTTP/1.1\r\nHost: evil.test", "421"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1", "421"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: ", "400"},
		{serverName, "GET /healthz HTTP/1.1\r\nX: y", "400"},
		{serverName, "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b", "400"},
		{serverName, "GET /healthz HTTP/1.0", "200"},
		{"evil.test", "GET /healthz HTTP/1.1\r\nHost: evil.test", "421"},
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:8443", "200"}, // crypto/tls sends no SNI
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: [::1]:8443", "200"},
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: [::1]", "200"},
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: ::1", "400"},
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: ::1:8443", "400"},
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: [127.0.0.1]", "400"},
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: [fe80::1%25eth0]", "400"},
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: [localhost]:8443", "400"},
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: localhost", "200"},
		{"127.0.0.1", "GET /healthz HTTP/1.1\r\nHost: evil.test", "421"},
		{serverName, "GET /../healthz HTTP/1.1\r\nHost: " + serverName, "400"},
		{serverName, "GET /%2e%2e/healthz HTTP/1.1\r\nHost: " + serverName, "400"},
		{serverName, "GET /a/..%2fhealthz HTTP/1.1\r\nHost: " + serverName, "400"},
		{serverName, "GET //evil.test/%2e%2e HTTP/1.1\r\nHost: " + serverName, "400"},
		{serverName, "GET /a%5c..%5cb HTTP/1.1\r\nHost: " + serverName, "400"},
		{serverName, "GET /a%00 HTTP/1.1\r\nHost: " + serverName, "400"},
		{serverName, "CONNECT " + serverName + ":443 HTTP/1.1\r\nHost: " + serverName, "405"},
		{serverName, "TRACE / HTTP/1.1\r\nHost: " + serverName, "405"},
		{serverName, "OPTIONS * HTTP/1.1\r\nHost: " + serverName, "400"},
	} {
		conn := g.dial(c.sni, "http/1.1")
		io.WriteString(conn, c.request+"\r\nConnection: close\r\n\r\n")
		b, _ := io.ReadAll(conn)
		if got := statuses(string(b)); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s, %q: got %q, want %s", c.sni, c.request, b, c.want)
		}
	}
}

// After a request that two readers might end in different places, nothing on
// the connection is a request.
func TestSmuggling(t *testing.T) {
	g := start(t, nil)
	host := "Host: " + serverName + "\r\n"
	const next = "GET /healthz HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n"
	for name, request := range map[string]string{
		"CL and TE":        "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"TE":               "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two CL":           "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
		"odd TE":           "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"two TE":           "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"negative CL":      "POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n",
		"signed CL":        "POST / HTTP/1.1\r\n" + host + "Content-Length: +5\r\n\r\n12345",
		"bad chunk":        "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
		"space and colon":  "POST / HTTP/1.1\r\n" + host + "Content-Length : 5\r\n\r\n12345",
		"NUL":              "GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n",
		"HTTP/1.0":         "GET / HTTP/1.0\r\nConnection: keep-alive\r\n" + host + "\r\n",
		"submission":       "EHLO secret\r\n\r\n",
		"IMAP":             "a1 LOGIN secret secret\r\n\r\n",
		"IMAP and version": "a1 secret HTTP/9.9\r\n\r\n",
		"garbage":          "\x16\x03\x01secret\r\n\r\n",
	} {
		got := g.raw(request + next)
		if n := len(statuses(got)); n != 1 || strings.Contains(got, "ok\n") || strings.Contains(got, "secret") {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestTooLong(t *testing.T) {
	g := start(t, nil)
	for name, request := range map[string]string{
		"target":  "GET /" + strings.Repeat("a", 2<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"cookie":  "GET / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("a", 2<<20) + "\r\n\r\n",
		"headers": "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 50_000) + "\r\n",
	} {
		if got := g.raw(request); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// waiting mounts a handler at /wait that says when it runs and ends when told.
func waiting(running chan<- struct{}, end <-chan struct{}) func(*https.Server) {
	return func(s *https.Server) {
		s.Mount("/wait", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			running <- struct{}{}
			<-end
			io.WriteString(w, "done")
		}))
	}
}

func TestDrainLetsRequestsFinish(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		running, end := make(chan struct{}), make(chan struct{})
		g := start(t, waiting(running, end))
		idle, cl := g.client(h2), g.client(h2)
		get(t, idle, "/healthz")
		fresh := g.dial(serverName, "http/1.1") // no request ever comes
		body := make(chan string)
		go func() {
			r, err := cl.Get("https://" + serverName + "/wait")
			if err != nil {
				body <- err.Error()
				return
			}
			defer r.Body.Close()
			b, _ := io.ReadAll(r.Body)
			body <- string(b)
		}()
		<-running
		down := make(chan error)
		go func() { down <- g.Shutdown(context.Background()) }()
		// Reset, if the server had not seen the end of the handshake yet.
		if b, err := io.ReadAll(fresh); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a fresh connection reads %q, %v", b, err)
		}
		close(end)
		if got := <-body; got != "done" {
			t.Errorf("HTTP/2 %v: got %q", h2, got)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
	}
}

func TestEvicted(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		running, end := make(chan struct{}, 1), make(chan struct{})
		g := start(t, waiting(running, end))
		failed := make(chan error)
		go func() {
			_, err := g.client(h2).Get("https://" + serverName + "/wait")
			failed <- err
		}()
		<-running
		g.Close(func(mux.Info) bool { return true }, mux.ErrEvicted)
		if err := <-failed; err == nil {
			t.Error("the request of an evicted connection succeeds")
		}
		close(end)
	}
}

func TestPanicCostsOneConnection(t *testing.T) {
	g := start(t, func(s *https.Server) {
		s.Mount("/panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("as asked") }))
	})
	for _, h2 := range []bool{false, true} {
		cl := g.client(h2)
		if r, err := cl.Get("https://" + serverName + "/panic"); err == nil {
			r.Body.Close()
			t.Errorf("got %v", r.Status)
		}
		if r, _ := get(t, cl, "/healthz"); r.StatusCode != 200 {
			t.Errorf("got %v afterwards", r.Status)
		}
	}
	if log := g.log.String(); strings.Count(log, "as asked") != 2 || !strings.Contains(log, "https_test.go") {
		t.Errorf("the log has no stack: %s", log)
	}
}

// A handler that hijacks keeps the connection until it returns.
func TestHijack(t *testing.T) {
	g := start(t, func(s *https.Server) {
		s.Mount("/echo", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			line, _ := rw.ReadString('\n')
			rw.WriteString("echo " + line)
			rw.Flush()
		}))
	})
	c := g.dial(serverName, "http/1.1")
	io.WriteString(c, "GET /echo HTTP/1.1\r\nHost: "+serverName+"\r\n\r\n")
	io.WriteString(c, "hello\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "echo hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestBusy(t *testing.T) {
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(new(https.Server).Busy()))), nil)
	if err != nil || r.StatusCode != 503 || !r.Close {
		t.Fatalf("got %v, %v", r, err)
	}
	if b, err := io.ReadAll(r.Body); err != nil || len(b) == 0 {
		t.Errorf("got %q, %v", b, err)
	}
}
