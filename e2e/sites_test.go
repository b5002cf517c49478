package e2e

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"posthorn/backend/backendtest"
)

// webServer is a real nginx.
type webServer struct {
	*backendtest.Server
	dir, log        string // its files and what it has logged
	http1, h2, bare string // where it takes connections that are handed over, and requests without a PROXY header
}

// startNginx starts one with some files of its own, and a WebSocket behind it.
func startNginx(t testing.TB) *webServer {
	t.Helper()
	dir := backendtest.Dir(t)
	socket := httptest.NewServer(websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) }))
	t.Cleanup(socket.Close)
	address := func() string { return fmt.Sprintf("127.0.0.1:%d", backendtest.Port(t)) }
	s := &webServer{dir: filepath.Join(dir, "www"), log: filepath.Join(dir, "access"), http1: address(), h2: address(), bare: address()}
	if err := os.MkdirAll(filepath.Join(s.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(s.dir, "index.html"), "nginx's index")
	put(t, filepath.Join(s.dir, "hello.txt"), strings.Repeat("0123456789", 10))
	put(t, filepath.Join(s.dir, "sub/index.html"), "below")
	put(t, filepath.Join(s.dir, "empty.txt"), "")
	if os.Getuid() == 0 {
		for _, path := range []string{dir, s.dir} { // for uploads, which a worker writes
			if err := os.Chmod(path, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	conf := put(t, filepath.Join(dir, "nginx.conf"), strings.NewReplacer("DIR", dir, "LOG", s.log, "HTTP1", s.http1, "H2", s.h2, "BARE", s.bare,
		"SOCKET", socket.URL).Replace(`
pid DIR/pid;
error_log DIR/error.log warn;
events { worker_connections 500; }
http {
	types { text/html html; text/plain txt; }
	log_format peer '$proxy_protocol_addr $server_protocol $status $host $request_uri';
	access_log LOG peer;
	client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
	server {
		listen HTTP1 proxy_protocol;
		listen H2 http2 proxy_protocol;
		listen BARE;
		root DIR/www;
		client_max_body_size 0;
		if_modified_since before;
		location /up/ { dav_methods PUT; create_full_put_path on; }
		location /socket {
			proxy_pass SOCKET;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection upgrade;
			proxy_set_header Host $host;
		}
	}
}
`))
	s.Server = backendtest.StartServer(t, filepath.Join(dir, "log"), s.http1, "/usr/sbin/nginx", "-c", conf, "-g", "daemon off;")
	return s
}

// logged waits for a line in its log.
func (s *webServer) logged(t testing.TB, line string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the line %q is in %s", line, s.log), func() bool {
		text, err := os.ReadFile(s.log)
		return err == nil && strings.Contains("\n"+string(text), "\n"+line+"\n")
	})
}

// large makes a file of 100 MB, none of which is like the rest.
func large(t testing.TB, path string) (sum string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	hash := sha256.New()
	for i := range 100 << 20 / 16 {
		fmt.Fprintf(io.MultiWriter(w, hash), "%15d\n", i)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil))
}

func sumOf(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil))
}

// TestHandedOver: nginx gets the connections of a host as they are, hears of the
// client, and speaks both versions of HTTP; others stay the gateway's.
func TestHandedOver(t *testing.T) {
	s := startNginx(t)
	g := newGateway(t, fmt.Sprintf("domains: [mail.example.test]\nsites:\n  - {hosts: [localhost], handover: '%s', handover_h2: '%s'}\n"+
		"  - {hosts: [one.example.test], handover: '%s'}\n", s.http1, s.h2, s.http1))
	file := filepath.Join(g.dir, "large")
	sum := large(t, file)
	for version, protocol := range map[string]string{"--http1.1": "HTTP/1.1", "--http2": "HTTP/2.0"} {
		if got := g.curl(version, "https://localhost/"); got != "nginx's index" {
			t.Errorf("%s: %q", version, got)
		}
		s.logged(t, "127.0.0.1 "+protocol+" 200 localhost /")
		if got := g.curl(version, "https://localhost/healthz", "--output", "/dev/null", "--write-out", "%{http_code} %{http_version}"); got != "404 "+strings.TrimSuffix(protocol[5:], ".0") {
			t.Errorf("%s: %s", version, got)
		}
		path := "/up/" + protocol[5:]
		if got := g.curl(version, "--upload-file", file, "https://localhost"+path, "--write-out", "%{http_code}"); !strings.HasSuffix(got, "201") {
			t.Errorf("%s: the upload gets %s", version, got)
		}
		if got := sumOf(t, filepath.Join(s.dir, path)); got != sum {
			t.Errorf("%s: another file was uploaded", version)
		}
		back := filepath.Join(g.dir, "back")
		g.curl(version, "--output", back, "https://localhost"+path)
		if got := sumOf(t, back); got != sum {
			t.Errorf("%s: another file was downloaded", version)
		}
	}
	if rss := g.proc("VmHWM"); rss > 120<<10 {
		t.Errorf("the gateway grew to %d kB", rss)
	}

	config, err := websocket.NewConfig("wss://localhost/socket", "https://localhost")
	if err != nil {
		t.Fatal(err)
	}
	c, err := websocket.NewClient(config, g.dial("", "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"hello", strings.Repeat("x", 1<<20)} {
		go io.WriteString(c, word)
		echo := make([]byte, len(word))
		if _, err := io.ReadFull(c, echo); err != nil || string(echo) != word {
			t.Errorf("%d octets, %v", len(echo), err)
		}
	}
	c.Close()
	s.logged(t, "127.0.0.1 HTTP/1.1 101 localhost /socket")

	// Without an address for it, HTTP/2 is not offered.
	at := "one.example.test:443:127.0.0.1:" + port(g.shared)
	if got := g.run("", "curl", "--silent", "--insecure", "--http2", "--connect-to", at, "https://one.example.test/", "--write-out", " %{http_version}"); got != "nginx's index 1.1" {
		t.Errorf("got %q", got)
	}
	// A name that is served by the gateway itself is not found there.
	at = "localhost:443:127.0.0.1:" + port(g.shared)
	if got := g.run("", "curl", "--silent", "--insecure", "--http1.1", "--connect-to", at, "-H", "Host: mail.example.test", "https://localhost/healthz"); !strings.Contains(got, "404") {
		t.Errorf("got %q", got)
	}
	s.logged(t, "127.0.0.1 HTTP/1.1 404 mail.example.test /healthz")
}

// TestHandoverRestarts: while nginx is away there is 502, and afterwards all is
// well again.
func TestHandoverRestarts(t *testing.T) {
	s := startNginx(t)
	g := newGateway(t, fmt.Sprintf("domains: [mail.example.test]\nsites:\n  - {hosts: [localhost], handover: '%s', handover_h2: '%s'}\n", s.http1, s.h2))
	status := []string{"--output", "/dev/null", "--write-out", "%{http_code}", "https://localhost/"}
	for range 2 {
		for _, version := range []string{"--http1.1", "--http2"} {
			if got := g.curl(append(status, version)...); got != "200" {
				t.Errorf("%s: %s", version, got)
			}
		}
		s.Stop()
		for _, version := range []string{"--http1.1", "--http2"} {
			if got := g.curl(append(status, version)...); got != "502" {
				t.Errorf("%s: %s while nginx is away", version, got)
			}
		}
		s.Start()
	}
}

// TestFilesLikeNginx: of a folder, the gateway answers as nginx does.
func TestFilesLikeNginx(t *testing.T) {
	s := startNginx(t)
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(s.dir, "hello.txt"), past, past); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, "domains: [localhost]\nsites:\n  - {root: '"+s.dir+"'}\n")
	gateway := &http.Client{Transport: &http.Transport{TLSClientConfig: g.tlsConfig(""), DisableCompression: true}, CheckRedirect: stay}
	nginx := &http.Client{Transport: &http.Transport{DisableCompression: true}, CheckRedirect: stay}
	t.Cleanup(gateway.CloseIdleConnections)
	t.Cleanup(nginx.CloseIdleConnections)
	modified := past.UTC().Format(http.TimeFormat)
	before, after := past.Add(-time.Minute).UTC().Format(http.TimeFormat), past.Add(time.Minute).UTC().Format(http.TimeFormat)
	// ask replaces TAG by the file's.
	ask := func(cl *http.Client, base, method, path string, fields []string) string {
		r, err := cl.Head(base + path)
		if err != nil {
			t.Fatal(err)
		}
		tag := r.Header.Get("Etag")
		request, err := http.NewRequest(method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range fields {
			name, value, _ := strings.Cut(field, ": ")
			request.Header.Add(name, strings.ReplaceAll(value, "TAG", tag))
		}
		if r, err = cl.Do(request); err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.StatusCode >= 400 || strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
			return r.Status // the rest is everybody's own
		}
		text := fmt.Sprintf("%d %q range %q tag %v", r.StatusCode, body, r.Header.Get("Content-Range"), r.Header.Get("Etag") == tag && tag != "")
		if r.StatusCode < 300 {
			text += fmt.Sprintf(" length %d modified %q", r.ContentLength, r.Header.Get("Last-Modified"))
		}
		return text
	}
	// Where nginx departs from RFC 9110 section 13.2.2 is left out: it looks at
	// If-Modified-Since beside If-None-Match.
	for _, fields := range [][]string{
		nil,
		{"If-None-Match: TAG"}, {"If-None-Match: *"}, {`If-None-Match: "other"`}, {`If-None-Match: "other", TAG`}, {"If-None-Match: W/TAG"},
		{"If-Modified-Since: " + modified}, {"If-Modified-Since: " + after}, {"If-Modified-Since: " + before}, {"If-Modified-Since: never"},
		{`If-None-Match: "other"`, "If-Modified-Since: " + modified}, {"If-None-Match: TAG", "If-Modified-Since: " + after},
		{"If-Match: TAG"}, {"If-Match: *"}, {`If-Match: "other"`}, {`If-Match: "other", TAG`},
		{"If-Unmodified-Since: " + modified}, {"If-Unmodified-Since: " + before}, {"If-Unmodified-Since: " + after},
		{"Range: bytes=0-9"}, {"Range: bytes=90-"}, {"Range: bytes=-5"}, {"Range: bytes=-500"}, {"Range: bytes=99-200"}, {"Range: bytes=100-"},
		{"Range: bytes=0-1,4-5"},
		{"Range: bytes=0-9", "If-Range: TAG"}, {"Range: bytes=0-9", `If-Range: "other"`}, {"Range: bytes=0-9", "If-Range: " + modified},
		{"Range: bytes=0-9", "If-Range: " + before}, {"Range: bytes=0-9", "If-None-Match: TAG"},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			got := ask(gateway, "https://localhost:"+port(g.shared), method, "/hello.txt", fields)
			want := ask(nginx, "http://"+s.bare, method, "/hello.txt", fields)
			if got != want {
				t.Errorf("%s %q: got  %s\nnginx answers %s", method, fields, got, want)
			}
		}
	}
	status := func(cl *http.Client, base, method, path string) string {
		request, err := http.NewRequest(method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := cl.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		location := r.Header.Get("Location")
		return fmt.Sprint(r.StatusCode, " ", strings.TrimPrefix(location, base))
	}
	for _, path := range []string{"/", "/sub/", "/sub", "/sub?a=b", "/sub//", "//sub", "/nowhere", "/nowhere/", "/hello.txt/", "/empty.txt", "/%68ello.txt"} {
		got, want := status(gateway, "https://localhost:"+port(g.shared), "GET", path), status(nginx, "http://"+s.bare, "GET", path)
		if path == "/hello.txt/" { // where nginx sees ENOTDIR
			want = "404 "
		}
		if got != want {
			t.Errorf("%s: %s, and nginx %s", path, got, want)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		if got, want := status(gateway, "https://localhost:"+port(g.shared), method, "/hello.txt"), status(nginx, "http://"+s.bare, method, "/hello.txt"); got != want {
			t.Errorf("%s: %s, and nginx %s", method, got, want)
		}
	}
}

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// TestFileOf1GB takes no more memory than a small one, whoever asks for how much.
func TestFileOf1GB(t *testing.T) {
	dir := t.TempDir()
	const size = 1 << 30
	f, err := os.Create(filepath.Join(dir, "large.bin"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, size / 2, size - 5} {
		if _, err := f.WriteAt([]byte("mark\n"), at); err != nil {
			t.Fatal(err)
		}
	}
	g := newGateway(t, "sites:\n  - {root: '"+dir+"'}\n")
	var clients sync.WaitGroup
	for _, version := range []string{"--http1.1", "--http2"} {
		clients.Go(func() {
			got := g.curl(version, "--max-time", "300", "--output", "/dev/null", "--write-out", "%{http_code} %{size_download}", "https://localhost/large.bin")
			if got != fmt.Sprintf("200 %d", size) {
				t.Errorf("%s: %s", version, got)
			}
		})
		if got := g.curl(version, "--range", fmt.Sprintf("%d-%d", size/2, size/2+4), "https://localhost/large.bin"); got != "mark\n" {
			t.Errorf("%s: %q", version, got)
		}
		if got := g.curl(version, "--head", "https://localhost/large.bin"); !strings.Contains(strings.ToLower(got), fmt.Sprintf("\ncontent-length: %d\r", size)) {
			t.Errorf("%s: %q", version, got)
		}
		many := make([]string, 4000)
		for i := range many {
			many[i] = fmt.Sprintf("%d-", i)
		}
		if got := g.curl(version, "--range", strings.Join(many, ","), "--max-filesize", "2000000000", "--output", "/dev/null", "--write-out", "%{http_code}", "https://localhost/large.bin"); got != "200" {
			t.Errorf("%s: %s of overlapping parts", version, got)
		}
	}
	clients.Wait()
	if rss := g.proc("VmHWM"); rss > 120<<10 {
		t.Errorf("the gateway grew to %d kB", rss)
	}
}

// TestSitesReload: SIGHUP takes over what sites are configured, unless something is
// wrong with it.
func TestSitesReload(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	put(t, filepath.Join(a, "index.html"), "a")
	put(t, filepath.Join(b, "index.html"), "b")
	g := newGateway(t, "sites:\n  - {root: '"+a+"'}\n")
	config, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(old, new, message string) {
		t.Helper()
		config = []byte(strings.Replace(string(config), old, new, 1))
		put(t, g.config, string(config))
		if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		g.awaitLog(message)
	}
	if got := g.curl("https://localhost/"); got != "a" {
		t.Errorf("got %q", got)
	}
	reload(a, b, `"changed":["sites"]`)
	if got := g.curl("https://localhost/"); got != "b" {
		t.Errorf("got %q", got)
	}
	reload(b, "/nowhere", "the configuration stays as it was")
	if got := g.curl("https://localhost/"); got != "b" {
		t.Errorf("got %q", got)
	}
	reload("- {root: '/nowhere'}", "- {hosts: [new.example.test], redirect: 'https://example.org/'}", "new name is served after a restart")
	if got := g.curl("https://localhost/"); !strings.Contains(got, "<html") {
		t.Errorf("got %q", got)
	}
}

// TestHostileSites: what holds for the gateway's own paths holds for each kind of
// site: one response to what two servers could read in two ways, and floods that
// others do not notice.
func TestHostileSites(t *testing.T) {
	answer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", n, err)
	}))
	t.Cleanup(answer.Close)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "index.html"), strings.Repeat("hello ", 10000))
	g := newGateway(t, "sites:\n  - {path: /upstream/, upstream: '"+answer.URL+"'}\n  - {path: /files/, root: '"+dir+"'}\n"+
		"  - {path: /redirect/, redirect: 'https://localhost:1/', keep_path: true}\n")
	before := g.proc("VmRSS")
	for _, path := range []string{"/upstream/", "/files/", "/redirect/"} {
		for name, first := range twofold(path) {
			t.Run(path+" "+name, func(t *testing.T) {
				t.Parallel()
				p := g.in(t).httpOf()
				p.send(first + "GET " + path + "?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")
				out := p.over(12*time.Second + slack)
				if codes := statuses(out); len(codes) != 1 {
					t.Errorf("%q: %.500q", codes, out)
				}
			})
		}
		for name, flood := range floods() {
			t.Run(path+" "+name, func(t *testing.T) {
				if name != "rapid reset" && name != "made you reset" && name != "zero window" && !strings.HasSuffix(name, "CONTINUATION") {
					return // before the request is anybody's
				}
				g.in(t).withstand(path, flood, before)
			})
		}
	}
	t.Run("no open redirect, and nothing injected", func(t *testing.T) {
		t.Parallel()
		for _, target := range []string{
			"/redirect//elsewhere.example/", "/redirect/%2f%2felsewhere.example", "/redirect/%0d%0aX-Injected:%20y", "/redirect/?%0d%0aX-Injected:%20y",
			"/redirect?\"><script>", "/redirect/@elsewhere.example/", "/redirect/.elsewhere.example", "/files//elsewhere.example/%2e%2e", "/files", "//files", "///elsewhere.example/",
		} {
			p := g.in(t).httpOf()
			p.send("GET " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			out := p.over(12 * time.Second)
			_, location, found := strings.Cut(out, "\r\nLocation: ")
			location, _, _ = strings.Cut(location, "\r\n")
			if len(statuses(out)) != 1 || strings.Contains(out, "\nX-Injected") || strings.ContainsAny(location, "<>\" ") ||
				found && !strings.HasPrefix(location, "https://localhost:1/") && location != "/files/" && !strings.HasPrefix(location, "/redirect/") {
				t.Errorf("%s: %.300q", target, out)
			}
		}
	})
}
