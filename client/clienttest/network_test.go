package clienttest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"posthorn/client/clienttest"
	"posthorn/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that says back what it hears.
func echo(t *testing.T) string {
	t.Helper()
	return loopback.Serve(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// say sends a text and reads so many octets back.
func say(c net.Conn, text string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(400 * time.Millisecond)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	b := make([]byte, len(text))
	n, err := io.ReadFull(c, b)
	return string(b[:n]), err
}

func TestRules(t *testing.T) {
	gateway := clienttest.Gateway{443: echo(t)}
	tests := map[string]struct {
		rules clienttest.Rules
		first error // nil: the text comes back
		later error // after some idle time
	}{
		"pass":       {clienttest.Rules{}, nil, nil},
		"not TLS":    {clienttest.Rules{NotTLS: clienttest.Reset}, syscall.ECONNRESET, nil},
		"black hole": {clienttest.Rules{NotTLS: clienttest.BlackHole}, os.ErrDeadlineExceeded, nil},
		"cut":        {clienttest.Rules{NotTLS: clienttest.Cut}, io.EOF, nil},
		"idle":       {clienttest.Rules{Idle: 100 * time.Millisecond, IdleVerdict: clienttest.Reset}, nil, syscall.ECONNRESET},
		"idle, gone": {clienttest.Rules{Idle: 100 * time.Millisecond, IdleVerdict: clienttest.BlackHole}, nil, os.ErrDeadlineExceeded},
		"octets":     {clienttest.Rules{Bytes: 12, BytesVerdict: clienttest.BlackHole}, nil, os.ErrDeadlineExceeded},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := clienttest.New(t, gateway, tt.rules)
			for _, dial := range []func() (net.Conn, error){
				func() (net.Conn, error) { return n.DialContext(t.Context(), "tcp", "mail.example.org:443") },
				func() (net.Conn, error) { return net.Dial("tcp", n.Listen(443)) },
			} {
				c, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				text, err := say(c, "hello")
				if !errors.Is(err, tt.first) || err == nil && text != "hello" {
					t.Errorf("%q, %v; want %v", text, err, tt.first)
				}
				if tt.first == nil {
					later(t, c, tt.rules.Idle, tt.later)
				}
				c.Close()
			}
		})
	}
}

// later wants an error of a connection that has been idle, and may not be; without
// one it says something once.
func later(t *testing.T, c net.Conn, idle time.Duration, want error) {
	t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if err = quiet(c, 2*idle); err == nil {
			_, err = say(c, "there")
		}
		if errors.Is(err, want) {
			return
		}
	}
	t.Errorf("later %v; want %v", err, want)
}

// quiet wants nothing to come for a time.
func quiet(c net.Conn, d time.Duration) error {
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("something came")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return err
}

func TestPorts(t *testing.T) {
	n := clienttest.New(t, clienttest.Gateway{443: echo(t), 993: echo(t)}, clienttest.Rules{
		Ports: map[uint16]clienttest.Verdict{443: clienttest.Refuse, 993: clienttest.BlackHole},
	})
	for address, want := range map[string]error{
		"x:443": syscall.ECONNREFUSED, "x:25": syscall.ECONNREFUSED, "x:993": context.DeadlineExceeded,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if _, err := n.DialContext(ctx, "tcp", address); !errors.Is(err, want) {
			t.Errorf("%s: %v", address, err)
		}
		cancel()
	}
}
