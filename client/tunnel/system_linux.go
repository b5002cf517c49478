package tunnel

import (
	"net"

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
