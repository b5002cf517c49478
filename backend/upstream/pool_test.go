package upstream_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthorn/backend/upstream"
)

func TestNew(t *testing.T) {
	for _, addresses := range [][]string{
		nil, {""}, {"mail"}, {":143"}, {"mail:"}, {"unix:"}, {"a:1:2"}, {"a:1", "b:1", "a:1"},
	} {
		if _, err := upstream.New(upstream.Config{Addresses: addresses}); err == nil {
			t.Errorf("%q: no error", addresses)
		}
	}
}

func TestDial(t *testing.T) {
	tcp := serve(t, says(greeting+"* more\r\n"))
	unix := serveOn(t, "unix", filepath.Join(t.TempDir(), "s"), says(greeting+"* more\r\n"))
	for _, s := range []*server{tcp, unix} {
		p := newPool(t, upstream.Config{Backend: "mail", Service: "imap", Addresses: []string{s.address}})
		c := dial(t, p, upstream.Header{})
		if c.Address() != s.address {
			t.Errorf("Address: %s, want %s", c.Address(), s.address)
		}
		switch c.Conn.(type) {
		case *net.TCPConn, *net.UnixConn:
		default:
			t.Errorf("Conn is a %T", c.Conn)
		}
		if line, err := c.ReadLine(100); line != "* more" || err != nil {
			t.Errorf("ReadLine: %q, %v", line, err)
		}
		got := p.Status()[0]
		want := upstream.Status{Backend: "mail", Service: "imap", Address: s.address, Up: true, Since: got.Since, Conns: 1}
		if got != want {
			t.Errorf("Status: %+v, want %+v", got, want)
		}
		_ = c.Close()
		_ = c.Close()
		if n := p.Status()[0].Conns; n != 0 {
			t.Errorf("%d connections after Close", n)
		}
	}
}

// closedPort is an address that refuses connections.
func closedPort(t *testing.T) string {
	s := serve(t, says(""))
	s.stop()
	return s.address
}

func TestFailover(t *testing.T) {
	good := serve(t, says(greeting))
	bad := map[string]string{
		"refuses":          closedPort(t),
		"closes":           serve(t, func(net.Conn) {}).address,
		"is silent":        serve(t, says("")).address,
		"sends garbage":    serve(t, says("\x00\xff\r\n")).address,
		"sends no CR":      serve(t, says("* OK\n")).address,
		"is endless":       serve(t, says(strings.Repeat("x", 1<<20))).address,
		"breaks off":       serve(t, func(c net.Conn) { _, _ = c.Write([]byte("* OK rea")) }).address,
		"has no socket":    "unix:" + filepath.Join(t.TempDir(), "none"),
		"has no such name": "nonexistent.invalid:143",
	}
	for name, address := range bad {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, upstream.Config{Addresses: []string{address, good.address}, Timeout: 200 * time.Millisecond})
			for range 2 {
				if c := dial(t, p, upstream.Header{}); c.Address() != good.address {
					t.Errorf("connected to %s", c.Address())
				}
			}
			if s := p.Status(); s[0].Up || s[0].Error == "" || s[0].Conns != 0 || !s[1].Up {
				t.Errorf("Status: %+v", s)
			}
		})
	}
}

func TestNoneIsUp(t *testing.T) {
	p := newPool(t, upstream.Config{Addresses: []string{closedPort(t), serve(t, says("\r\n")).address}})
	for range 2 { // while they are up, and when they are down
		_, err := p.Dial(context.Background(), upstream.Header{})
		if !errors.Is(err, upstream.ErrUnavailable) {
			t.Fatalf("error %v", err)
		}
		for _, s := range p.Status() {
			if s.Up || s.Conns != 0 || !strings.Contains(err.Error(), s.Address+": ") {
				t.Errorf("error %v, status %+v", err, s)
			}
		}
	}
}
