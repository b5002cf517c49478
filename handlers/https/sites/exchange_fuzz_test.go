package sites

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// FuzzRequest: what the site reads is the one request that the gateway read, in
// which nobody but the gateway says who asks.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST https://a/b//c%2f?d;%zz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"GET /a#b HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nx_real_ip: 2\r\nForwarded: 3\r\n\r\n",
		"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /..;/%5c..%5c HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x-hop\r\nUpgrade: websocket\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: iroh derp http\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length\r\nContent-Length: 0\r\nTransfer_Encoding: chunked\r\n\r\n",
		"P\tT / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /\xff\"<> HTTP/1.1\r\nHost: a_b\r\nX: \xff\t y \r\n\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		in, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil || in.ContentLength != 0 || !serverTakes(in) || !Sound(in) || in.URL.Path == "" {
			return
		}
		in.RemoteAddr = netip.MustParseAddrPort("[2001:db8::1]:5").String()
		out := appendRequest(nil, in, upgrade(in))
		br := bufio.NewReader(bytes.NewReader(out))
		got, err := http.ReadRequest(br)
		if err != nil || br.Buffered() > 0 || !serverTakes(got) || got.ContentLength != 0 || len(got.TransferEncoding) > 0 {
			t.Fatalf("%q became %q: %v", raw, out, err)
		}
		if got.Method != in.Method || got.Host != in.Host || got.URL.Path != in.URL.Path || got.URL.RawQuery != in.URL.RawQuery {
			t.Errorf("%q became %q", raw, out)
		}
		for name, values := range got.Header {
			lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
			if (strings.HasPrefix(lower, "x-forwarded-") || lower == "forwarded" || lower == "x-real-ip") &&
				(len(values) != 1 || name != "X-Forwarded-For" && name != "X-Forwarded-Host" && name != "X-Forwarded-Proto") {
				t.Errorf("%q became %q", raw, out)
			}
		}
		if got.Header.Get("X-Forwarded-For") != "2001:db8::1" || got.Header.Get("X-Forwarded-Proto") != "https" {
			t.Errorf("%q became %q", raw, out)
		}
		if upgrade(got) != upgrade(in) || len(got.Header["Upgrade"]) > 0 && upgrade(in) == "" {
			t.Errorf("%q became %q", raw, out)
		}
	})
}

// serverTakes reports whether net/http's server would show a request to its
// handler.
func serverTakes(r *http.Request) bool {
	if !r.ProtoAtLeast(1, 1) || r.Host == "" || !httpguts.ValidHostHeader(r.Host) {
		return false
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	return true
}
