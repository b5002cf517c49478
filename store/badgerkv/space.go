package badgerkv

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Badger writes through mapped files, and where the disk fills up under these
// the process dies. So an update is refused while there is still room for what
// runs in the background (reserve), and a file of no use (the ballast) keeps the
// room that starting and closing need, when the log becomes a table.
const (
	reserve     = 2 * memTable
	ballast     = 2*memTable + 4<<20
	ballastName = "BALLAST"
)

// room returns an error that wraps ENOSPC when the disk is nearly full.
func (h *home) room() error {
	if h == nil {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(h.file.Fd()), &fs); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < h.reserve {
		return fmt.Errorf("store in %s: %d MiB free, %d needed: %w", h.dir, free>>20, h.reserve>>20, unix.ENOSPC)
	}
	return nil
}

// loadBallast takes the ballast on board, as far as the disk has it.
func (h *home) loadBallast() {
	f, err := os.OpenFile(filepath.Join(h.dir, ballastName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Fallocate(int(f.Fd()), 0, 0, ballast) != nil {
		h.dropBallast()
	}
}

// dropBallast throws the ballast overboard.
func (h *home) dropBallast() {
	_ = os.Remove(filepath.Join(h.dir, ballastName)) // mostly it is not there
}
