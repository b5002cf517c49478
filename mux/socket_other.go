//go:build !linux

package mux

import (
	"net"
	"time"
)

// tuneListener has nothing to do here.
func tuneListener(net.Listener) {}

// tuneSocket sets how soon a peer that vanished is noticed.
func tuneSocket(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: 2 * time.Minute, Interval: 20 * time.Second, Count: 3,
		})
	}
}

// unsent is negative: it cannot be known here.
func unsent(net.Conn) int64 { return -1 }
