package park

import (
	"io"
	"net"
	"syscall"
)

// Direct returns the way to read from and write to a connection that costs
// least: for a socket and nothing more (see NewSocket) one that does not tell
// the scheduler of each system call. Nothing is gained by that for calls that do
// not wait: they are over before it could give the processor to others, and its
// watchman, who looks for long ones, would be kept awake. For other connections
// it is nc itself. Deadlines and Close are still nc's.
func Direct(nc net.Conn) io.ReadWriter {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		if raw, err := nc.(syscall.Conn).SyscallConn(); err == nil {
			return direct(nc, raw)
		}
	}
	return nc
}
