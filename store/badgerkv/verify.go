package badgerkv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"golang.org/x/sync/errgroup"
)

// verify reads every table that the manifest of a store in dir names, and
// compares it with its checksums. It does so before Badger opens any: with
// checksums off Badger answers from a damaged block that keys are not there, and
// with them on it ends the process.
func verify(dir string) error {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return err
	}
	manifest, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	if err := f.Close(); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, badger.ManifestFilename, firstLine(err))
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for id := range manifest.Tables {
		g.Go(func() error { return verifyTable(table.NewFilename(id, dir), id) })
	}
	return g.Wait()
}

// verifyTable reads one table into memory, where a panic of the code that takes
// it apart does no harm.
func verifyTable(name string, id uint64) (err error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return err
	}
	damaged := fmt.Errorf("%w: %s", ErrCorrupt, name)
	defer func() {
		if recover() != nil {
			err = damaged
		}
	}()
	t, err := table.OpenInMemoryTable(data, id, &table.Options{Compression: options.None})
	if err != nil || t.VerifyChecksum() != nil {
		return damaged
	}
	return nil
}
