package mux

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// When nothing is under way, a client is asked whether it is still there after
// keepIdle, and then every keepInterval; the kernel gives up once userTimeout
// has passed since it was last heard, which leaves room for two questions to be
// lost. What is under way has to be acknowledged within userTimeout (RFC 5482).
// At worst something is sent just before the kernel would give up, so twice
// userTimeout make up Limits.DeadPeer.
func (l *Limits) keepIdle() time.Duration     { return l.DeadPeer / 3 }
func (l *Limits) keepInterval() time.Duration { return l.DeadPeer / 18 }
func (l *Limits) userTimeout() time.Duration  { return l.DeadPeer / 2 }

// tuneSocket sets the options of an accepted connection: package net has its own
// idea of keepalives, and those that were in the queue when a listener's options
// changed have its former ones. That delays are off is net's default, and that
// keepalives are on the listener's or net's. What cannot be set is no reason not
// to serve.
func tuneSocket(nc net.Conn, l *Limits) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	rc, err := tc.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) {
		for _, option := range [...]struct {
			name int
			d    time.Duration
			unit time.Duration
		}{
			{unix.TCP_KEEPIDLE, l.keepIdle(), time.Second},
			{unix.TCP_KEEPINTVL, l.keepInterval(), time.Second},
			{unix.TCP_USER_TIMEOUT, l.userTimeout(), time.Millisecond},
		} {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option.name, max(1, int(option.d/option.unit)))
		}
	})
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
