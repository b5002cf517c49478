package client

import (
	"bytes"
	"strings"
	"testing"

	"posthorn/alpn"
)

// FuzzECH reads what servers and resolvers say of ECH.
func FuzzECH(f *testing.F) {
	f.Add([]byte("\x00\x15\xfe\x0d\x00\x11\x01\x00\x20\x00\x00\x00\x00\x20\x07example\x00\x00"))
	f.Add([]byte(`{"endpoints":[{"priority":1,"params":{"ech":"AAA="}},{"params":{"ech":"BBB="}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if name := publicName(data); len(name) > 255 {
			t.Errorf("a public name of %d octets", len(name))
		}
		list, err := parseOrigin(bytes.NewReader(data))
		if err != nil && (list != nil || strings.ContainsAny(err.Error(), "\r\n")) {
			t.Errorf("%q, %q", list, err)
		}
	})
}

// FuzzGreeting judges first lines.
func FuzzGreeting(f *testing.F) {
	for _, s := range []string{"* OK hi\r\n", "* PREAUTH x\r\n", "220 x\r\n", "220-x\r\n220 y\r\n", "HTTP/1.1 200 OK\r\n", "\x1b[2J\u202e\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, p := range []alpn.Protocol{alpn.IMAP, alpn.SMTP} {
			c := &Conn{Route: Route{Protocol: p}, early: data}
			err := c.judge()
			if err != nil && strings.ContainsAny(err.Error(), "\r\n\x1b\u202e") {
				t.Errorf("%q", err)
			}
			if err == nil && c.Preauthenticated() {
				t.Errorf("%q logs in nobody", data)
			}
		}
	})
}
