package alpn_test

import (
	"strings"
	"testing"

	"posthorn/alpn"
)

func TestSniff(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want alpn.Protocol
		more bool
	}{
		{"", alpn.HTTP1, true}, // silence is HTTP's

		{"EHLO [127.0.0.1]\r\n", alpn.SMTP, false},
		{"helo x\r\n", alpn.SMTP, false},
		{"EHLO\r\n", alpn.SMTP, false},
		{"EHLO\n", alpn.SMTP, false},
		{"EHLO", alpn.HTTP1, true},
		{"EH", alpn.HTTP1, true},
		{"EHLOX ", alpn.HTTP1, true},
		{"EHLO\t", alpn.HTTP1, false},

		{"a1 LOGIN x y\r\n", alpn.IMAP, false},
		{". CAPABILITY\r\n", alpn.IMAP, false},
		{"a] noop\r\n", alpn.IMAP, false},
		{"A00001 ID (\"name\" \"x\")\r\n", alpn.IMAP, false},
		{"A AUTHENTICATE PLAIN\r\n", alpn.IMAP, false},
		{"a1 LOG", alpn.HTTP1, true},
		{"a1 ", alpn.HTTP1, true},
		{"a1 LOGX", alpn.HTTP1, false},
		{"a1  LOGIN x y\r\n", alpn.HTTP1, false},
		{"a+1 LOGIN x y\r\n", alpn.HTTP1, false},
		{" LOGIN x y\r\n", alpn.HTTP1, false},

		{"GET / HTTP/1.1\r\n", alpn.HTTP1, false},
		{"GET http://x_y/ HTTP/1.1\r\n", alpn.HTTP1, false},
		{"OPTIONS * HTTP/1.1\r\n", alpn.HTTP1, false},
		{"CONNECT login:443 HTTP/1.1\r\n", alpn.HTTP1, false},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", alpn.HTTP1, false},
		{"\r\nGET / HTTP/1.1\r\n", alpn.HTTP1, false},
		{"\x16\x03\x01", alpn.HTTP1, false},
		{"\x00", alpn.HTTP1, false},

		{strings.Repeat("a", alpn.SniffLen-1), alpn.HTTP1, true},
		{strings.Repeat("a", alpn.SniffLen), alpn.HTTP1, false},
		{strings.Repeat("a", alpn.SniffLen-3) + " ID\r\n", alpn.HTTP1, false},
		{strings.Repeat("a", alpn.SniffLen-4) + " ID\r\n", alpn.IMAP, false},
	} {
		if p, more := alpn.Sniff([]byte(tt.in)); p != tt.want || more != tt.more {
			t.Errorf("Sniff(%q) = %q, %v; want %q, %v", tt.in, p, more, tt.want, tt.more)
		}
	}
}

func FuzzSniff(f *testing.F) {
	for _, s := range []string{"EHLO x\r\n", "a1 LOGIN x y\r\n", "GET / HTTP/1.1\r\n", "\r\n", "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, open := alpn.Sniff(b)
		if len(b) >= alpn.SniffLen && open {
			t.Fatal("SniffLen bytes do not suffice")
		}
		// Bytes that come one at a time lead where they lead together.
		for i := range b {
			if p, more := alpn.Sniff(b[:i]); !more {
				if p != whole || open {
					t.Fatalf("%q is %q, %q is %q (more: %v)", b[:i], p, b, whole, open)
				}
				return
			}
		}
	})
}
