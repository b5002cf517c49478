package mailbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// fdatasync puts the content of a file on disk, and its size.
func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// punchHole gives back a part of a file, which reads as zeros then.
func punchHole(f *os.File, offset, size int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, size)
}
