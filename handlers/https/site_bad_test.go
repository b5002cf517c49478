package https_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"posthorn/loopback"
)

// TestBadSites: a site that says more, less or something else than a response
// harms the request that it is for, and no other.
func TestBadSites(t *testing.T) {
	const (
		good   = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
		hangUp = "hang up"
	)
	for name, c := range map[string]struct {
		answers   []string // to one request after the other, whatever the connection
		want      []string // statuses and bodies
		keepsOpen bool
	}{
		"closes after each":         {[]string{good, good}, []string{"200 good", "200 good"}, false},
		"keeps open":                {[]string{good, good}, []string{"200 good", "200 good"}, true},
		"hangs up on the second":    {[]string{good, hangUp, good}, []string{"200 good", "200 good"}, true},
		"answers twice":             {[]string{good + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", good}, []string{"200 good", "200 good"}, true},
		"garbage":                   {[]string{"secret\r\n\r\n", good}, []string{"502 Bad Gateway\n", "200 good"}, true},
		"nothing":                   {[]string{"", good}, []string{"502 Bad Gateway\n", "200 good"}, false},
		"a large head":              {[]string{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", good}, []string{"502 Bad Gateway\n", "200 good"}, true},
		"two lengths":               {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\ngood", good}, []string{"502 Bad Gateway\n", "200 good"}, true},
		"hop by hop":                {[]string{"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\ngood", good}, []string{"200 good", "200 good"}, true},
		"a switch nobody asked for": {[]string{"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", good}, []string{"502 Bad Gateway\n", "200 good"}, true},
		"a switch to nothing":       {[]string{"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n", good}, []string{"502 Bad Gateway\n", "200 good"}, true},
		"informational":             {[]string{"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + good, good}, []string{"200 good", "200 good"}, true},
		"to the end":                {[]string{"HTTP/1.0 200 OK\r\n\r\ngood", good}, []string{"200 good", "200 good"}, false},
		"empty":                     {[]string{"HTTP/1.1 204 No Content\r\n\r\n", good}, []string{"204 ", "200 good"}, true},
	} {
		answers := make(chan string, len(c.answers))
		for _, a := range c.answers {
			answers <- a
		}
		site := loopback.Serve(t, func(conn net.Conn) {
			for br := bufio.NewReader(conn); ; {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				answer := <-answers
				if answer == hangUp {
					return
				}
				io.WriteString(conn, answer)
				if !c.keepsOpen {
					return
				}
			}
		})
		g := putBehind(t, "http://"+site, nil)
		for _, want := range c.want {
			r, body := get(t, g.client(false), "/")
			if got := fmt.Sprintf("%d %s", r.StatusCode, body); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
			for _, field := range []string{"X-Hop", "Keep-Alive", "Upgrade", "Link"} {
				if r.Header.Get(field) != "" {
					t.Errorf("%s: %v", name, r.Header)
				}
			}
		}
		if log := g.siteLog.String(); strings.Contains(log, "secret") || strings.Contains(log, "\n") != strings.HasPrefix(c.want[0], "502") {
			t.Errorf("%s: the log has %q", name, log)
		}
		g.sites.Close()
		g.stop()
	}
}
