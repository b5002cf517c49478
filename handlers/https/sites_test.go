package https_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"posthorn/handlers/https"
	"posthorn/handlers/https/sites"
)

// saying is a site that says who it is, and what it was asked.
func saying(t testing.TB, name string) *sites.Upstream {
	t.Helper()
	return &sites.Upstream{URL: serveSite(t, "tcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", name, r.RequestURI)
	}))}
}

// folderOf is a folder with some files.
func folderOf(t testing.TB, files map[string]string) *sites.Folder {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &sites.Folder{Dir: dir}
}

// ask sends one request, on a connection for its host.
func (g *gateway) ask(method, host, target string, fields ...string) *http.Response {
	g.t.Helper()
	c := g.dial(host, "http/1.1")
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n", method, target, host, strings.Join(append(fields, ""), "\r\n"))
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		g.t.Fatalf("%s %s %s: %v", method, host, target, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Errorf("%s %s %s: %v", method, host, target, err)
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return r
}

func body(r *http.Response) string {
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

const otherName, thirdName = "localhost", "_relay.example.org"

// TestWhichSite: the longest path wins, then the site that names the host.
func TestWhichSite(t *testing.T) {
	g := putAllBehind(t, []sites.Site{
		{Upstream: saying(t, "all")},
		{Path: "/shop/", Upstream: saying(t, "shop")},
		{Hosts: []string{otherName}, Upstream: saying(t, "other")},
		{Hosts: []string{otherName}, Path: "/shop/new/", Upstream: saying(t, "new")},
		{Hosts: []string{otherName, thirdName}, Path: "/both/", Upstream: saying(t, "both")},
		{Hosts: []string{thirdName}, Path: "/files/", Folder: folderOf(t, map[string]string{"index.html": "index", "a/b.txt": "b"})},
		{Path: "/gone/", Redirect: &sites.Redirect{To: "https://example.net/x/", KeepPath: true, Status: 301}},
	}, func(s *https.Server) {
		s.Mount("GET /shop/own", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own") }))
	})
	for _, c := range []struct{ host, target, want string }{
		{serverName, "/", "200 all /"},
		{serverName, "/shopping", "200 all /shopping"},
		{serverName, "/shop/", "200 shop /shop/"},
		{serverName, "/shop/a?b", "200 shop /shop/a?b"},
		{serverName, "/shop/own", "200 own"},
		{serverName, "/shop%2fa", "200 shop /shop%2fa"},
		{serverName, "/%73hop/", "200 shop /%73hop/"},
		{serverName, "//shop/", "200 all //shop/"},
		{serverName, "/shop?a=%0d%0a&b=\"", "308 /shop/?a=%0d%0a&b=%22"},
		{serverName, "/shop/new/", "200 shop /shop/new/"},
		{otherName, "/", "200 other /"},
		{otherName, "/shop/", "200 shop /shop/"},
		{otherName, "/shop/new/x", "200 new /shop/new/x"},
		{otherName, "/both/", "200 both /both/"},
		{thirdName, "/both/", "200 both /both/"},
		{serverName, "/both/", "200 all /both/"},
		{thirdName, "/files/", "200 index"},
		{thirdName, "/files/a/b.txt", "200 b"},
		{thirdName, "/files/a", "301 /files/a/"},
		{thirdName, "/files/c", "404 Not Found\n"},
		{thirdName, "/gone/a%20b/%0d%0aX:%20y?q=1", "301 https://example.net/x/a%20b/%0D%0AX:%20y?q=1"},
		{thirdName, "/gone///evil.example/", "301 https://example.net/x/evil.example/"},
		{thirdName, "/gone/%2f%2fevil.example/", "301 https://example.net/x/evil.example/"},
	} {
		r := g.ask("GET", c.host, c.target)
		if got := fmt.Sprintf("%d %s%s", r.StatusCode, r.Header.Get("Location"), body(r)); got != c.want {
			t.Errorf("%s%s: %q, want %q", c.host, c.target, got, c.want)
		}
	}
}

// handed is a server that connections are handed over to. It speaks HTTP/1.1 and
// HTTP/2, and says what each connection began with.
func handed(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %s %d", r.Proto, r.RemoteAddr, r.Header.Get("X-Forwarded-For"), n)
	})}
	served := make(chan struct{})
	pl := &proxyproto.Listener{Listener: ln, Policy: func(net.Addr) (proxyproto.Policy, error) { return proxyproto.REQUIRE, nil },
		ValidateHeader: func(h *proxyproto.Header) error {
			tlvs, err := h.TLVs()
			if err != nil {
				return err
			}
			ssl, ok := tlvparse.FindSSL(tlvs)
			if !ok || !ssl.ClientSSL() {
				t.Error("no TLV for TLS")
			}
			return nil
		}}
	go func() {
		defer close(served)
		server.Serve(pl)
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return ln.Addr().String()
}

// TestHandOver: connections of a host are handed over as they are, those that are
// another's are not, and nothing else is found there.
func TestHandOver(t *testing.T) {
	at := handed(t)
	g := putAllBehind(t, []sites.Site{
		{Upstream: saying(t, "all")},
		{Hosts: []string{otherName}, Handover: &sites.Handover{HTTP1: at, HTTP2: at}},
	}, nil)
	for range 2 {
		r := g.ask("POST", otherName, "/healthz", "X-Forwarded-For: 192.0.2.1", "Content-Length: 0")
		if got := body(r); r.StatusCode != 200 || !strings.HasPrefix(got, "HTTP/1.1 127.0.0.1:") || !strings.HasSuffix(got, " 192.0.2.1 0") {
			t.Errorf("%s %q", r.Status, got)
		}
	}
	c := g.dial("", "http/1.1") // without a name
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", otherName)
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 421 ") {
		t.Errorf("got %q", b)
	}
	if r := g.ask("GET", serverName, "/"); body(r) != "all /" {
		t.Errorf("got %s", r.Status)
	}
}

// TestHandOverDown: 502 while nobody takes over, whatever the protocol.
func TestHandOverDown(t *testing.T) {
	g := putAllBehind(t, []sites.Site{
		{Hosts: []string{serverName}, Handover: &sites.Handover{HTTP1: "127.0.0.1:1", HTTP2: "127.0.0.1:1"}},
	}, nil)
	for _, h2 := range []bool{false, true} {
		for _, path := range []string{"/", "/healthz"} {
			if r, _ := get(t, g.client(h2), path); r.StatusCode != 502 {
				t.Errorf("%s: %s", path, r.Status)
			}
		}
	}
	if log := g.siteLog.String(); strings.Count(log, "\n") != 1 {
		t.Errorf("the log has %s", log)
	}
}
