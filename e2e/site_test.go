package e2e

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// siteBehind starts a gateway before a site on a unix socket.
func siteBehind(t *testing.T, site http.Handler) *gateway {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "site.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: site}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(ln) })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return newGateway(t, "domains: [localhost, _relay.example.test]\nsite:\n  upstream: \"unix:"+socket+"\"\n")
}

// curl runs curl with the gateway in the place of https://localhost.
func (g *gateway) curl(args ...string) string {
	g.t.Helper()
	at := "localhost:443:127.0.0.1:" + port(g.shared)
	return g.run("", "curl", append([]string{"--silent", "--show-error", "--cacert", g.ca, "--connect-to", at, "--max-time", "60"}, args...)...)
}

func TestSiteWithCurl(t *testing.T) {
	const size = 200 << 20
	g := siteBehind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			w.Header().Set("Content-Length", fmt.Sprint(size))
			io.CopyN(w, endless{}, size)
		case "/count":
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d %v", n, err)
		default:
			w.Header().Set("X-Site", "yes")
			fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-For"))
		}
	}))
	for _, version := range []string{"--http1.1", "--http2"} {
		if got := g.curl(version, "-H", "X-Forwarded-For: 192.0.2.1", "https://localhost/a//b%2fc?d"); got != "GET localhost /a//b%2fc?d https 127.0.0.1" {
			t.Errorf("%s: the site is asked %q", version, got)
		}
		if got := g.curl(version, "--head", "https://localhost/"); !strings.Contains(strings.ToLower(got), "x-site: yes") ||
			strings.Contains(strings.ToLower(got), "content-security-policy") {
			t.Errorf("%s: got %s", version, got)
		}
		if got := g.curl(version, "https://localhost/healthz"); got != "ok\n" {
			t.Errorf("%s: /healthz says %q", version, got)
		}
		if got := g.curl(version, "--output", "/dev/null", "--write-out", "%{size_download} %{http_version}", "https://localhost/large"); got != fmt.Sprintf("%d %s", size, strings.TrimPrefix(version, "--http")) {
			t.Errorf("%s: %s came of %d", version, got, size)
		}
		for _, header := range []string{"Transfer-Encoding: chunked", "Expect: 100-continue"} {
			upload := exec.Command("head", "-c", fmt.Sprint(size), "/dev/zero")
			file := filepath.Join(g.dir, "large")
			out, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			upload.Stdout = out
			if err := upload.Run(); err != nil {
				t.Fatal(err)
			}
			out.Close()
			if got := g.curl(version, "-H", header, "--upload-file", file, "https://localhost/count"); got != fmt.Sprintf("%d <nil>", size) {
				t.Errorf("%s, %s: the site counts %s of %d", version, header, got, size)
			}
		}
	}
	if rss := g.proc("VmHWM"); rss > 120<<10 {
		t.Errorf("the gateway grew to %d kB", rss)
	}
	at := "_relay.example.test:443:127.0.0.1:" + port(g.shared)
	if got := g.run("", "curl", "--silent", "--show-error", "--insecure", "--connect-to", at, "--no-alpn",
		"--request-target", "https://_relay.example.test/new", "--data", "", "https://_relay.example.test/new"); got != "POST _relay.example.test /new https 127.0.0.1" {
		t.Errorf("the site is asked %q", got)
	}
}

// endless reads as zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestSiteIsSlow: neither a slow site nor a slow client is cut off as long as
// something moves, and a client that says nothing is.
func TestSiteIsSlow(t *testing.T) {
	t.Parallel()
	uploaded := make(chan string, 1)
	g := siteBehind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/events":
			for i := range 3 {
				// Longer than what a client has. The gateway is another process, whose
				// clock no test can turn.
				time.Sleep(time.Duration(min(i, 1)) * 35 * time.Second)
				fmt.Fprintf(w, "data: %d\n\n", i)
				http.NewResponseController(w).Flush()
			}
		case "/upload":
			b, err := io.ReadAll(r.Body)
			uploaded <- fmt.Sprintf("%d %v", len(b), err != nil)
		}
	}))
	var clients sync.WaitGroup
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: g.tlsConfig(""), ForceAttemptHTTP2: h2}
		t.Cleanup(transport.CloseIdleConnections)
		clients.Go(func() {
			r, err := (&http.Client{Transport: transport}).Get("https://localhost:" + port(g.shared) + "/events")
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			if b, err := io.ReadAll(r.Body); err != nil || string(b) != "data: 0\n\ndata: 1\n\ndata: 2\n\n" || (r.ProtoMajor == 2) != h2 {
				t.Errorf("%s: got %q, %v", r.Proto, b, err)
			}
		})
	}
	clients.Go(func() {
		p := g.httpOf()
		p.SetDeadline(time.Now().Add(2 * time.Minute))
		start := time.Now()
		p.send("POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
		out, _ := io.ReadAll(p.r)
		if codes := statuses(string(out)); len(codes) != 1 || codes[0] != "408" || time.Since(start) > 45*time.Second {
			t.Errorf("half a body gets %q after %v", out, time.Since(start))
		}
		if got := <-uploaded; got != "3 true" {
			t.Errorf("the site reads %s", got)
		}
	})
	clients.Wait()
}

// TestSiteStops: at a drain requests finish, and what has no end is ended.
func TestSiteStops(t *testing.T) {
	asked, finish := make(chan bool), make(chan bool)
	mux := http.NewServeMux()
	mux.HandleFunc("/wait", func(w http.ResponseWriter, _ *http.Request) {
		asked <- true
		<-finish
		io.WriteString(w, "done")
	})
	mux.Handle("/socket", websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) }))
	g := siteBehind(t, mux)
	config, err := websocket.NewConfig("wss://localhost/socket", "https://localhost")
	if err != nil {
		t.Fatal(err)
	}
	c, err := websocket.NewClient(config, g.dial("", "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := websocket.Message.Send(c, "hello"); err != nil {
		t.Fatal(err)
	}
	var echo string
	if err := websocket.Message.Receive(c, &echo); err != nil || echo != "hello" {
		t.Fatalf("%q, %v", echo, err)
	}
	answer := make(chan string)
	go func() { answer <- g.curl("https://localhost/wait") }()
	<-asked
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := websocket.Message.Receive(c, &echo); err != io.EOF {
		t.Errorf("the WebSocket ends with %v", err)
	}
	finish <- true
	if got := <-answer; got != "done" {
		t.Errorf("the request under way gets %q", got)
	}
	if code := g.end(0); code != 0 {
		t.Errorf("serve ends with %d", code)
	}
}

// page tries in a browser what a site may want, and tells the site.
const page = `<!doctype html>
<title>A site behind</title>
<link rel=stylesheet href=/style.css>
<p id=p>Hello</p>
<script>
const results = {}
const until = (name, start) => new Promise(start).then(v => results[name] = v, e => results[name] = 'failed: ' + e)
addEventListener('load', async () => {
	results.style = getComputedStyle(document.getElementById('p')).color
	results.protocol = performance.getEntriesByType('navigation')[0].nextHopProtocol
	await until('events', (done, fail) => {
		const source = new EventSource('/events'), heard = []
		source.onerror = () => fail('events')
		source.onmessage = m => { heard.push(m.data); if (heard.length == 3) { source.close(); done(heard.join()) } }
	})
	await until('socket', (done, fail) => {
		const socket = new WebSocket('wss://' + location.host + '/socket')
		socket.binaryType = 'arraybuffer'
		socket.onerror = () => fail('socket')
		socket.onopen = () => socket.send(new Uint8Array(1 << 20))
		let n = 0
		socket.onmessage = m => { n += m.data.byteLength; if (n == 1 << 20) { socket.close(); done(n) } }
	})
	await until('upload', done => done(fetch('/upload', {method: 'POST', body: new Blob([new Uint8Array(8 << 20)])}).then(r => r.text())))
	fetch('/results', {method: 'POST', body: JSON.stringify(results)})
})
</script>
`

// TestSiteInBrowser loads a site behind in Chromium: with its own scripts and
// styles, over HTTP/2, with events, a WebSocket and an upload.
func TestSiteInBrowser(t *testing.T) {
	if _, err := exec.LookPath("chromium"); err != nil && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: chromium is not there: .ci/test installs it")
	}
	results := make(chan map[string]any, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, page)
	})
	mux.HandleFunc("/style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css")
		io.WriteString(w, "#p { color: rgb(1, 2, 3) }")
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			http.NewResponseController(w).Flush()
		}
		<-r.Context().Done() // not before the browser has heard them
	})
	mux.Handle("/socket", websocket.Handler(func(c *websocket.Conn) {
		c.PayloadType = websocket.BinaryFrame
		io.Copy(c, c)
	}))
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", n, err)
	})
	mux.HandleFunc("/results", func(_ http.ResponseWriter, r *http.Request) {
		var found map[string]any
		if err := json.NewDecoder(r.Body).Decode(&found); err != nil {
			t.Error(err)
		}
		results <- found
	})
	g := siteBehind(t, mux)

	browser := exec.Command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--user-data-dir="+filepath.Join(g.dir, "browser"), "--ignore-certificate-errors-spki-list="+g.spki(), "https://localhost:"+port(g.shared)+"/")
	browser.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, err := browser.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := browser.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			said = append(said, lines.Text())
		}
	}()
	var got map[string]any
	select {
	case got = <-results:
	case <-time.After(2 * patience):
	}
	_ = syscall.Kill(-browser.Process.Pid, syscall.SIGKILL) // it has children
	<-heard
	_ = browser.Wait()
	for name, want := range map[string]any{
		"style": "rgb(1, 2, 3)", "protocol": "h2", "events": "0,1,2", "socket": float64(1 << 20), "upload": fmt.Sprintf("%d <nil>", 8<<20),
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
	if t.Failed() {
		t.Logf("the browser said:\n%s", strings.Join(said, "\n"))
	}
}

// spki is the hash of the key in the gateway's certificate, as Chromium wants it.
func (g *gateway) spki() string {
	g.t.Helper()
	block, _ := pem.Decode(g.certificate())
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		g.t.Fatal(err)
	}
	hash := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(hash[:])
}
