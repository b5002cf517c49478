package imap_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// FuzzBeforeLogin sends arbitrary bytes to a gateway in cleartext, and under
// TLS. What comes on a fresh line behind them is answered, or the connection is
// closed; nobody is logged in.
func FuzzBeforeLogin(f *testing.F) {
	for _, seed := range []string{
		"a NOOP\r\n", "a CAPABILITY\r\nb ID (\"name\" {3}\r\nabc)\r\n", "a ID NIL\r\n",
		"a LOGIN alice {3+}\r\nabc\r\n", "a LOGIN \"a\\\"b\" {3}\r\nabc\r\n", "a LOGIN {4097}\r\n",
		"a LOGIN {5++}\r\n", "a LOGIN \"x {5+}\r\n", "{5+}\r\n", "a XYZZY {5+}\r\n",
		"a AUTHENTICATE PLAIN AGEAYg==\r\n", "a AUTHENTICATE SCRAM-SHA-256\r\n*\r\n", "a AUTHENTICATE EXTERNAL =\r\n",
		"a AUTHENTICATE LOGIN\r\nYQ==\r\n\"\"\r\n", "a STARTTLS x\r\n",
		"GET / HTTP/1.1\r\n", "EHLO x\r\n", "a NOOP\nb NOOP\r\n", "\x00", "\r",
	} {
		f.Add(seed)
	}
	g := start(f)
	defer func() { g.t = f }()
	f.Fuzz(func(t *testing.T, input string) {
		upper := strings.ToUpper(input)
		if strings.Contains(upper, "LOGOUT") || strings.Contains(upper, "STARTTLS\r") {
			return
		}
		g.t = t
		for _, c := range []*client{g.dialPlain(), g.greeted()} {
			go func() {
				io.WriteString(c, input)
				// Enough of them to fill the greatest literal that may be pending.
				io.WriteString(c, strings.Repeat("\r\nmarker NOOP\r\n", 4200/15))
			}()
			for {
				line, err := c.r.ReadString('\n')
				if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal("neither an answer nor the end")
				}
				if strings.Contains(line, memoryCaps) {
					t.Fatalf("logged in: %q", line)
				}
				if err != nil || strings.HasPrefix(line, "marker OK") {
					break
				}
			}
			c.Close()
		}
	})
}
