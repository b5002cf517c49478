package https_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/handlers/https"
	"posthorn/handlers/https/sites"
)

// unreading is a gateway at whose sites and paths nobody reads a request's body.
func unreading(t *testing.T) *gateway {
	early := serveSite(t, "tcp", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	return putAllBehind(t, []sites.Site{
		{Path: "/files/", Folder: folderOf(t, map[string]string{"index.html": "x"})},
		{Path: "/early/", Upstream: &sites.Upstream{URL: early}},
		{Path: "/down/", Upstream: &sites.Upstream{URL: "unix:" + t.TempDir() + "/none"}},
		{Path: "/moved/", Redirect: &sites.Redirect{To: "https://example.org/"}},
	}, func(s *https.Server) {
		s.Mount("POST /own/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	}).gateway
}

var unread = []string{"/files/", "/early/", "/down/", "/moved/", "/own/"}

const (
	unreadBody = "0123456789"
	behindIt   = "GET /healthz HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n"
)

// TestUnreadBody: a body that nobody reads costs the connection, or nothing.
func TestUnreadBody(t *testing.T) {
	for _, path := range unread {
		g := unreading(t)
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
	g := unreading(t)
	for _, path := range unread {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			c := g.dial(serverName, "http/1.1")
			io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: "+serverName+"\r\nContent-Length: 1000\r\n\r\n"+unreadBody)
			time.Sleep(7 * time.Second) // more than a site waits for it
			io.WriteString(c, behindIt)
			c.CloseWrite()
			b, _ := io.ReadAll(c)
			if codes := statuses(string(b)); len(codes) > 1 {
				t.Errorf("%q", b)
			}
		})
	}
}
