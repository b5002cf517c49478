package https

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"posthorn/handlers/https/sites"
)

const simpleEnd = " HTTP/1.1\r\nHost: a\r\n\r\n"

func TestSimple(t *testing.T) {
	for request, want := range map[string]bool{
		"GET /" + simpleEnd:            true,
		"HEAD /a/b.html" + simpleEnd:   true,
		"GET /a/~b@(1)+c" + simpleEnd:  true,
		"GET /a/" + simpleEnd + "more": true,
		"GET / HTTP/1.1\r\nhOST:a:443 \r\nAccept: */*\r\nConnection: Keep-Alive\r\nCookie: a=b\r\n\r\n": true,

		"":                                                       false,
		"GET /":                                                  false,
		"GET /" + simpleEnd[:20]:                                 false,
		"GET / HTTP/1.1\r\n\r\n":                                 false,
		"GET / HTTP/1.0\r\nHost: a\r\n\r\n":                      false,
		"\r\nGET /" + simpleEnd:                                  false,
		"POST /" + simpleEnd:                                     false,
		"get /" + simpleEnd:                                      false,
		"GET *" + simpleEnd:                                      false,
		"GET http://a/" + simpleEnd:                              false,
		"GET  /" + simpleEnd:                                     false,
		"GET / " + simpleEnd:                                     false,
		"GET //a" + simpleEnd:                                    false,
		"GET /a//" + simpleEnd:                                   false,
		"GET /.a" + simpleEnd:                                    false,
		"GET /a/../b" + simpleEnd:                                false,
		"GET /a;b" + simpleEnd:                                   false,
		"GET /a?b" + simpleEnd:                                   false,
		"GET /%61" + simpleEnd:                                   false,
		"GET /a\\b" + simpleEnd:                                  false,
		"GET /\x00" + simpleEnd:                                  false,
		"GET /\xc3\xa9" + simpleEnd:                              false,
		"GET / HTTP/1.1\nHost: a\n\n":                            false,
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n":           false,
		"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n":        false,
		"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n":             false,
		"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n":               false,
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n":           false,
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\nb: c\r\n\r\n":        false,
		"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n":           false,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": false,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: x\r\n\r\n": false,
	} {
		var r simple
		n := r.parse([]byte(request))
		if (n > 0) != want {
			t.Errorf("%q: %d, want %v", request, n, want)
		}
		if n > 0 && request[n-4:n] != "\r\n\r\n" {
			t.Errorf("%q: ends after %q", request, request[:n])
		}
	}
	for _, name := range []string{
		"Content-Length", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Expect", "Range", "HTTP2-Settings",
		"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
	} {
		for _, name := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if n := new(simple).parse([]byte("GET / HTTP/1.1\r\nHost: a\r\n" + name + ": 0\r\n\r\n")); n > 0 {
				t.Errorf("%s is simple", name)
			}
		}
	}
}

// FuzzSimple: a simple request is what net/http takes it for, and nothing more.
func FuzzSimple(f *testing.F) {
	for _, seed := range []string{
		"GET /" + simpleEnd, "HEAD /a/b.html HTTP/1.1\r\nhost:\ta:1\t\r\nAccept-Encoding: br;q=0, *\r\nConnection: keep-alive\r\n\r\nGET /",
		"GET /" + strings.Repeat("a", 100) + simpleEnd, "GET / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nX:\r\n\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		var got simple
		n := got.parse([]byte(raw))
		if n == 0 {
			return
		}
		if n > len(raw) || !strings.HasSuffix(raw[:n], "\r\n\r\n") {
			t.Fatalf("%q: %d", raw, n)
		}
		br := bufio.NewReader(strings.NewReader(raw[:n]))
		want, err := http.ReadRequest(br)
		if err != nil || br.Buffered() > 0 {
			t.Fatalf("%q: net/http: %v", raw[:n], err)
		}
		method := map[bool]string{false: "GET", true: "HEAD"}[got.head]
		if want.Method != method || want.RequestURI != got.path || want.URL.Path != got.path || want.URL.EscapedPath() != got.path || want.Host != got.host {
			t.Errorf("%q is %+v, and for net/http %s %s %s", raw, got, want.Method, want.URL, want.Host)
		}
		if want.ContentLength != 0 || want.Close || len(want.TransferEncoding) > 0 || !sites.Sound(want) || sites.EndsConnection(want) ||
			want.Header.Get("Range") != "" || strings.Join(want.Header["Accept-Encoding"], ",") != got.acceptEncoding {
			t.Errorf("%q is not simple", raw)
		}
	})
}
