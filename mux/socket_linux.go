package mux

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A peer that vanished is noticed after keepIdle plus userTimeout when nothing
// was under way, else after userTimeout. Waking a phone's radio more often
// than its user's mail does would be a poor trade.
const (
	keepIdle    = 2 * time.Minute
	userTimeout = time.Minute // RFC 5482
)

// tuneSocket sets the options of a client's connection. What cannot be set is
// no reason to refuse a client.
func tuneSocket(nc net.Conn) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tc.SetNoDelay(true)
	_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: keepIdle, Interval: 20 * time.Second, Count: 3,
	})
	if rc, err := tc.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT,
				int(userTimeout/time.Millisecond))
		})
	}
}

// unsent is how many bytes the peer has not acknowledged yet; negative when
// that cannot be known.
func unsent(nc net.Conn) int64 {
	n := -1
	if tc, ok := nc.(*net.TCPConn); ok {
		if rc, err := tc.SyscallConn(); err == nil {
			_ = rc.Control(func(fd uintptr) {
				if v, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
					n = v
				}
			})
		}
	}
	return int64(n)
}
