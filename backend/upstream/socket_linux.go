package upstream

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control returns what sets TCP_USER_TIMEOUT (RFC 5482) on a new socket. What
// cannot be set is no reason not to connect.
func control(userTimeout time.Duration) func(network, _ string, rc syscall.RawConn) error {
	return func(network, _ string, rc syscall.RawConn) error {
		if network == "unix" {
			return nil
		}
		return rc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
		})
	}
}

// writeHeader writes the first octets of a connection. With more, the next
// write comes at once, and goes into the same packet.
func writeHeader(c net.Conn, b []byte, more bool) error {
	tc, ok := c.(*net.TCPConn)
	if !ok || !more {
		_, err := c.Write(b)
		return err
	}
	rc, err := tc.SyscallConn()
	if err != nil {
		return err
	}
	n := 0
	err = rc.Write(func(fd uintptr) bool {
		n, _ = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		return true
	})
	if err == nil && n < len(b) { // Write knows how to wait, and the error
		_, err = c.Write(b[max(n, 0):])
	}
	return err
}
