package upstream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"posthorn/backend/upstream"
)

// told is what a PROXY header says, as a server reads it.
type told struct {
	Command     string // PROXY or LOCAL
	From, To    string
	ALPN, Name  string
	SSL         bool
	Certificate bool // shown on this connection, and verified
	Version     string
	Cipher      string
	CommonName  string
}

// readHeader reads a header, and wants no octet of it to come late: servers
// read it at once.
func readHeader(c net.Conn) (told, *bufio.Reader, error) {
	first := make([]byte, 4096)
	n, err := c.Read(first)
	if err != nil {
		return told{}, nil, err
	}
	r := bufio.NewReader(io.MultiReader(strings.NewReader(string(first[:n])), c))
	h, err := proxyproto.Read(r)
	if err != nil {
		return told{}, nil, err
	}
	if size, err := h.Format(); err != nil || len(size) > n || len(size) > 536 {
		return told{}, nil, errors.New("the header is too long, or came in pieces")
	}
	t := told{Command: "LOCAL"}
	if h.Command.IsProxy() {
		t.Command, t.From, t.To = "PROXY", h.SourceAddr.String(), h.DestinationAddr.String()
	}
	all, err := h.TLVs()
	for _, v := range all {
		switch v.Type {
		case proxyproto.PP2_TYPE_ALPN:
			t.ALPN = string(v.Value)
		case proxyproto.PP2_TYPE_AUTHORITY:
			t.Name = string(v.Value)
		}
	}
	if s, ok := tlvparse.FindSSL(all); ok {
		t.SSL = s.ClientSSL()
		t.Certificate = s.ClientCertConn() && s.Verified()
		t.Version, _ = s.SSLVersion()
		t.Cipher, _ = s.SSLCipher()
		t.CommonName, _ = s.ClientCN()
		if s.ClientCertConn() != s.Verified() {
			return t, nil, errors.New("a certificate that is shown is verified here, and none is not")
		}
	}
	return t, r, err
}

// proxied returns a server that wants a PROXY header and then greets, and what
// it is told.
func proxied(t testing.TB) (*server, <-chan told) {
	headers := make(chan told, 10)
	return serve(t, func(c net.Conn) {
		h, _, err := readHeader(c)
		if err != nil {
			t.Errorf("header: %v", err)
		}
		headers <- h
		says(greeting)(c)
	}), headers
}

var tls13 = &tls.ConnectionState{
	Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, NegotiatedProtocol: "imap",
}

func TestHeader(t *testing.T) {
	ap := netip.MustParseAddrPort
	tls12 := &tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
	chacha := &tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}
	v4, v4too := ap("192.0.2.1:1234"), ap("198.51.100.2:443")
	v6, v6too := ap("[2001:db8::1]:1234"), ap("[2001:db8::2]:443")
	long := strings.Repeat("a", 255)
	for name, c := range map[string]struct {
		header upstream.Header
		want   told
	}{
		"local":    {upstream.Header{}, told{Command: "LOCAL"}},
		"ipv4":     {upstream.Header{Remote: v4, Local: v4too}, told{Command: "PROXY", From: v4.String(), To: v4too.String()}},
		"ipv6":     {upstream.Header{Remote: v6, Local: v6too}, told{Command: "PROXY", From: v6.String(), To: v6too.String()}},
		"4 in 6":   {upstream.Header{Remote: ap("[::ffff:192.0.2.1]:1234"), Local: v4too}, told{Command: "PROXY", From: v4.String(), To: v4too.String()}},
		"4 to 6":   {upstream.Header{Remote: v4, Local: v6too}, told{Command: "PROXY", From: v4.String(), To: v6too.String()}},
		"zone":     {upstream.Header{Remote: ap("[fe80::1%eth0]:1"), Local: v6too}, told{Command: "PROXY", From: "[fe80::1]:1", To: v6too.String()}},
		"no local": {upstream.Header{Remote: v4}, told{Command: "LOCAL"}},
		"tls 1.3": {upstream.Header{Remote: v4, Local: v4too, TLS: tls13, ServerName: "imap.example.org"}, told{
			Command: "PROXY", From: v4.String(), To: v4too.String(), ALPN: "imap", Name: "imap.example.org",
			SSL: true, Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256",
		}},
		"tls 1.2": {upstream.Header{Remote: v4, Local: v4too, TLS: tls12}, told{
			Command: "PROXY", From: v4.String(), To: v4too.String(),
			SSL: true, Version: "TLSv1.2", Cipher: "ECDHE-ECDSA-AES256-GCM-SHA384",
		}},
		"chacha": {upstream.Header{Remote: v4, Local: v4too, TLS: chacha}, told{
			Command: "PROXY", From: v4.String(), To: v4too.String(),
			SSL: true, Version: "TLSv1.2", Cipher: "ECDHE-RSA-CHACHA20-POLY1305",
		}},
		"common name": {upstream.Header{Remote: v6, Local: v6too, TLS: tls13, ServerName: "imap.example.org", CommonName: "zoë@example.org"}, told{
			Command: "PROXY", From: v6.String(), To: v6too.String(), ALPN: "imap", Name: "imap.example.org",
			SSL: true, Certificate: true, Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", CommonName: "zoë@example.org",
		}},
		"does not fit": {upstream.Header{Remote: v6, Local: v6too, TLS: tls13, ServerName: long, CommonName: long}, told{
			Command: "PROXY", From: v6.String(), To: v6too.String(), ALPN: "imap",
			SSL: true, Certificate: true, Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", CommonName: long,
		}},
		"odd names": {upstream.Header{Remote: v4, Local: v4too, ServerName: "a\r\nb"}, told{Command: "PROXY", From: v4.String(), To: v4too.String()}},
		"long name": {upstream.Header{Remote: v4, Local: v4too, ServerName: long + "a"}, told{Command: "PROXY", From: v4.String(), To: v4too.String()}},
	} {
		t.Run(name, func(t *testing.T) {
			s, headers := proxied(t)
			p := newPool(t, upstream.Config{Addresses: []string{s.address}, ProxyProtocol: true})
			dial(t, p, c.header)
			if diff := cmp.Diff(c.want, <-headers); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestHeaderWithoutUser has user names that a server would not take for what
// they are: they go nowhere, and no address is to blame.
func TestHeaderWithoutUser(t *testing.T) {
	s, _ := proxied(t)
	p := newPool(t, upstream.Config{Addresses: []string{s.address}, ProxyProtocol: true})
	ap := netip.MustParseAddrPort("192.0.2.1:1234")
	for name, h := range map[string]upstream.Header{
		"NUL":          {Remote: ap, Local: ap, TLS: tls13, CommonName: "master\x00@example.org"},
		"line":         {Remote: ap, Local: ap, TLS: tls13, CommonName: "a\r\nb"},
		"not UTF-8":    {Remote: ap, Local: ap, TLS: tls13, CommonName: "a\xff"},
		"too long":     {Remote: ap, Local: ap, TLS: tls13, CommonName: strings.Repeat("a", 500)},
		"endless":      {Remote: ap, Local: ap, TLS: tls13, CommonName: strings.Repeat("a", 70000)},
		"no TLS":       {Remote: ap, Local: ap, CommonName: "a"},
		"no addresses": {TLS: tls13, CommonName: "a"},
	} {
		if _, err := p.Dial(context.Background(), h); err == nil || errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if s.accepted() > 0 || !p.Status()[0].Up {
		t.Errorf("%d connections, status %+v", s.accepted(), p.Status())
	}
}

// reread reads from elsewhere.
type reread struct {
	net.Conn
	r io.Reader
}

func (r *reread) Read(b []byte) (int, error) { return r.r.Read(b) }

// FuzzHeader wants what a client has a say in to make no header that servers
// take for something else.
func FuzzHeader(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1}, uint16(1234), "imap.example.org", "imap", "user@example.org", true)
	f.Add([]byte{0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, uint16(1), "\x00", "", "", false)
	f.Add([]byte{127, 0, 0, 1}, uint16(0), strings.Repeat("a", 300), strings.Repeat("b", 255), strings.Repeat("c", 254), true)
	f.Fuzz(func(t *testing.T, ip []byte, port uint16, name, protocol, user string, secured bool) {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			return
		}
		h := upstream.Header{
			Remote: netip.AddrPortFrom(addr, port), Local: netip.MustParseAddrPort("198.51.100.2:443"),
			ServerName: name, CommonName: user,
		}
		if secured {
			h.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, NegotiatedProtocol: protocol}
		}
		b, err := h.Marshal()
		if err != nil {
			if user == "" {
				t.Fatal(err)
			}
			return
		}
		got, _, err := readHeader(&reread{r: strings.NewReader(string(b))})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case got.Command != "PROXY", got.From != netip.AddrPortFrom(addr.Unmap().WithZone(""), port).String():
			t.Errorf("%+v", got)
		case got.CommonName != user, strings.ContainsAny(got.CommonName, "\x00\r\n"), got.Certificate != (user != ""):
			t.Errorf("user %q: %+v", user, got)
		case got.Name != "" && got.Name != name, strings.ContainsAny(got.Name, "\x00\r\n \x7f"):
			t.Errorf("name %q: %+v", name, got)
		}
	})
}
