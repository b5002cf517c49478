package socket

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection, without delays (TCP_NODELAY). Its methods may be
// called concurrently, and their errors are package net's.
type Conn struct {
	direct socketIO
	file   *os.File // the runtime's poller knows it; it waits, and keeps deadlines
	fd     int      // of file
	remote netip.AddrPort

	mu     sync.Mutex // guards closed, and fd from becoming another's
	closed bool
}

// newConn makes a connection of a descriptor, which it takes over.
func newConn(fd int, remote netip.AddrPort) *Conn {
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	f := os.NewFile(uintptr(fd), "tcp")
	raw, _ := f.SyscallConn() // fails for closed files alone
	return &Conn{direct: socketIO{raw}, file: f, fd: fd, remote: remote}
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.direct.Read(b)
	return n, c.since("read", err)
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.direct.Write(b)
	return n, c.since("write", err)
}

// since is err, or what it means when c has been closed.
func (c *Conn) since(op string, err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError(op, net.ErrClosed)
	}
	return err
}

// Close implements net.Conn. The socket is closed at once; its number is given
// back later, see grave.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError("close", net.ErrClosed)
	}
	c.closed = true
	graves.bury(c.file, c.fd)
	return nil
}

// open calls f with the descriptor, unless c is closed.
func (c *Conn) open(op string, f func(fd int) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError(op, net.ErrClosed)
	}
	if err := f(c.fd); err != nil {
		return opError(op, os.NewSyscallError(op, err))
	}
	return nil
}

// CloseWrite sends FIN.
func (c *Conn) CloseWrite() error { return c.open("shutdown", endWrites) }

// SetLinger says what Close does with what the peer has not acknowledged: with
// zero it is forgotten, and the peer hears RST; negative is the default; or else
// the seconds that the kernel goes on trying.
func (c *Conn) SetLinger(seconds int) error {
	l := unix.Linger{Linger: int32(max(0, seconds))}
	if seconds >= 0 {
		l.Onoff = 1
	}
	return c.open("setsockopt", func(fd int) error { return setLinger(fd, l) })
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.deadline(t, c.file.SetDeadline)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.deadline(t, c.file.SetReadDeadline)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.deadline(t, c.file.SetWriteDeadline)
}

// deadline sets one. That of a closed connection stays what wakes those who
// wait.
func (c *Conn) deadline(t time.Time, set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError("set", net.ErrClosed)
	}
	if err := set(t); err != nil {
		return opError("set", err)
	}
	return nil
}

// SyscallConn implements syscall.Conn. What it is used for fails after Close.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.direct.raw, nil }

// LocalAddr is the *net.TCPAddr of our end, and that of nobody after Close.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local()) }

func (c *Conn) local() (ap netip.AddrPort) {
	_ = c.open("getsockname", func(fd int) error {
		name, err := localName(fd)
		ap = addrPort(&name)
		return err
	})
	return ap
}

// RemoteAddr is the *net.TCPAddr of the peer.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// set makes it last as long as p says.
func (c *Conn) set(p Patience) error {
	return c.open("setsockopt", func(fd int) error { return p.apply(fd) })
}
