//go:build !linux

package mux

import (
	"net"
	"time"
)

// tuneSocket sets the options of a client's connection.
func tuneSocket(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetNoDelay(true)
		_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: 2 * time.Minute, Interval: 20 * time.Second, Count: 3,
		})
	}
}

// unsent is negative: it cannot be known here.
func unsent(net.Conn) int64 { return -1 }
