package tunnel_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/client/clienttest"
	"posthorn/client/gatewaytest"
	"posthorn/client/tunnel"
)

// FuzzSignIn says anything to both dialogs: they answer, or end; nobody gets to the
// gateway.
func FuzzSignIn(f *testing.F) {
	for _, seed := range []string{
		"a NOOP\r\n", "a LOGIN x {3}\r\nabc\r\n", "a LOGIN x {3+}\r\nabc\r\n", "a AUTHENTICATE PLAIN AHgAeA==\r\n",
		"a AUTHENTICATE LOGIN\r\neA==\r\n*\r\n", "a ID (\"x\" {1}\r\ny)\r\n", "{5+}\r\n", "\r", "\x00",
		"EHLO x\r\nAUTH PLAIN\r\nAHgAeA==\r\n", "HELO x\r\nAUTH LOGIN eA==\r\neA==\r\n", "MAIL FROM:<>\r\n", "AUTH  PLAIN =\r\n", "NOOP\nNOOP\r\n",
	} {
		f.Add(seed)
	}
	g := gatewaytest.Start(f)
	n := clienttest.New(f, g.Ports, clienttest.Rules{})
	r := startTunnel(f, g, n)
	await.Until(f, "the first look is over", func() bool { return r.state(alpn.SMTP) != nil && r.state(alpn.IMAP) != nil })
	before := len(n.Seen())
	f.Fuzz(func(t *testing.T, input string) {
		if len(input) > 1<<16 {
			return
		}
		for _, address := range []string{r.imap, r.smtp} {
			nc, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
			go func() {
				_, _ = io.WriteString(nc, input)
				_ = nc.(*net.TCPConn).CloseWrite()
			}()
			all, err := io.ReadAll(nc)
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Errorf("%s: no end", address)
			}
			if bytes.Contains(all, []byte("UIDPLUS")) || bytes.Contains(all, []byte("\n235 ")) {
				t.Errorf("signed in: %q", all)
			}
			nc.Close()
		}
		if len(n.Seen()) != before {
			t.Error("the gateway was dialled")
		}
	})
}

// FuzzBoundary: however a stream is cut, a boundary is where whole responses end.
func FuzzBoundary(f *testing.F) {
	f.Add("* 1 FETCH (BODY[] {5}\r\nab\r\nc)\r\n* OK x\r\n", uint8(3))
	f.Add("a {0}\r\n\r\n{9999999999999999999999}\r\nb {1} \r\n", uint8(1))
	f.Add("a {3}\r\n\r\n* BYE\r\n", uint8(2))
	f.Add("221 x\r\n* BYE\r\n421-\n", uint8(0))
	f.Add("~{3}\r\nabc{2}\r\nab\r\n", uint8(7))
	f.Fuzz(func(t *testing.T, stream string, step uint8) {
		whole, inParts := tunnel.Boundaries(stream, len(stream)+1), tunnel.Boundaries(stream, int(step)+1)
		if whole[len(whole)-1] != inParts[len(inParts)-1] {
			t.Errorf("IMAP or SMTP: %v in one, %v in parts of %d", whole, inParts, step+1)
		}
		last := whole[len(whole)-1]
		if (last.IMAP || last.SMTP) && stream != "" && !strings.HasSuffix(stream, "\n") && !strings.Contains(stream, "{") {
			t.Errorf("a boundary in the midst of a line: %+v", last)
		}
	})
}
