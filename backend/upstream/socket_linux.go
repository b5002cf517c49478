package upstream

import (
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control returns what prepares a new socket: it sets TCP_USER_TIMEOUT (RFC 5482),
// and begins to connect to this machine. What fails here is no reason not to
// go on: net connects in any case, and hears of it again.
func control(userTimeout time.Duration) func(network, address string, rc syscall.RawConn) error {
	return func(network, address string, rc syscall.RawConn) error {
		if network == "unix" {
			return nil
		}
		return rc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
			if to := loopback(address); to != nil {
				_ = unix.Connect(int(fd), to)
			}
		})
	}
}

// loopback returns an address on the loopback interface, or nil for others.
// There, a connection stands when connect has returned, though it says
// EINPROGRESS. Asked again, which net does, it says EISCONN, and so nobody waits
// for the poller; that is a tenth of what a login costs the gateway.
func loopback(address string) unix.Sockaddr {
	ap, err := netip.ParseAddrPort(address)
	switch {
	case err != nil || !ap.Addr().IsLoopback():
		return nil
	case ap.Addr().Is4():
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	case ap.Addr().Zone() == "":
		return &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
	}
	return nil
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
