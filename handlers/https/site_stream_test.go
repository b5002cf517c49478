package https_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// zeros reads as that many octets.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	return n, nil
}

// TestLargeBodies streams a body there and back, at the same time. It is larger
// than what the heap may grow by.
func TestLargeBodies(t *testing.T) {
	size := int64(256 << 20)
	if testing.Short() {
		size = 64 << 20
	}
	g := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		if r.ContentLength > 0 {
			w.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		io.Copy(w, r.Body)
	})
	for _, c := range []struct {
		h2           bool
		size, length int64
	}{
		{false, size, size}, {false, size / 16, -1}, {true, size / 16, size / 16}, {true, size, -1},
	} {
		g.echoLarge(c.h2, c.size, c.length)
	}
}

func (g *gateway) echoLarge(h2 bool, size, length int64) {
	t := g.t
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r, err := http.NewRequest("POST", "https://"+serverName+"/", io.NopCloser(&zeros{size}))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	cl := g.client(h2)
	cl.Timeout = 5 * time.Minute // with -race, on a machine that has much else to do
	res, err := cl.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	half, err := io.CopyN(io.Discard, res.Body, size/2)
	if err != nil {
		t.Fatalf("HTTP/2 %v: %v after %d", h2, err, half)
	}
	runtime.ReadMemStats(&during)
	rest, err := io.Copy(io.Discard, res.Body)
	if err != nil || half+rest != size || res.ContentLength != length {
		t.Errorf("HTTP/2 %v: %d of %d, %v", h2, half+rest, size, err)
	}
	if grown := int64(during.HeapInuse) - int64(before.HeapInuse); grown > 24<<20 {
		t.Errorf("HTTP/2 %v: the heap grew by %d MiB", h2, grown>>20)
	}
}

// TestNothingWaits: what the site has sent reaches the client before more comes,
// with a length or without.
func TestNothingWaits(t *testing.T) {
	next := make(chan struct{})
	g := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "24")
		} else {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n", i)
			http.NewResponseController(w).Flush()
			<-next
		}
	})
	for _, h2 := range []bool{false, true} {
		for _, path := range []string{"/length", "/events"} {
			res, err := g.client(h2).Get("https://" + serverName + path)
			if err != nil {
				t.Fatal(err)
			}
			br := bufio.NewReader(res.Body)
			for i := range 3 {
				if line, err := br.ReadString('\n'); line != fmt.Sprintf("data: %d\n", i) {
					t.Errorf("HTTP/2 %v: %q, %v", h2, line, err)
				}
				next <- struct{}{}
			}
			res.Body.Close()
		}
	}
}

// TestTrailers: those that are announced pass, both ways.
func TestTrailers(t *testing.T) {
	g := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", r.Trailer.Get("X-Sum")+" seen"+r.Trailer.Get("X-Forwarded-For"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "late")
	})
	for _, h2 := range []bool{false, true} {
		r, err := http.NewRequest("POST", "https://"+serverName+"/", io.NopCloser(strings.NewReader("body")))
		if err != nil {
			t.Fatal(err)
		}
		r.Trailer = http.Header{"X-Sum": {"sum"}, "X-Forwarded-For": {" by a liar"}}
		res, err := g.client(h2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "body" {
			t.Errorf("got %q, %v", b, err)
		}
		res.Body.Close()
		if sum, late := res.Trailer.Get("X-Sum"), res.Trailer.Get("X-Late"); sum != "sum seen" || late != "late" {
			t.Errorf("HTTP/2 %v: the trailer is %v", h2, res.Trailer)
		}
	}
}

// TestInformational: a client that waits for 100 Continue hears it when the site
// wants the body, and early hints come through when there is none.
func TestInformational(t *testing.T) {
	g := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "between gateway and site")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.WriteHeader(http.StatusEarlyHints)
		clear(w.Header())
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	for _, c := range []struct {
		method, path     string
		status           int
		continues, hints int32
	}{
		{"POST", "/yes", 200, 1, 0}, {"POST", "/no", 401, 0, 0}, {"GET", "/yes", 200, 0, 1},
	} {
		for _, h2 := range []bool{false, true} {
			var hints, continues atomic.Int32
			ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
				Got100Continue: func() { continues.Add(1) },
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					if code == http.StatusEarlyHints && h.Get("Link") != "" {
						hints.Add(1)
					}
					for _, field := range []string{"Connection", "X-Hop", "Keep-Alive"} {
						if h.Get(field) != "" {
							t.Errorf("HTTP/2 %v, %v: %v", h2, c, h)
						}
					}
					return nil
				},
			})
			var body io.Reader
			if c.method == "POST" {
				body = strings.NewReader("body")
			}
			r, err := http.NewRequestWithContext(ctx, c.method, "https://"+serverName+c.path, body)
			if err != nil {
				t.Fatal(err)
			}
			if body != nil {
				r.Header.Set("Expect", "100-continue")
			}
			cl := g.client(h2)
			cl.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
			res, err := cl.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != c.status || c.continues > 0 && string(b) != "body" || err != nil || res.Header.Get("Link") != "" {
				t.Errorf("HTTP/2 %v, %v: %s %q, %v", h2, c, res.Status, b, err)
			}
			// On HTTP/2 the gateway cannot know whether the client waits.
			early := h2 && c.path == "/no" && continues.Load() == 1
			if continues.Load() != c.continues && !early || hints.Load() != c.hints {
				t.Errorf("HTTP/2 %v, %v: %d of 100, %d of 103", h2, c, continues.Load(), hints.Load())
			}
		}
	}
}

// TestDiesInTheMiddle: a response that is cut off does not look like a whole
// one.
func TestDiesInTheMiddle(t *testing.T) {
	g := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "100000")
		}
		io.WriteString(w, strings.Repeat("x", 5000))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, h2 := range []bool{false, true} {
		for _, path := range []string{"/length", "/chunked"} {
			res, err := g.client(h2).Get("https://" + serverName + path)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(res.Body); err == nil || len(b) != 5000 {
				t.Errorf("HTTP/2 %v, %s: %d octets, %v", h2, path, len(b), err)
			}
			res.Body.Close()
		}
	}
	if strings.Contains(g.log.String(), "panic") {
		t.Errorf("the log has %s", g.log.String())
	}
}

// TestClientGone: the site hears that nobody waits any more.
func TestClientGone(t *testing.T) {
	asked, gone := make(chan struct{}), make(chan struct{})
	g := newSite(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", "https://"+serverName+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-asked
		cancel()
	}()
	if _, err := g.client(false).Do(r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-gone
	g.stop()
	if log := g.siteLog.String(); log != "" {
		t.Errorf("the log has %s", log)
	}
}

// TestCrowd: one source does not take every place, and leaves none behind.
func TestCrowd(t *testing.T) {
	const places = 512
	var waiting sync.WaitGroup
	waiting.Add(places)
	end := make(chan struct{})
	g := newSite(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			waiting.Done()
			<-end
		}
	})
	var requests sync.WaitGroup
	var served, refused atomic.Int32
	do := func(cl *http.Client, path string) int {
		res, err := cl.Get("https://" + serverName + path)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer res.Body.Close()
		io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	for range places / 64 {
		cl := g.client(true)
		do(cl, "/") // so that it has its connection
		for range 64 {
			requests.Go(func() {
				if do(cl, "/wait") == 200 {
					served.Add(1)
				}
			})
		}
	}
	waiting.Wait()
	for range 10 {
		if do(g.client(true), "/") == 503 {
			refused.Add(1)
		}
	}
	other := g.client(true)
	other.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		return d.DialContext(ctx, "tcp", g.addr)
	}
	if status := do(other, "/"); status != 200 {
		t.Errorf("somebody else gets %d", status)
	}
	close(end)
	requests.Wait()
	if served.Load() != places || refused.Load() != 10 {
		t.Errorf("%d of %d were served, %d of 10 were refused", served.Load(), places, refused.Load())
	}
	if status := do(g.client(true), "/"); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

// TestConcurrent has many clients of both versions at once, whose answers are
// their own.
func TestConcurrent(t *testing.T) {
	g := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.URL.Path, b)
	})
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			cl := g.client(i%2 == 0)
			for n := range 30 {
				path, body := fmt.Sprintf("/%d/%d", i, n), strings.Repeat("x", n%3*1000)
				res, err := cl.Post("https://"+serverName+path, "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(res.Body)
				if res.Body.Close(); err != nil || string(b) != path+" "+body {
					t.Errorf("%s: %q, %v", path, b, err)
				}
			}
		})
	}
	clients.Wait()
}

// TestWebSocket talks to a site's WebSocket.
func TestWebSocket(t *testing.T) {
	g := newSite(t, websocket.Handler(func(c *websocket.Conn) {
		io.Copy(c, c)
	}).ServeHTTP)
	config, err := websocket.NewConfig("wss://"+serverName+"/socket", "https://"+serverName)
	if err != nil {
		t.Fatal(err)
	}
	for _, protos := range [][]string{{"http/1.1"}, nil} {
		c, err := websocket.NewClient(config, g.dial(serverName, protos...))
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, 1000, 100_000} {
			want := strings.Repeat("x", size)
			var got string
			if err := websocket.Message.Send(c, want); err != nil {
				t.Fatal(err)
			}
			for len(got) < size {
				var part string
				if err := websocket.Message.Receive(c, &part); err != nil {
					t.Fatal(err)
				}
				got += part
			}
			if got != want {
				t.Errorf("%d octets came back as %d", size, len(got))
			}
		}
		c.Close()
	}
}
