package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var (
	// ErrInUse says that another process has the store open.
	ErrInUse = errors.New("another posthorn uses it")
	// ErrCorrupt says that the store has lost or changed records. It must be
	// restored from a backup; opening it again changes nothing.
	ErrCorrupt = errors.New("the store is damaged")
)

// home is the directory of a store on disk. Its file STORE is locked while the
// store is open. The file is empty until the store has been set up, so that a
// directory that lost its other files cannot pass for a new one.
type home struct {
	dir    string
	file   *os.File
	sealed bool
}

const (
	sealName = "STORE"
	sealText = "posthorn store, format 1\n"
)

// openHome makes dir if it is not there, and locks it.
func openHome(dir string) (*home, error) {
	if err := os.MkdirAll(dir, private); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := os.Chmod(dir, private); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, sealName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	h := &home{dir: dir, file: f}
	if err := h.lock(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return h, nil
}

func (h *home) lock() error {
	err := unix.Flock(int(h.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("store in %s: %w", h.dir, ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("lock the store in %s: %w", h.dir, err)
	}
	info, err := h.file.Stat()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	h.sealed = info.Size() > 0
	return nil
}

// check looks at the files before Badger does. Badger would take a directory
// without a manifest for a new one, and delete its tables.
func (h *home) check() error {
	if err := h.room(); err != nil || !h.sealed {
		return err
	}
	if err := verify(h.dir); err != nil {
		return fmt.Errorf("store in %s: %w", h.dir, err)
	}
	return nil
}

// seal marks the store as set up, durably.
func (h *home) seal() error {
	if _, err := h.file.WriteAt([]byte(sealText), 0); err != nil {
		return err
	}
	if err := h.file.Sync(); err != nil {
		return err
	}
	d, err := os.Open(h.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// reserve is how much space must be left for an update. Badger writes through
// mapped files: where the disk fills up under them the process dies, so updates
// are refused while there is still room for what runs in the background.
const reserve = 4 * memTable

// room returns an error that wraps ENOSPC when the disk is nearly full.
func (h *home) room() error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(h.file.Fd()), &fs); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < reserve {
		return fmt.Errorf("store in %s: %d MiB free, %d needed: %w", h.dir, free>>20, reserve>>20, unix.ENOSPC)
	}
	return nil
}

func (h *home) close() error { return h.file.Close() }
