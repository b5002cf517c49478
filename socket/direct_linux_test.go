package socket_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"posthorn/loopback"
	"posthorn/socket"
)

// More than any socket holds goes through, both ways at once.
func TestDirect(t *testing.T) {
	near, far := loopback.Pair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	var both sync.WaitGroup
	for _, from := range []*net.TCPConn{near, far} {
		both.Go(func() {
			if n, err := socket.Direct(from).Write(sent); n != len(sent) || err != nil {
				t.Errorf("wrote %d of %d: %v", n, len(sent), err)
			}
			from.CloseWrite()
		})
		both.Go(func() {
			got, err := io.ReadAll(socket.Direct(from))
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("read %d octets, %v; want the %d that were sent", len(got), err, len(sent))
			}
		})
	}
	both.Wait()
}

// Errors are those of package net.
func TestDirectErrors(t *testing.T) {
	b := make([]byte, 1<<20)
	for _, tt := range []struct {
		name string
		do   func(near, far *net.TCPConn) (int, error)
		want error
	}{
		{"nothing asked for", func(near, _ *net.TCPConn) (int, error) { return socket.Direct(near).Read(nil) }, nil},
		{"nothing to write", func(near, _ *net.TCPConn) (int, error) { return socket.Direct(near).Write(nil) }, nil},
		{"end", func(near, far *net.TCPConn) (int, error) {
			far.Close()
			return socket.Direct(near).Read(b)
		}, io.EOF},
		{"reset", func(near, far *net.TCPConn) (int, error) {
			far.SetLinger(0)
			far.Close()
			return socket.Direct(near).Read(b)
		}, syscall.ECONNRESET},
		{"nobody reads any more", func(near, far *net.TCPConn) (int, error) {
			far.SetLinger(0)
			far.Close()
			near.Read(b) // until the reset is here
			return socket.Direct(near).Write(b)
		}, syscall.EPIPE},
		{"deadline of a read", func(near, _ *net.TCPConn) (int, error) {
			near.SetReadDeadline(time.Now().Add(time.Millisecond))
			return socket.Direct(near).Read(b)
		}, os.ErrDeadlineExceeded},
		{"closed", func(near, _ *net.TCPConn) (int, error) {
			near.Close()
			return socket.Direct(near).Read(b)
		}, net.ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := loopback.Pair(t)
			n, err := tt.do(near, far)
			if n != 0 || !errors.Is(err, tt.want) {
				t.Errorf("%d, %v; want %v", n, err, tt.want)
			}
			if op, ok := errors.AsType[*net.OpError](err); ok && op.Op != "read" && op.Op != "write" {
				t.Errorf("it says it is of %q", op.Op)
			}
		})
	}
}

// A write that is cut short tells how far it came.
func TestDirectWriteCutShort(t *testing.T) {
	near, far := loopback.Pair(t)
	near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	n, err := socket.Direct(near).Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	near.CloseWrite()
	got, err := io.Copy(io.Discard, far)
	if err != nil || got != int64(n) {
		t.Errorf("%d octets came, %v; %d were told", got, err, n)
	}
}

// What is more than a socket stays what it is.
func TestDirectOfOthers(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if socket.Direct(a) != io.ReadWriter(a) {
		t.Error("a pipe is not itself")
	}
}
