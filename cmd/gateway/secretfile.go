package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeSecret has fill write a file that only its owner can read; never through
// what stands at its name, and at no time in part. It is on disk afterwards.
func writeSecret(name string, replace bool, fill func(io.Writer) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0600
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return fmt.Errorf("%s: %w", name, p.Err) // not by a name that nobody has given
	}
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err = fill(tmp); err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	place := os.Link // which, unlike Rename, fails when name exists
	if replace {
		place = os.Rename
	}
	if err := place(tmp.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
