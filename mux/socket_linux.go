package mux

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A peer that vanished is noticed after keepIdle plus userTimeout when nothing
// was under way, else after userTimeout. Waking a phone's radio more often
// than its user's mail does would be a poor trade.
const (
	keepIdle     = 2 * time.Minute
	keepInterval = 20 * time.Second
	userTimeout  = time.Minute // RFC 5482
)

// tuneListener sets what connections inherit from their listener. What cannot
// be set is no reason not to serve.
func tuneListener(ln net.Listener) {
	if sc, ok := ln.(syscall.Conn); ok {
		setOption(sc, unix.TCP_USER_TIMEOUT, userTimeout)
	}
}

// tuneSocket sets the options that package net overrides at accept. That delays
// are off and keepalives on is its default; userTimeout says how many of those
// may go unanswered.
func tuneSocket(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		setOption(tc, unix.TCP_KEEPIDLE, keepIdle)
		setOption(tc, unix.TCP_KEEPINTVL, keepInterval)
	}
}

func setOption(sc syscall.Conn, option int, d time.Duration) {
	unit := time.Second
	if option == unix.TCP_USER_TIMEOUT {
		unit = time.Millisecond
	}
	if rc, err := sc.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, int(d/unit))
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
