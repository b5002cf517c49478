package tunnel

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// peerUser is the user at the other end of a Unix socket.
func peerUser(nc *net.UnixConn) (uid int, err error) {
	rc, err := nc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	err = rc.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err == nil {
		err = failed
	}
	if err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}

// setUserTimeout sets TCP_USER_TIMEOUT (RFC 5482), without which what was sent and
// is never acknowledged takes a quarter of an hour to fail.
func setUserTimeout(c *net.TCPConn, d time.Duration) {
	if rc, err := c.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d/time.Millisecond))
		})
	}
}
