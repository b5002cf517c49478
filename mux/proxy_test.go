package mux_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"posthorn/alpn"
	"posthorn/mux"
)

// remotes makes IMAP answer with the connection's addresses.
func remotes(c *mux.Config) {
	c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	c.Handlers[alpn.IMAP] = &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, _ string) string {
		return c.Remote.String() + " " + c.Conn.RemoteAddr().String() + " " + c.Local.String()
	}}
}

func proxyV2(t testing.TB, edit func(*proxyproto.Header)) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2,
		&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1000}, &net.TCPAddr{IP: net.ParseIP("2001:db8::2"), Port: 443})
	if edit != nil {
		edit(h)
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func withTLVs(t testing.TB, size int) func(*proxyproto.Header) {
	return func(h *proxyproto.Header) {
		if err := h.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, size)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProxyHeader(t *testing.T) {
	b := start(t, remotes)
	addr := b.listen(alpn.Shared)
	v6 := "[2001:db8::1]:1000 [2001:db8::1]:1000 [2001:db8::2]:443"
	for name, tt := range map[string]struct{ header, want string }{
		"v1":       {"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n", "192.0.2.1:1000 192.0.2.1:1000 192.0.2.2:443"},
		"v1 IPv6":  {"PROXY TCP6 2001:db8::1 2001:db8::2 1000 443\r\n", v6},
		"v2":       {string(proxyV2(t, nil)), v6},
		"v2 TLVs":  {string(proxyV2(t, withTLVs(t, 4000))), v6},
		"v2 local": {string(proxyV2(t, func(h *proxyproto.Header) { h.Command = proxyproto.LOCAL })), "127.0.0.1:"},
		"unknown":  {"PROXY UNKNOWN\r\n", "127.0.0.1:"},

		"none":      {"", ""},
		"too long":  {"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443" + strings.Repeat(" ", 100) + "\r\n", ""},
		"bad":       {"PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n", ""},
		"v2 large":  {string(proxyV2(t, withTLVs(t, 8000))), ""},
		"two":       {strings.Repeat("PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n", 2), ""},
		"SIGV2 cut": {string(proxyproto.SIGV2) + "\x21\x11\x00\x0c12", ""},
	} {
		for _, split := range []bool{false, true} {
			raw := dial(t, addr)
			var w net.Conn = raw
			if split {
				w = slow{raw}
			}
			if _, err := w.Write([]byte(tt.header)); err != nil && tt.want != "" {
				t.Fatal(err)
			}
			tc := tls.Client(raw, clientConfig("imap"))
			tc.SetDeadline(time.Now().Add(5 * time.Second))
			err := tc.Handshake()
			if tt.want == "" {
				if err == nil {
					t.Errorf("%s: accepted", name)
				}
				raw.Close()
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			c := newClient(t, tc)
			c.want("hello imap")
			c.send("who")
			if got := c.line(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: %q, want %q", name, got, tt.want)
			}
			c.Close()
		}
	}
}

// TestProxySource: the limits count clients, and not their proxy.
func TestProxySource(t *testing.T) {
	b := start(t, remotes, limits(mux.Limits{ConnsPerSource: 1, UnauthPerSource: 1}))
	addr := b.listen(alpn.Shared)
	dialAs := func(source string) *client {
		raw := dial(t, addr)
		if _, err := raw.Write([]byte("PROXY TCP6 " + source + " 2001:db8::2 1000 443\r\n")); err != nil {
			t.Fatal(err)
		}
		return newClient(t, tls.Client(raw, clientConfig("imap")))
	}
	dialAs("2001:db8:1::1").want("hello imap")
	dialAs("2001:db8:2::1").want("hello imap")
	dialAs("2001:db8:1::2").want("busy imap") // the same /64
}

// TestProxyTimeout: a header that does not come holds nothing up.
func TestProxyTimeout(t *testing.T) {
	b := start(t, remotes, limits(mux.Limits{Handshake: 50 * time.Millisecond}))
	c := dial(t, b.listen(alpn.Shared))
	if got := wantGone(t, c, 5*time.Second); len(got) > 0 {
		t.Errorf("heard %q", got)
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte("PROXY \r\n\x16\x03\x01"))
	f.Add(proxyV2(f, nil))
	f.Add(proxyV2(f, withTLVs(f, 10)))
	f.Add(append(bytes.Clone(proxyproto.SIGV2), 0x20, 0, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		header, err := mux.ReadProxyBytes(r)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, header) || r.Len() != len(b)-len(header) {
			t.Fatalf("read %q of %q, left %d bytes", header, b, r.Len())
		}
	})
}
