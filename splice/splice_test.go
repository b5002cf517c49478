package splice_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"

	"posthorn/splice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is both ends of a TCP connection on loopback.
func pair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); a.Close() })
	return c.(*net.TCPConn), a.(*net.TCPConn)
}

// joined is a link under way: what the client and the server see of it.
type joined struct {
	client, server *net.TCPConn
	result         chan error
	end            context.CancelCauseFunc
}

func join(t testing.TB, edit func(*splice.Link)) *joined {
	t.Helper()
	client, inner := pair(t)
	outer, server := pair(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	l := &splice.Link{Client: inner, Server: outer}
	if edit != nil {
		edit(l)
	}
	j := &joined{client: client, server: server, result: make(chan error, 1), end: cancel}
	go func() {
		err := l.Run(ctx)
		inner.Close() // as mux does
		j.result <- err
	}()
	t.Cleanup(func() { cancel(nil) })
	return j
}

func read(t testing.TB, r io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

func readEnd(t testing.TB, r io.Reader, want string) {
	t.Helper()
	if b, err := io.ReadAll(r); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q and the end", b, err, want)
	}
}

func write(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func TestClientHalfClose(t *testing.T) {
	j := join(t, func(l *splice.Link) { l.Head = []byte("* early\r\n") })
	write(t, j.client, "a LOGOUT\r\n")
	j.client.CloseWrite()
	readEnd(t, j.server, "a LOGOUT\r\n")
	write(t, j.server, "* BYE\r\n")
	j.server.Close()
	readEnd(t, j.client, "* early\r\n* BYE\r\n")
	if err := <-j.result; err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
}

func TestServerHalfClose(t *testing.T) {
	j := join(t, nil)
	write(t, j.server, "* BYE\r\n")
	j.server.CloseWrite()
	readEnd(t, j.client, "* BYE\r\n")
	write(t, j.client, "late")
	j.client.Close()
	readEnd(t, j.server, "late")
	if err := <-j.result; err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

var errTest = errors.New("test")

func TestGoodbye(t *testing.T) {
	j := join(t, func(l *splice.Link) {
		l.Goodbye = func(cause error, last []byte) []byte {
			return []byte(cause.Error() + " after " + string(last))
		}
	})
	write(t, j.server, "* 12")
	write(t, j.server, "3456\r\n")
	read(t, j.client, "* 123456\r\n")
	j.end(errTest)
	readEnd(t, j.client, "test after 123456\r\n")
	if err := <-j.result; err != errTest {
		t.Errorf("got %v", err)
	}
	readEnd(t, j.server, "")
}
