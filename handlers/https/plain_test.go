package https_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/handlers/https"
)

// plain serves port 80 and returns its address.
func plain(t *testing.T, p *https.Plain) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func TestPlain(t *testing.T) {
	challenges := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/.well-known/acme-challenge/token" {
				io.WriteString(w, "answer")
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	serves := func(host string) bool { return host == serverName }
	shared := plain(t, &https.Plain{Serves: serves, Port: 443, Challenges: challenges})
	high := plain(t, &https.Plain{Serves: serves, Port: 8443})
	for _, test := range []struct {
		addr, request, host string
		status              int
		want                string // Location or body
	}{
		{shared, "GET /a//b?c=%2f HTTP/1.1", serverName, 308, "https://" + serverName + "/a//b?c=%2f"},
		{shared, "POST / HTTP/1.1", serverName + ":80", 308, "https://" + serverName + "/"},
		{shared, "GET http://evil.example/x HTTP/1.1", serverName, 421, "Misdirected Request\n"}, // RFC 9112 section 3.2.2
		{shared, "GET //evil.example/ HTTP/1.1", strings.ToUpper(serverName), 308, "https://" + serverName + "//evil.example/"},
		{shared, "GET /.well-known/acme-challenge/token HTTP/1.1", "other.example", 200, "answer"},
		{shared, "GET / HTTP/1.1", "evil.example", 421, "Misdirected Request\n"},
		{shared, "GET / HTTP/1.1", "127.0.0.1", 421, "Misdirected Request\n"},
		{shared, "GET / HTTP/1.0", "", 400, "Bad Request\n"},
		{shared, "OPTIONS * HTTP/1.1", serverName, 400, "Bad Request\n"},
		{shared, "GET /../x HTTP/1.1", serverName, 400, "Bad Request\n"},
		{high, "GET /x HTTP/1.1", serverName, 308, "https://" + serverName + ":8443/x"},
		{high, "GET /.well-known/acme-challenge/token HTTP/1.1", serverName, 308, "https://" + serverName + ":8443/.well-known/acme-challenge/token"},
	} {
		status, got := askPlain(t, test.addr, test.request, test.host)
		if status != test.status || got != test.want {
			t.Errorf("%s, Host: %s: %d %q", test.request, test.host, status, got)
		}
	}
}

// askPlain returns the status and where the response leads to, or else its body.
// The connection must end with it.
func askPlain(t *testing.T, addr, request, host string) (int, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if host != "" {
		request += "\r\nHost: " + host
	}
	fmt.Fprintf(c, "%s\r\n\r\n", request)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("%s: the connection goes on: %v", request, err)
	}
	if l := resp.Header.Get("Location"); l != "" {
		return resp.StatusCode, l
	}
	return resp.StatusCode, string(body)
}
