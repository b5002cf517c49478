//go:build !linux

package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
)

// Conn is never made here: sockets are package net's.
type Conn struct{ net.TCPConn }

// Listen returns ln.
func Listen(ln net.Listener) (net.Listener, error) { return ln, nil }

// DialContext connects as net.Dialer does.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	other := net.Dialer{KeepAlive: -1, KeepAliveConfig: d.Patience.config()}
	return other.DialContext(ctx, network, address)
}

func (p Patience) config() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: p.Idle != 0, Idle: p.Idle, Interval: p.Interval, Count: questions}
}

// SetPatience sets how long an accepted connection lives whose peer does not
// answer.
func SetPatience(nc net.Conn, p Patience) error {
	if tc, ok := nc.(*net.TCPConn); ok && p.Idle != 0 {
		return tc.SetKeepAliveConfig(p.config())
	}
	return nil
}

// Unsent is negative: it cannot be known here.
func Unsent(net.Conn) int64 { return -1 }

// TryRead always fails here.
func TryRead(syscall.RawConn, []byte) (n int, ok bool, err error) {
	return 0, false, errors.ErrUnsupported
}

// WriteMore writes b.
func WriteMore(nc net.Conn, b []byte) error {
	_, err := nc.Write(b)
	return err
}

func direct(nc net.Conn, _ syscall.RawConn) io.ReadWriter { return nc }
