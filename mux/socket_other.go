//go:build !linux

package mux

import "net"

// tuneSocket sets how soon a peer that vanished is noticed.
func tuneSocket(nc net.Conn, l *Limits) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: l.DeadPeer / 3, Interval: l.DeadPeer / 18, Count: 3,
		})
	}
}

// unsent is negative: it cannot be known here.
func unsent(net.Conn) int64 { return -1 }
