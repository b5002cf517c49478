package socket

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DialContext connects to an address of a network as package net has them. The
// connection is a *Conn when that is TCP, and the address one of IP and not a
// name. The error is a *net.OpError.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if network != "tcp" || err != nil || to.Addr().Zone() != "" {
		other := net.Dialer{KeepAlive: -1, Control: d.control}
		return other.DialContext(ctx, network, address)
	}
	c, err := d.dial(ctx, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return c, nil
}

// control is net.Dialer.Control. What cannot be set is no reason not to connect.
func (d *Dialer) control(network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	return raw.Control(func(fd uintptr) { _ = d.Patience.apply(int(fd)) })
}

func (d *Dialer) dial(ctx context.Context, to netip.AddrPort) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, size := sockaddr(to)
	fd, err := open(int(name.Addr.Family))
	if (err == unix.EMFILE || err == unix.ENFILE) && graves.clear() {
		fd, err = open(int(name.Addr.Family))
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	_ = d.Patience.apply(fd)
	// On the loopback interface the connection stands when connect returns,
	// though it says EINPROGRESS, and the second call says so: nobody waits for
	// the poller.
	err = connect(fd, &name, size)
	if pending(err) {
		err = connect(fd, &name, size)
	}
	if err != nil && !pending(err) {
		discard(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	c := newConn(fd, to)
	if err != nil {
		err = c.await(ctx, &name, size)
	}
	if err == nil && c.local() == to {
		// Nobody listens there: the kernel has happened to choose the same port,
		// and connected it to itself.
		err = os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// pending reports whether connect says that it has to be asked again.
func pending(err error) bool {
	return err == unix.EINPROGRESS || err == unix.EALREADY || err == unix.EINTR
}

// await waits until the connection stands.
func (c *Conn) await(ctx context.Context, to *unix.RawSockaddrAny, size uintptr) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo) })
	var failed error
	err := c.direct.raw.Write(func(fd uintptr) bool {
		failed = connect(int(fd), to, size)
		return !pending(failed)
	})
	switch {
	case !stop():
		return ctx.Err()
	case err != nil:
		return err
	case failed != nil:
		return os.NewSyscallError("connect", failed)
	}
	return nil
}

// sockaddr is an address as the kernel wants it, and its size.
func sockaddr(ap netip.AddrPort) (sa unix.RawSockaddrAny, size uintptr) {
	if ap.Addr().Is4() {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
		*in = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port(ap.Port()), Addr: ap.Addr().As4()}
		return sa, unsafe.Sizeof(*in)
	}
	in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa))
	*in = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port(ap.Port()), Addr: ap.Addr().As16()}
	return sa, unsafe.Sizeof(*in)
}
