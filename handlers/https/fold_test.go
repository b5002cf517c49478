package https_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/handlers/https"
)

// echo answers with the body of a request.
func echo(s *https.Server) {
	s.Mount("POST /echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		w.Write(b)
	}))
}

// TestFoldedLines: a folded header line is refused wherever it stands, however
// it comes, and whatever came before it.
func TestFoldedLines(t *testing.T) {
	g := start(t, echo)
	const (
		get  = "GET /healthz HTTP/1.1\r\nHost: " + serverName + "\r\n"
		post = "POST /echo HTTP/1.1\r\nHost: " + serverName + "\r\n"
	)
	for name, c := range map[string]struct {
		input string
		want  []string
	}{
		"space":           {get + "X: a\r\n b\r\n\r\n" + get + "\r\n", []string{"400"}},
		"tab":             {get + "X: a\r\n\tb\r\n\r\n" + get + "\r\n", []string{"400"}},
		"nothing behind":  {get + "X: a\r\n \r\n\r\n" + get + "\r\n", []string{"400"}},
		"bare LF":         {get + "X: a\n b\r\n\r\n" + get + "\r\n", []string{"400"}},
		"long line":       {get + "X: " + strings.Repeat("a", 5000) + "\r\n b\r\n\r\n" + get + "\r\n", []string{"400"}},
		"second request":  {get + "\r\n" + get + "X: a\r\n b\r\n\r\n" + get + "\r\n", []string{"200", "400"}},
		"behind a body":   {post + "Content-Length: 5\r\n\r\n1\r\n 2" + get + "X: a\r\n b\r\n\r\n", []string{"200", "400"}},
		"behind upgrade":  {get + "Upgrade: x\r\nX: a\r\n b\r\n\r\n" + get + "\r\n", []string{"400"}},
		"behind chunks":   {post + "Transfer-Encoding: chunked\r\nX: a\r\n b\r\n\r\n0\r\n\r\n" + get + "\r\n", []string{"400"}},
		"none, two times": {get + "X: a b\r\n\r\n" + get + "Connection: close\r\n\r\n", []string{"200", "200"}},
		"in the body":     {post + "Content-Length: 14\r\nConnection: close\r\n\r\n\r\n\r\nX: a\r\n b\r\n", []string{"200"}},
	} {
		for _, step := range []int{1, 7, 1 << 20} {
			conn := g.dial(serverName, "http/1.1")
			go func() {
				for in := c.input; in != ""; in = in[min(step, len(in)):] {
					if _, err := io.WriteString(conn, in[:min(step, len(in))]); err != nil {
						return
					}
				}
			}()
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			b, err := io.ReadAll(conn)
			if got := strings.Join(statuses(string(b)), " "); err != nil || got != strings.Join(c.want, " ") {
				t.Errorf("%s, by %d: %s, want %s (%v)", name, step, got, c.want, err)
			}
			if name == "in the body" && !strings.HasSuffix(string(b), "\r\n\r\n\r\n\r\nX: a\r\n b\r\n") {
				t.Errorf("the body came back as %q", b)
			}
		}
	}
}
