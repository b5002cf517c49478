package mux_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/mux"
)

// upgrading makes IMAP a handler that knows STARTTLS.
func upgrading(c *mux.Config) {
	c.Handlers[alpn.IMAP] = serveFunc(func(ctx context.Context, c *mux.Conn) {
		if c.TLS() != nil {
			return
		}
		var cmd [1]byte
		if _, err := io.ReadFull(c.Conn, cmd[:]); err != nil {
			return
		}
		fmt.Fprintf(c.Conn, "begin\r\n")
		if err := c.StartTLS(ctx); err != nil {
			return
		}
		twice := c.StartTLS(ctx)
		fmt.Fprintf(c.Conn, "%s %s key=%s twice=%v\r\n", c.Protocol, c.ServerName, c.Key, twice != nil)
	})
}

func TestStartTLS(t *testing.T) {
	b := start(t, upgrading)
	addr := b.listen(alpn.IMAPStartTLS)
	begin := func() *client {
		c := newClient(t, dial(t, addr))
		if _, err := io.WriteString(c, "S"); err != nil {
			t.Fatal(err)
		}
		c.want("begin")
		return c
	}
	for _, proto := range [][]string{nil, {"imap"}} {
		cc, key := keyed(t, proto...)
		c := newClient(t, tls.Client(begin().Conn, cc))
		c.want(fmt.Sprintf("imap %s key=%s twice=true", servedName, key))
		c.wantEnd()
	}
	for _, proto := range []string{"smtp", "h2", "acme-tls/1"} {
		if err := tls.Client(begin().Conn, clientConfig(proto)).Handshake(); !gotAlert(err, alertNoApplicationProtocol) {
			t.Errorf("%s: %v", proto, err)
		}
	}
	cc := clientConfig()
	cc.ServerName = "evil.test"
	if err := tls.Client(begin().Conn, cc).Handshake(); !gotAlert(err, alertUnrecognizedName) {
		t.Error(err)
	}
	// Cleartext where the handshake should be ends the connection.
	c := newClient(t, dial(t, addr))
	if _, err := io.WriteString(c, "Sa1 LOGIN x y\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := wantGone(t, c.Conn, 5*time.Second); string(got) != "begin\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestStartTLSTimeout(t *testing.T) {
	inBubble(t, alpn.IMAPStartTLS, func(t *testing.T, b *bench, ps *pipes) {
		c := newClient(t, ps.dial())
		time.Sleep(30 * time.Second)
		if _, err := io.WriteString(c, "S"); err != nil {
			t.Fatal(err)
		}
		c.want("begin")
		wantElapsed(t, elapsed(c), 7500*time.Millisecond)
	}, upgrading)
}
