package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These are system calls that do not wait, none of which is announced to the
// scheduler. Their errors are syscall.Errno, and nil for none.

// accept takes a connection, which is non-blocking, from those that wait at a
// listener.
func accept(fd uintptr) (conn int, from unix.RawSockaddrAny, err error) {
	size := uint32(unix.SizeofSockaddrAny)
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, fd, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), from, failure(errno)
}

// open returns a new non-blocking socket for TCP over IPv4 (unix.AF_INET) or
// IPv6 (unix.AF_INET6).
func open(family int) (int, error) {
	n, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int(n), failure(errno)
}

// connect begins to connect, or tells what became of it: without an error the
// connection stands.
func connect(fd int, to *unix.RawSockaddrAny, size uintptr) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), size)
	if errno == unix.EISCONN {
		return nil
	}
	return failure(errno)
}

func setOption(fd, level, name, value int) error {
	v := int32(value)
	_, _, errno := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return failure(errno)
}

func setLinger(fd int, l unix.Linger) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&l)), unsafe.Sizeof(l), 0)
	return failure(errno)
}

// localName returns the address of a socket's own end.
func localName(fd int) (name unix.RawSockaddrAny, err error) {
	size := uint32(unix.SizeofSockaddrAny)
	_, _, errno := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size)))
	return name, failure(errno)
}

// endWrites sends FIN.
func endWrites(fd int) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return failure(errno)
}

// replace makes fd another name of what from is one of, and closes what it was.
func replace(fd, from int) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_DUP3, uintptr(from), uintptr(fd), unix.O_CLOEXEC)
	return failure(errno)
}

// discard closes a descriptor that nobody else knows.
func discard(fd int) { syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func sendMore(fd uintptr, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_MORE|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	return int(n), failure(errno)
}

func failure(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
