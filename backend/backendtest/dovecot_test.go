package backendtest_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"net"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"

	"posthorn/backend/backendtest"
)

const alice = "alice@example.org"

func TestDovecot(t *testing.T) {
	t.Parallel()
	d := backendtest.StartDovecot(t, backendtest.DovecotOptions{
		Users:  map[string]string{alice: "wonderland"},
		Master: "gateway", MasterPassword: "secret",
		CommonName: true, Create: true, Trusted: true, MaxConnections: 3,
	})
	d.Deliver(t, alice, strings.NewReader("Subject: hello\n\nHello.\n"))

	t.Run("password", func(t *testing.T) {
		for _, address := range []string{d.Plain, d.Unix} {
			c := greeted(t, dial(t, address))
			c.send("a LOGIN " + alice + " wrong\r\n")
			if got := c.until("a "); !strings.HasPrefix(got, "a NO [AUTHENTICATIONFAILED]") {
				t.Errorf("a wrong password was answered with %q", got)
			}
			c.send("b LOGIN " + alice + " wonderland\r\n")
			got := c.until("b ")
			for _, want := range []string{"COMPRESS=DEFLATE", "QRESYNC", "CONDSTORE", "NOTIFY", "METADATA", "QUOTA", "XDELTAPUSH"} {
				if !strings.Contains(got, want) {
					t.Errorf("no %s in %q", want, got)
				}
			}
			c.send("c SELECT INBOX\r\n")
			if got := c.until("c "); !strings.Contains(got, "* 1 EXISTS") {
				t.Errorf("the INBOX has %q", got)
			}
			c.send("d LOGOUT\r\n")
			c.until("d OK")
		}
	})
	t.Run("TLS", func(t *testing.T) {
		c, err := tls.Dial("tcp", d.TLS, &tls.Config{RootCAs: d.Authority.Pool})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		greeted(t, &conn{t, c, bufio.NewReader(c)})
	})
	t.Run("master", func(t *testing.T) {
		for _, plain := range []string{alice + "\x00gateway\x00secret", "\x00" + alice + "*gateway\x00secret"} {
			c := greeted(t, dial(t, d.Plain))
			c.send("a AUTHENTICATE PLAIN " + b64(plain) + "\r\n")
			if got := c.until("a "); !strings.Contains(got, "a OK") {
				t.Errorf("%q was answered with %q", plain, got)
			}
			c.send("b LOGOUT\r\n")
			c.until("b OK")
		}
	})
	t.Run("common name", func(t *testing.T) {
		c := proxied(t, d.Proxy, alice)
		greeted(t, c)
		c.send("a AUTHENTICATE EXTERNAL =\r\n")
		if got := c.until("a "); !strings.Contains(got, "a OK") {
			t.Errorf("answered with %q", got)
		}
		d.Await(t, "user=<"+alice+">, method=EXTERNAL, rip=192.0.2.7")
	})
	t.Run("ID", func(t *testing.T) {
		c := greeted(t, dial(t, d.Plain))
		c.send("a ID (\"x-originating-ip\" \"192.0.2.8\")\r\n")
		c.until("a OK")
		c.send("b LOGIN " + alice + " wonderland\r\n")
		c.until("b OK")
		d.Await(t, "user=<"+alice+">, method=PLAIN, rip=192.0.2.8")
	})
	t.Run("first login", func(t *testing.T) {
		const user = "ninechars@example.org"
		if d.Created(user) {
			t.Error("there before its first login")
		}
		for _, try := range []struct{ password, status string }{{"short", "NO"}, {"long enough", "OK"}, {"long enough", "OK"}, {"another one", "NO"}} {
			c := greeted(t, dial(t, d.Plain))
			c.send("a LOGIN " + user + " \"" + try.password + "\"\r\n")
			if got := c.until("a "); !strings.Contains(got, "a "+try.status) {
				t.Errorf("%q was answered with %q", try.password, got)
			}
		}
		if !d.Created(user) {
			t.Error("not created")
		}
	})
	t.Run("limit", func(t *testing.T) {
		var last string
		for range 4 {
			c := greeted(t, dial(t, d.Plain))
			c.send("a LOGIN " + alice + " wonderland\r\n")
			last = c.until("a ")
		}
		if !strings.Contains(last, "Maximum number of connections") {
			t.Errorf("the fourth was answered with %q", last)
		}
	})
	t.Run("restart", func(t *testing.T) {
		c := greeted(t, dial(t, d.Plain))
		c.send("a LOGIN long@example.org x\r\n")
		c.until("a ")
		d.Kill()
		if got := c.rest(); got != "" {
			t.Errorf("killed, but it said %q", got)
		}
		d.Start()
		greeted(t, dial(t, d.Plain))
	})
}

func greeted(t testing.TB, c *conn) *conn {
	t.Helper()
	if got := c.line(); !strings.HasPrefix(got, "* OK [CAPABILITY ") {
		t.Fatalf("greeted with %q", got)
	}
	return c
}

// proxied connects with a PROXY header from 192.0.2.7, in which a client
// certificate has a name, if that is not empty.
func proxied(t testing.TB, address, name string) *conn {
	t.Helper()
	c := dial(t, address)
	h := proxyproto.HeaderProxyFromAddrs(2,
		&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1234}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443})
	if name != "" {
		// PP2_CLIENT_SSL and _CERT_CONN, verified, and PP2_SUBTYPE_SSL_CN
		value := append([]byte{3, 0, 0, 0, 0, 0x22, 0, byte(len(name))}, name...)
		if err := h.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_SSL, Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.WriteTo(c); err != nil {
		t.Fatal(err)
	}
	return c
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
