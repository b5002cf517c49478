//go:build !linux

package upstream

import (
	"net"
	"syscall"
	"time"
)

// control has nothing to do here.
func control(time.Duration) func(string, string, syscall.RawConn) error { return nil }

// writeHeader writes the first octets of a connection.
func writeHeader(c net.Conn, b []byte, _ bool) error {
	_, err := c.Write(b)
	return err
}
