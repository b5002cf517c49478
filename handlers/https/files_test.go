package https_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"posthorn/await"
	"posthorn/handlers/https"
	"posthorn/handlers/https/sites"
)

func newFiles(t testing.TB, files map[string]string, edit func(*https.Server)) (*behind, string) {
	t.Helper()
	f := folderOf(t, files)
	f.CacheControl = "max-age=60"
	return putAllBehind(t, []sites.Site{{Folder: f}}, edit), f.Dir
}

// TestQuickAndSlow: a file is the same with and without net/http, from one request
// to the next on a connection.
func TestQuickAndSlow(t *testing.T) {
	text := strings.Repeat("hello ", 1000)
	large := strings.Repeat("0123456789abcdef", 10000)
	g, _ := newFiles(t, map[string]string{"a.txt": text, "b/index.html": text, "c.bin": large, "d.js": "x"}, nil)
	for _, path := range []string{"/a.txt", "/b/", "/c.bin", "/d.js"} {
		for _, method := range []string{"GET", "HEAD"} {
			for _, accept := range []string{"", "Accept-Encoding: gzip\r\n", "Accept-Encoding: br, gzip;q=0\r\n"} {
				c := g.dial(serverName, "http/1.1")
				br := bufio.NewReader(c)
				var all []*http.Response
				var bodies []string
				for _, more := range []string{"", "", "X: \xff\r\n", ""} { // from the third on, it is net/http's
					fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n", method, path, serverName, accept, more)
					r, err := http.ReadResponse(br, &http.Request{Method: method})
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(r.Body)
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Del("Date")
					all, bodies = append(all, r), append(bodies, string(b))
				}
				for i := range all {
					if all[i].StatusCode != 200 || !reflect.DeepEqual(all[i].Header, all[0].Header) || bodies[i] != bodies[0] {
						t.Errorf("%s %s %q, request %d: %s %v, %d octets; at first %v, %d", method, path, accept, i, all[i].Status, all[i].Header, len(bodies[i]), all[0].Header, len(bodies[0]))
					}
				}
				if h := all[0].Header; h.Get("Cache-Control") != "max-age=60" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Strict-Transport-Security") == "" || h.Get("Etag") == "" {
					t.Errorf("%s: %v", path, h)
				}
			}
		}
	}
}

// TestQuickPipeline: requests that come at once are answered in turn, those that
// are the gateway's own or not simple too.
func TestQuickPipeline(t *testing.T) {
	g, _ := newFiles(t, map[string]string{"a.txt": "a", "own": "not this"}, func(s *https.Server) {
		s.Mount("GET /own", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own") }))
	})
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n" }
	for name, c := range map[string]struct{ input, want string }{
		"files":        {strings.Repeat(get("/a.txt"), 500) + "\r\n", "200 a," + strings.Repeat("200 a,", 499)},
		"own":          {get("/a.txt") + get("/own") + get("/a.txt") + get("/none"), "200 a,200 own,200 a,404 Not Found\n,"},
		"another host": {get("/a.txt") + strings.Replace(get("/a.txt"), serverName, "localhost", 1), "200 a,421 Misdirected Request\n,"},
		"garbage":      {get("/a.txt") + "garbage\r\n\r\n", "200 a,400 400 Bad Request,"},
		"a body":       {get("/a.txt") + "POST /a.txt HTTP/1.1\r\nHost: " + serverName + "\r\nContent-Length: 5\r\n\r\nGET /", "200 a,405 Method Not Allowed\n,"},
	} {
		conn := g.dial(serverName, "http/1.1")
		go func() {
			io.WriteString(conn, c.input)
			conn.CloseWrite()
		}()
		got := ""
		br := bufio.NewReader(conn)
		for {
			r, err := http.ReadResponse(br, nil)
			if err != nil {
				break
			}
			b, _ := io.ReadAll(r.Body)
			got += fmt.Sprintf("%d %s,", r.StatusCode, b)
		}
		if got != c.want {
			t.Errorf("%s: %.200q, want %.200q", name, got, c.want)
		}
	}
}

// TestQuickSplit: a request may come in any pieces. Each is a TLS record, of which
// no more than one is read at a time.
func TestQuickSplit(t *testing.T) {
	g, _ := newFiles(t, map[string]string{"a.txt": "a"}, nil)
	input := "GET /a.txt HTTP/1.1\r\nHost: " + serverName + "\r\n\r\n"
	var tests sync.WaitGroup
	for i := range len(input) {
		tests.Go(func() {
			c := g.dial(serverName, "http/1.1")
			br := bufio.NewReader(c)
			for range 2 {
				io.WriteString(c, input[:i])
				io.WriteString(c, input[i:])
				if r, err := http.ReadResponse(br, nil); err != nil || r.StatusCode != 200 || body(r) != "a" {
					t.Errorf("after %d octets: %v, %v", i, r, err)
					return
				}
			}
		})
	}
	tests.Wait()
}

// TestQuickDrain: who waits for requests ends at once.
func TestQuickDrain(t *testing.T) {
	g, _ := newFiles(t, map[string]string{"a.txt": "a"}, nil)
	c := g.dial(serverName, "http/1.1")
	fmt.Fprintf(c, "GET /a.txt HTTP/1.1\r\nHost: %s\r\n\r\n", serverName)
	br := bufio.NewReader(c)
	if r, err := http.ReadResponse(br, nil); err != nil || body(r) != "a" {
		t.Fatal(r, err)
	}
	begin := time.Now()
	if err := g.Shutdown(context.Background()); err != nil || time.Since(begin) > 5*time.Second { // it waits for a minute
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	if b, err := io.ReadAll(br); len(b) > 0 || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
}

// TestFileReplaced: under load, everybody gets one file or another, whole, and
// before long the newest.
func TestFileReplaced(t *testing.T) {
	t.Parallel()
	var states []string
	for i := range 31 {
		states = append(states, strings.Repeat(string(rune('A'+i)), 20000+1000*i))
	}
	g, dir := newFiles(t, map[string]string{"x.txt": states[0]}, nil)
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	var seen [4]atomic.Int32 // by each client: which state
	for i := range seen {
		c, accept := g.dial(serverName, "http/1.1"), []string{"", "Accept-Encoding: gzip\r\n"}[i%2]
		clients.Go(func() {
			for br := bufio.NewReader(c); ctx.Err() == nil; {
				fmt.Fprintf(c, "GET /x.txt HTTP/1.1\r\nHost: %s\r\n%s\r\n", serverName, accept)
				state, err := readFile(br)
				n := slices.Index(states, state)
				if err != nil || n < 0 {
					t.Errorf("%d octets, %v", len(state), err)
					return
				}
				seen[i].Store(int32(n))
			}
		})
	}
	for n, state := range states[1:] {
		next := filepath.Join(dir, "next")
		if err := os.WriteFile(next, []byte(state), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "x.txt")); err != nil {
			t.Fatal(err)
		}
		if n++; n%10 != 0 {
			continue
		}
		for i := range seen {
			await.Until(t, "the new file is there", func() bool { return int(seen[i].Load()) == n })
		}
	}
}

// readFile reads a response, and returns its content as it is without a coding.
func readFile(br *bufio.Reader) (string, error) {
	r, err := http.ReadResponse(br, nil)
	if err != nil {
		return "", err
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(r.Body); err != nil {
			return "", err
		}
	}
	b, err := io.ReadAll(body)
	return string(b), err
}

// TestReplace: other sites take the place of all, also of connections that are
// open; what is wrong changes nothing.
func TestReplace(t *testing.T) {
	g, _ := newFiles(t, map[string]string{"a.txt": "a"}, nil)
	c := g.dial(serverName, "http/1.1")
	br := bufio.NewReader(c)
	ask := func(want string) {
		t.Helper()
		fmt.Fprintf(c, "GET /a.txt HTTP/1.1\r\nHost: %s\r\n\r\n", serverName)
		if r, err := http.ReadResponse(br, nil); err != nil || body(r) != want {
			t.Fatalf("%v, %v; want %q", r, err, want)
		}
	}
	ask("a")
	if err := g.sites.Replace([]sites.Site{{Folder: folderOf(t, map[string]string{"a.txt": "b"})}}); err != nil {
		t.Fatal(err)
	}
	ask("b")
	if err := g.sites.Replace([]sites.Site{{Folder: &sites.Folder{Dir: "/nowhere"}}}); err == nil {
		t.Error("a folder that is not there is opened")
	}
	ask("b")
	if err := g.sites.Replace([]sites.Site{{Upstream: saying(t, "c")}}); err != nil {
		t.Fatal(err)
	}
	ask("c /a.txt")
	if err := g.sites.Replace(nil); err != nil {
		t.Fatal(err)
	}
	ask("404 page not found\n")
}

// TestLargeFile comes in parts and whole, over both protocols, from a file of
// which most is a hole.
func TestLargeFile(t *testing.T) {
	const size = 64 << 20
	g, dir := newFiles(t, nil, nil)
	f, err := os.Create(filepath.Join(dir, "large.bin"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("end"), size-3); err != nil {
		t.Fatal(err)
	}
	for _, h2 := range []bool{false, true} {
		cl := g.client(h2)
		r, err := cl.Get("https://" + serverName + "/large.bin")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r.Body); n != size || err != nil || r.ContentLength != size {
			t.Errorf("%d of %d octets, %v", n, r.ContentLength, err)
		}
		r.Body.Close()
		req, _ := http.NewRequest("GET", "https://"+serverName+"/large.bin", nil)
		req.Header.Set("Range", "bytes=-5")
		req.Header.Set("If-Range", r.Header.Get("Etag"))
		if r, err = cl.Do(req); err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(r.Body); r.StatusCode != 206 || !bytes.Equal(b, []byte("\x00\x00end")) {
			t.Errorf("%s %q", r.Status, b)
		}
		r.Body.Close()
	}
}
