package folder_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/handlers/https/sites/folder"
)

// tree makes a folder of files. A name that begins with -> is a link.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, dir string) *folder.Folder {
	t.Helper()
	f, err := folder.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// serve asks for a path, as it is after decoding.
func serve(f *folder.Folder, method, path string, fields ...string) (*httptest.ResponseRecorder, error) {
	r := &http.Request{Method: method, URL: &url.URL{Path: path}, Header: make(http.Header), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	return w, f.Serve(w, r, path)
}

const secret = "secret"

// hostile is a folder with what is not to be shown, and with ways out.
func hostile(t testing.TB) *folder.Folder {
	t.Helper()
	dir := tree(t, map[string]string{
		"index.html": "index", "a/b.txt": "b", "a/index.html/c": "a folder", "empty/x": "x",
		".env": secret, ".git/config": secret, "a/.htpasswd": secret, ".well-known/security.txt": "shown", ".well-known/.x": secret,
		"a/.well-known/x": secret,
		"out":             "-> ../outside", "out.txt": "-> ../outside/secret", "abs.txt": "-> /etc/passwd", "up": "-> ..",
		"a/deep": "-> ../../outside/secret", "loop": "-> loop", "in.txt": "-> a/b.txt", "chain.txt": "-> out.txt", "dev": "-> /dev/zero",
		"...x": secret,
	})
	outside := filepath.Join(filepath.Dir(dir), "outside")
	if err := os.MkdirAll(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte(secret), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.txt"), 0o644); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

func TestWhatIsShown(t *testing.T) {
	f := hostile(t)
	for path, want := range map[string]string{
		"/": "index", "/index.html": "index", "//": "index", "/a/b.txt": "b", "/a//b.txt": "b", "/in.txt": "b",
		"/.well-known/security.txt": "shown",
	} {
		for range 2 { // from the disk, and from memory
			if w, err := serve(f, "GET", path); err != nil || w.Body.String() != want {
				t.Errorf("%s: %q, %v", path, w.Body, err)
			}
			if got, ok := f.Ready(path, ""); !ok || string(got.Content) != want {
				t.Errorf("%s: not ready: %q", path, got.Content)
			}
		}
	}
	for _, path := range []string{
		"/.env", "/.git/config", "/.git/", "/a/.htpasswd", "/.well-known/.x", "/a/.well-known/x", "/./index.html", "/../outside/secret", "/a/../.env",
		"/..", "/.", "/...x", "/out/secret", "/out.txt", "/chain.txt", "/abs.txt", "/up/outside/secret", "/a/deep", "/loop", "/dev", "/pipe.txt",
		"/b.txt/", "/a/b.txt/", "/a/b.txt/c", "/empty/", "/nowhere", "/a\x00", "/a/b.txt\x00.html", "/\\..\\outside", "/" + strings.Repeat("a", 300),
		"/" + strings.Repeat("a/", 5000), "/a/index.html/", "/a/",
	} {
		if w, err := serve(f, "GET", path); !errors.Is(err, fs.ErrNotExist) || w.Body.Len() > 0 || len(w.Header()) > 0 {
			t.Errorf("%q: %v %.50q", path, err, w.Body)
		}
		if got, ok := f.Ready(path, ""); ok {
			t.Errorf("%q: ready: %q", path, got.Content)
		}
	}
	for _, path := range []string{"/a", "/empty", "/a/index.html"} {
		if _, err := serve(f, "GET", path); !errors.Is(err, folder.ErrFolder) {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", ""} {
		if _, err := serve(f, method, "/"); err != folder.ErrMethod {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// FuzzPath: nothing secret is shown, whatever is asked for.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/", "/../outside/secret", "/a/..//.env", "/out.txt", "/a/b.txt", "/\x00", "/up/../.git/config"} {
		f.Add(seed)
	}
	files := hostile(f)
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		w, err := serve(files, "GET", path)
		if strings.Contains(w.Body.String(), secret) || err == nil && w.Code != 200 {
			t.Errorf("%q: %d %q", path, w.Code, w.Body)
		}
		got, ok := files.Ready(path, "")
		if ok != (err == nil) || !bytes.Equal(got.Content, w.Body.Bytes()) {
			t.Errorf("%q: %q, and ready %q", path, w.Body, got.Content)
		}
	})
}

func TestOpen(t *testing.T) {
	dir := tree(t, map[string]string{"file": "", "link": "-> ."})
	for _, bad := range []string{filepath.Join(dir, "nowhere"), filepath.Join(dir, "file"), ""} {
		if f, err := folder.Open(bad, ""); err == nil {
			f.Close()
			t.Errorf("%q is opened", bad)
		}
	}
	f := open(t, filepath.Join(dir, "link"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := serve(f, "GET", "/file"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestCodings: a client gets what it takes, of what there is.
func TestCodings(t *testing.T) {
	text := strings.Repeat("hello ", 500)
	dir := tree(t, map[string]string{
		"both.js": text, "both.js.br": "br of it", "both.js.gz": "gz of it", "fly.css": text, "small.css": "x", "a.png": text,
		"stale.js": text, "stale.js.br": "old", "noise.txt": "", "large.txt": strings.Repeat(text, 1000), "large.txt.gz": "gz",
	})
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "stale.js.br"), past, past); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	tags := make(map[string]string)
	for _, c := range []struct{ path, accept, want string }{
		{"/both.js", "", ""}, {"/both.js", "gzip, deflate, br", "br"}, {"/both.js", "gzip", "gzip"}, {"/both.js", "*", "br"},
		{"/both.js", "br;q=0, *", "gzip"}, {"/both.js", "br; q=0.0, gzip;Q=0.001", "gzip"}, {"/both.js", "identity", ""},
		{"/both.js", "br;q=, gzip;q=x", ""}, {"/both.js", "*;q=0", ""}, {"/both.js", "BR", "br"}, {"/both.js", "x-gzip", "gzip"}, {"/both.js", "brotli", ""},
		{"/fly.css", "gzip", "gzip"}, {"/fly.css", "br", ""}, {"/small.css", "gzip", ""}, {"/a.png", "gzip, br", ""},
		{"/stale.js", "br", ""}, {"/stale.js", "br, gzip", "gzip"}, {"/noise.txt", "gzip", ""}, {"/large.txt", "gzip", "gzip"}, {"/large.txt", "br", ""},
	} {
		var fields []string
		if c.accept != "" {
			fields = []string{"Accept-Encoding: " + c.accept}
		}
		w, err := serve(f, "GET", c.path, fields...)
		if got := w.Header().Get("Content-Encoding"); err != nil || got != c.want {
			t.Errorf("%s for %q: %q, %v", c.path, c.accept, got, err)
		}
		if got := w.Header().Get("Vary"); (got == "Accept-Encoding") == strings.HasSuffix(c.path, ".png") {
			t.Errorf("%s: Vary: %s", c.path, got)
		}
		if got := w.Header().Get("Content-Length"); got != fmt.Sprint(w.Body.Len()) {
			t.Errorf("%s for %q: Content-Length: %s of %d", c.path, c.accept, got, w.Body.Len())
		}
		if got, ok := f.Ready(c.path, c.accept); ok && !bytes.Equal(got.Content, w.Body.Bytes()) {
			t.Errorf("%s for %q: another one is ready", c.path, c.accept)
		}
		tag, key := w.Header().Get("Etag"), c.path+" "+c.want
		for other, seen := range tags {
			if (seen == tag) != (other == key) && strings.HasPrefix(other, c.path+" ") {
				t.Errorf("%q has the tag of %q", key, other)
			}
		}
		tags[key] = tag
		if w, _ := serve(f, "GET", c.path, append(fields, "If-None-Match: "+tag)...); w.Code != 304 || w.Body.Len() > 0 {
			t.Errorf("%s for %q: %d for its tag", c.path, c.accept, w.Code)
		}
		if w, _ := serve(f, "GET", c.path, append(fields, "Range: bytes=0-1")...); c.path != "/noise.txt" && (w.Code != 206 || w.Header().Get("Content-Encoding") != "") {
			t.Errorf("%s for %q: %d %s of a part", c.path, c.accept, w.Code, w.Header().Get("Content-Encoding"))
		}
	}
}

// TestManyFiles: what is kept has a limit, and all can be read.
func TestManyFiles(t *testing.T) {
	files := make(map[string]string)
	for i := range 60 {
		files[fmt.Sprintf("%d.bin", i)] = strings.Repeat(string(rune('a'+i%26)), 900<<10)
	}
	f := open(t, tree(t, files))
	before := inUse()
	for range 2 {
		for name, content := range files {
			if w, err := serve(f, "GET", "/"+name); err != nil || w.Body.String() != content {
				t.Errorf("%s: %d octets, %v", name, w.Body.Len(), err)
			}
		}
	}
	if grown := inUse() - before; grown > 36<<20 {
		t.Errorf("%d MiB are kept", grown>>20)
	}
	runtime.KeepAlive(f)
	runtime.KeepAlive(files)
}

// inUse is how much memory is used after what is not has been given back.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBecomesAnother: a file that is cut off, removed, or becomes a folder or a
// link out is not shown any more, nor are parts of it.
func TestBecomesAnother(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"removed": os.Remove,
		"a folder": func(path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o755))
		},
		"a link out": func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)) },
		"cut off":    func(path string) error { return os.Truncate(path, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := tree(t, map[string]string{"x.txt": "hello"})
				path := filepath.Join(dir, "x.txt")
				if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil { // by the time of the test
					t.Fatal(err)
				}
				f := open(t, dir)
				if w, err := serve(f, "GET", "/x.txt"); err != nil || w.Body.String() != "hello" {
					t.Fatal(w, err)
				}
				if err := change(path); err != nil {
					t.Fatal(err)
				}
				time.Sleep(1100 * time.Millisecond)
				w, err := serve(f, "GET", "/x.txt")
				if w.Body.Len() > 1 || (err == nil) != (name == "cut off") {
					t.Errorf("%q, %v", w.Body, err)
				}
			})
		})
	}
}

// TestKeepsNoRequest: a name is kept, and not the request that it was a part of.
func TestKeepsNoRequest(t *testing.T) {
	const n = 64
	files := make(map[string]string)
	for i := range n {
		files[fmt.Sprintf("%d.txt", i)] = "x"
	}
	f := open(t, tree(t, files))
	before := inUse()
	for i := range n {
		path := fmt.Sprintf("/%d.txt", i)
		request := path + strings.Repeat("x", 1<<20)
		if _, ok := f.Ready(request[:len(path)], ""); !ok {
			t.Fatalf("%s is not at hand", path)
		}
	}
	if grown := inUse() - before; grown > n<<20/2 {
		t.Errorf("%d files take %d KiB", n, grown>>10)
	}
	runtime.KeepAlive(f)
}

// TestBeside: a compressed file that comes or goes counts, whatever is in memory.
func TestBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := tree(t, map[string]string{"x.txt": "hello"})
		path := filepath.Join(dir, "x.txt")
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil { // by the time of the test
			t.Fatal(err)
		}
		f := open(t, dir)
		for _, c := range []struct {
			change func() error
			want   string
		}{
			{func() error { return nil }, "hello"},
			{func() error { return os.WriteFile(path+".gz", []byte("packed"), 0o644) }, "packed"},
			{func() error { return os.WriteFile(path+".gz", []byte("packed anew"), 0o644) }, "packed anew"},
			{func() error { return os.Remove(path + ".gz") }, "hello"},
		} {
			if err := c.change(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1100 * time.Millisecond)
			if w, err := serve(f, "GET", "/x.txt", "Accept-Encoding: gzip"); err != nil || w.Body.String() != c.want {
				t.Errorf("%q, %v; want %q", w.Body, err, c.want)
			}
		}
	})
}
