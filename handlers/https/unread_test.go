package https_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/handlers/https"
	"posthorn/handlers/https/sites"
	"posthorn/loopback"
)

// unreading is a gateway, started in some way, at whose sites and paths nobody reads
// a request's body; hasty is one of the sites.
func unreading(t *testing.T, start func(testing.TB, func(*https.Server)) *gateway, hasty string) *gateway {
	return startBehind(t, start, []sites.Site{
		{Path: "/files/", Folder: folderOf(t, map[string]string{"index.html": "x"})},
		{Path: "/hasty/", Upstream: &sites.Upstream{URL: hasty}},
		{Path: "/down/", Upstream: &sites.Upstream{URL: "unix:" + t.TempDir() + "/none"}},
		{Path: "/moved/", Redirect: &sites.Redirect{To: "https://example.org/"}},
	}, func(s *https.Server) {
		s.Mount("POST /own/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	}).gateway
}

// serveHastily starts a site that answers when it has seen the head of a request,
// and returns its URL.
func serveHastily(t *testing.T) string {
	t.Helper()
	return "http://" + loopback.Serve(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c) // or a reset would overtake the answer
	})
}

var unread = []string{"/files/", "/hasty/", "/down/", "/moved/", "/own/"}

const (
	unreadBody = "0123456789"
	behindIt   = "GET /healthz HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n"
)

// TestUnreadBody: a body that nobody reads costs the connection, or nothing.
func TestUnreadBody(t *testing.T) {
	hasty := serveHastily(t)
	for _, path := range unread {
		g := unreading(t, start, hasty)
		for range 20 {
			out := g.raw("POST " + path + " HTTP/1.1\r\nHost: " + serverName + "\r\nContent-Length: 10\r\n\r\n" + unreadBody +
				strings.Replace(behindIt, "\r\n", "\r\nConnection: close\r\n", 1))
			if codes := statuses(out); len(codes) == 0 || len(codes) == 1 && !strings.Contains(out, "\r\nConnection: close\r\n") {
				t.Errorf("%s: %q", path, out)
			}
		}
		g.stop()
		if strings.Contains(g.log.String(), "panic") {
			t.Errorf("%s: %s", path, g.log.String())
		}
	}
}

// TestLateBody: what comes of a body after nobody waits for it any more is not
// taken for a request.
func TestLateBody(t *testing.T) {
	hasty := serveHastily(t)
	for _, path := range unread {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := unreading(t, startOnPipes, hasty).dial(serverName, "http/1.1")
				answers := make(chan string, 1)
				go func() {
					b, _ := io.ReadAll(c)
					answers <- string(b)
				}()
				io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: "+serverName+"\r\nContent-Length: 1000\r\n\r\n"+unreadBody)
				time.Sleep(7 * time.Second) // more than a site waits for it
				io.WriteString(c, behindIt)
				c.CloseWrite()
				if out := <-answers; len(statuses(out)) != 1 {
					t.Errorf("%q", out)
				}
			})
		})
	}
}

// TestDawdlingBody: the connection of a client that does not send what it has
// announced ends in time.
func TestDawdlingBody(t *testing.T) {
	hasty := serveHastily(t)
	for path, want := range map[string]time.Duration{
		"/hasty/": 5 * time.Second, "/down/": 5 * time.Second,
		"/files/": time.Minute, "/moved/": time.Minute, "/own/": time.Minute,
	} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := unreading(t, startOnPipes, hasty).dial(serverName, "http/1.1")
				c.SetDeadline(time.Now().Add(time.Hour))
				begin := time.Now()
				io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: "+serverName+"\r\nContent-Length: 1000\r\n\r\n"+unreadBody)
				b, _ := io.ReadAll(c)
				if took := time.Since(begin); len(statuses(string(b))) > 1 || took > want+time.Second {
					t.Errorf("%q, after %v", b, took)
				}
			})
		})
	}
}
