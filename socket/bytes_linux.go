//go:build !race

package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func readSocket(fd uintptr, b []byte) (int, error) { return move(unix.SYS_READ, fd, b) }

func writeSocket(fd uintptr, b []byte) (int, error) { return move(unix.SYS_WRITE, fd, b) }

func move(trap, fd uintptr, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
