package socket

import (
	"io"
	"net"
	"syscall"
)

// Direct returns the way to read from and write to a connection that costs
// least: for a Bare one that does not tell the scheduler of system calls, for
// others nc itself. Deadlines and Close are still nc's.
func Direct(nc net.Conn) io.ReadWriter {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		if raw, err := nc.(syscall.Conn).SyscallConn(); err == nil {
			return direct(nc, raw)
		}
	}
	return nc
}
