package badgerkv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var (
	// ErrInUse says that another process has the store open.
	ErrInUse = errors.New("another posthorn uses it")
	// ErrCorrupt says that the store has lost or changed records. An empty one
	// must be restored from a backup.
	ErrCorrupt = errors.New("the store is damaged")
)

// home is the directory of a store on disk; nil is that of a store in memory. Its
// file STORE is locked while the store is open. The file is empty until the
// store has been set up, so that a directory that lost its other files cannot
// pass for a new one; then it has sealText and the number of commits.
type home struct {
	dir     string
	file    *os.File
	sealed  bool
	commits uint64 // as noted when it was opened
	reserve uint64 // bytes that must be free for an update
}

const (
	sealName   = "STORE"
	sealText   = "posthorn store, format 1\n"
	sealFormat = sealText + "%020d changes\n"
)

// private is the mode of the directory.
const private = 0o700

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
	h := &home{dir: dir, file: f, reserve: reserve}
	if err := h.lock(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := h.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("store in %s: %w", dir, err), f.Close())
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
	return nil
}

// read reads the seal.
func (h *home) read() error {
	b := make([]byte, 2*len(sealFormat))
	n, err := h.file.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if n == 0 {
		return nil
	}
	h.sealed = true
	if _, err := fmt.Sscanf(string(b[:n]), sealFormat, &h.commits); err != nil {
		return fmt.Errorf("%w: %s is not as it should be", ErrCorrupt, sealName)
	}
	return nil
}

// check looks at the files before Badger does. Badger would take a directory
// without a manifest for a new one, and delete its tables.
func (h *home) check() error {
	h.dropBallast()
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
	if _, err := fmt.Fprintf(h.file, sealFormat, h.commits); err != nil {
		return err
	}
	h.sealed = true
	if err := h.file.Sync(); err != nil {
		return err
	}
	d, err := os.Open(h.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// note writes down how many commits there are. It is not synced before close,
// as it only has to survive this process. A number that is too low does no harm,
// which makes a failure none.
func (h *home) note(commits uint64) {
	if h != nil && h.sealed {
		_, _ = h.file.WriteAt(fmt.Appendf(nil, "%020d", commits), int64(len(sealText)))
	}
}

func (h *home) close() error { return errors.Join(h.file.Sync(), h.file.Close()) }
