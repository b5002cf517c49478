//go:build !race

package park

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func readSocket(fd uintptr, b []byte) (int, error) { return call(unix.SYS_READ, fd, b) }

func writeSocket(fd uintptr, b []byte) (int, error) { return call(unix.SYS_WRITE, fd, b) }

// call makes a system call that does not wait.
func call(trap, fd uintptr, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
