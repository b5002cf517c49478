package backendtest_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthorn/backend/backendtest"
)

func TestScript(t *testing.T) {
	s := backendtest.StartScript(t,
		backendtest.Script{Greet: []backendtest.Act{backendtest.Say("* BYE not now\r\n"), backendtest.Close()}},
		backendtest.Script{
			Greet: []backendtest.Act{backendtest.Say("* OK hello\r\n")},
			Rules: []backendtest.Rule{
				{Line: `(\S+) noop`, Do: []backendtest.Act{backendtest.Say("$1 OK done\r\n")}},
				{Line: `(\S+) flood`, Do: []backendtest.Act{backendtest.Repeat("x", 100000), backendtest.Reset()}},
			},
		})
	if c := dial(t, s.Address); c.line() != "* BYE not now" || c.rest() != "" {
		t.Error("the first connection did not get the first script")
	}
	for _, tag := range []string{"a", "b"} {
		c := dial(t, s.Address)
		if got := c.line(); got != "* OK hello" {
			t.Errorf("greeted with %q", got)
		}
		c.send(tag + "1 NOOP\r\n")
		if got := c.line(); got != tag+"1 OK done" {
			t.Errorf("answered %q", got)
		}
		c.send(tag + "2 FLOOD\r\n")
		got, err := io.ReadAll(c.r)
		if len(got) > 100000 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%d bytes, then %v", len(got), err)
		}
	}
	if want := []string{"a1 NOOP", "a2 FLOOD", "b1 NOOP", "b2 FLOOD"}; !slices.Equal(s.Lines(), want) {
		t.Errorf("was sent %q", s.Lines())
	}
}

// TestVanish: what is sent to a socket without network is not acknowledged,
// while an idle peer that is there answers keepalives.
func TestVanish(t *testing.T) {
	s := backendtest.StartScript(t, backendtest.Script{Greet: []backendtest.Act{backendtest.Say("hello\r\n"), backendtest.Hang(0)}})
	r := backendtest.StartRelay(t, s.Address)
	there, gone := dial(t, s.Address), dial(t, r.Address)
	for _, c := range []*conn{there, gone} {
		if got := c.line(); got != "hello" {
			t.Fatalf("greeted with %q", got)
		}
		err := c.Conn.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	}
	r.Cut()
	if _, err := gone.r.ReadByte(); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("the lost connection ended with %v", err)
	}
	if _, err := there.r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the other one ended with %v", err)
	}
	if _, err := net.DialTimeout("tcp", r.Address, 100*time.Millisecond); err == nil {
		t.Error("a new connection came through")
	}
}

// conn is a client's conversation in lines.
type conn struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, address string) *conn {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &conn{t, c, bufio.NewReader(c)}
}

func (c *conn) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conn) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("after %q: %v", s, err)
	}
	return strings.TrimRight(s, "\r\n")
}

func (c *conn) rest() string {
	got, _ := io.ReadAll(c.r)
	return string(got)
}

// until returns all lines up to the one with a prefix.
func (c *conn) until(prefix string) (lines string) {
	c.t.Helper()
	for {
		line := c.line()
		lines += line + "\n"
		if strings.HasPrefix(line, prefix) {
			return lines
		}
	}
}
