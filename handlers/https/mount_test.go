package https_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"posthorn/handlers/https"
	"posthorn/handlers/https/sites"
)

// What is mounted is found on the hosts that it is for, however clients write
// them, and everything else is the site's.
func TestMountedOnHosts(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "site %s %s", r.Host, r.RequestURI)
	}))
	t.Cleanup(site.Close)
	behind, err := sites.New([]sites.Site{{Upstream: &sites.Upstream{URL: site.URL}}, {Hosts: []string{"admin.example.test"}, Nobody: true}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(behind.Close)
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "own %s %s %s", r.Host, r.URL.Path, r.PathValue("x"))
	})
	mount := func(s *https.Server) {
		s.Serves = func(host string) bool { return host != "nobody.test" } // tls.unknown_name: default
		s.Named = func(host string) bool { return strings.HasSuffix(host, "example.test") }
		s.Mount("GET _relay.example.test/settings", own)
		s.Mount("GET _relay.example.test/of/{x}", own)
		s.MountAnyCase("POST _relay.example.test/any/case.xml", own)
		s.Mount("GET /everywhere", own)
	}
	for _, c := range []struct{ with, name, method, host, path, want string }{
		{"site", "_relay.example.test", "GET", "_relay.example.test", "/settings", "own _relay.example.test /settings "},
		{"site", "_relay.example.test", "GET", "_RELAY.Example.test.:443", "/settings", "own _relay.example.test:443 /settings "},
		{"site", "_relay.example.test", "GET", "_RELAY.example.test", "/of/Me", "own _relay.example.test /of/Me Me"},
		{"site", "_relay.example.test", "POST", "_relay.example.test", "/settings", "Method Not Allowed\n"},
		{"site", "_relay.example.test", "POST", "_relay.example.test", "/Any/CASE.xml", "own _relay.example.test /any/case.xml "},
		{"site", "_relay.example.test", "POST", "_relay.example.test", "/any%2FCase.XML", "site _relay.example.test /any%2FCase.XML"},
		{"site", "_relay.example.test", "GET", "_relay.example.test", "/Settings", "site _relay.example.test /Settings"},
		{"site", "other.example.test", "GET", "other.example.test", "/settings", "site other.example.test /settings"},
		{"site", "other.example.test", "GET", "Other.example.test", "/everywhere", "own other.example.test /everywhere "},
		{"site", "other.example.test", "POST", "Other.example.test", "/Any/Case.xml", "site Other.example.test /Any/Case.xml"},
		{"site", "stranger.test", "GET", "stranger.test", "/everywhere", "site stranger.test /everywhere"},
		{"site", "stranger.test", "GET", "stranger.test", "/healthz", "site stranger.test /healthz"},
		{"site", "admin.example.test", "GET", "admin.example.test", "/everywhere", "own admin.example.test /everywhere "},
		{"site", "admin.example.test", "GET", "admin.example.test", "/elsewhere", "404 page not found\n"},
		{"nothing", "stranger.test", "GET", "stranger.test", "/healthz", "Misdirected Request\n"},
		{"nothing", "stranger.test", "GET", "stranger.test", "/", "Misdirected Request\n"},
		{"nothing", "nobody.test", "GET", "nobody.test", "/everywhere", "Misdirected Request\n"},
		{"nothing", "other.example.test", "GET", "other.example.test", "/settings", "404 page not found\n"},
		{"nothing", "other.example.test", "GET", "other.example.test", "/healthz", "ok\n"},
		{"nothing", "127.0.0.1", "GET", "127.0.0.1", "/healthz", "ok\n"},
	} {
		g := start(t, func(s *https.Server) {
			mount(s)
			if c.with == "site" {
				s.Sites = behind
			}
		})
		for _, target := range []string{c.path, "https://" + c.host + c.path} {
			conn, err := tls.Dial("tcp", g.addr, &tls.Config{InsecureSkipVerify: true, ServerName: c.name})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", c.method, target, c.host)
			b, _ := io.ReadAll(conn)
			conn.Close()
			_, body, _ := strings.Cut(string(b), "\r\n\r\n")
			if body != c.want {
				t.Errorf("%s: %s %s for %s: got %q, want %q", c.with, c.method, target, c.host, body, c.want)
			}
		}
		g.stop()
	}
}

// TestBodiesAreBounded: a handler that sets no bound of its own cannot be made to
// read for ever.
func TestBodiesAreBounded(t *testing.T) {
	read := make(chan error, 1)
	g := start(t, func(s *https.Server) {
		s.Mount("POST /swallow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			read <- err
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}))
	})
	for _, h2 := range []bool{false, true} {
		for size, over := range map[int64]bool{4 << 20: false, 4<<20 + 1: true} {
			// It comes without a Content-Length.
			r, err := g.client(h2).Post("https://"+serverName+"/swallow", "text/plain", &zeros{size})
			if err == nil {
				r.Body.Close()
			}
			if got := errors.As(<-read, new(*http.MaxBytesError)); got != over {
				t.Errorf("HTTP/2 %v, %d octets: over the limit %v", h2, size, got)
			}
		}
	}
}
