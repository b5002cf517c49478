package socket

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listen makes a listener accept *Conn. It takes ln over, which is closed, even
// with an error; those that are not of TCP it returns as they are.
func Listen(ln net.Listener) (net.Listener, error) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return ln, nil
	}
	defer tcp.Close()
	f, err := tcp.File() // net's way to wait is for its own Accept
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &listener{file: f, raw: raw, addr: tcp.Addr()}, nil
}

type listener struct {
	file   *os.File
	raw    syscall.RawConn
	addr   net.Addr
	closed atomic.Bool
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	var (
		fd     int
		from   unix.RawSockaddrAny
		failed error
	)
	err := l.raw.Read(func(listening uintptr) bool {
		for {
			fd, from, failed = accept(listening)
			switch failed {
			case unix.EINTR, unix.ECONNABORTED: // it went while it waited
				continue
			case unix.EMFILE, unix.ENFILE:
				if graves.clear() {
					continue
				}
			}
			return failed != unix.EAGAIN
		}
	})
	switch {
	case l.closed.Load():
		err = net.ErrClosed
	case err == nil && failed != nil:
		err = os.NewSyscallError("accept4", failed)
	}
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: err}
	}
	return newConn(fd, addrPort(&from)), nil
}

// Close implements net.Listener.
func (l *listener) Close() error {
	if l.closed.Swap(true) {
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	return l.file.Close()
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }

// addrPort is an address as the kernel has it; the zero AddrPort for others
// than those of IP. One of IPv4 is no IPv6 address that holds it.
func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), port(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		a := netip.AddrFrom16(in.Addr).Unmap()
		if in.Scope_id != 0 {
			a = a.WithZone(zone(int(in.Scope_id)))
		}
		return netip.AddrPortFrom(a, port(in.Port))
	}
	return netip.AddrPort{}
}

// port changes one between the network's order and ours, either way.
func port(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}

// zone names an interface.
func zone(index int) string {
	if i, err := net.InterfaceByIndex(index); err == nil {
		return i.Name
	}
	return strconv.Itoa(index)
}
