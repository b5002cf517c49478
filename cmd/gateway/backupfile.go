package main

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/rs/zerolog"

	"posthorn/admin"
	"posthorn/mailbox"
	"posthorn/store/badgerkv"
)

var (
	errNoBackup = errors.New("is not a whole posthorn backup")
	errNewer    = errors.New("was written by a newer posthorn")
)

// backupFile is a backup that has been read through once and is whole.
type backupFile struct {
	*zip.ReadCloser
	name string
}

// openBackup opens a backup and checks all of it. The error is the cause of ctx
// when that ends first.
func openBackup(ctx context.Context, name string) (*backupFile, error) {
	z, err := zip.OpenReader(name)
	if errors.Is(err, zip.ErrFormat) {
		return nil, withHint(fmt.Errorf("%s %w", name, errNoBackup), "it may have been cut off while it was copied")
	}
	if err != nil {
		return nil, err
	}
	b := &backupFile{z, name}
	if err := b.check(ctx); err != nil {
		b.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("restore: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("%s %w", name, err)
	}
	return b, nil
}

func (b *backupFile) check(ctx context.Context) error {
	var info admin.BackupInfo
	read := func(r io.Reader) error { return json.NewDecoder(r).Decode(&info) }
	if err := b.extract(admin.BackupInfoName, read); err != nil || info.Format < 1 {
		return errNoBackup
	}
	if info.Format > admin.BackupFormat {
		return errNewer
	}
	for _, f := range b.File {
		r, err := f.Open()
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errNoBackup, f.Name, err)
		}
		_, err = io.Copy(io.Discard, interruptible{ctx, r}) // which checks the checksum
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("%w: %s: %w", errNoBackup, f.Name, err)
		}
	}
	return nil
}

// interruptible is a reader that fails when its context ends.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// extract reads one part with fn. A backup without mail has no part for it.
func (b *backupFile) extract(part string, fn func(io.Reader) error) error {
	for _, f := range b.File {
		if f.Name != part {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		if err := fn(r); err != nil {
			return fmt.Errorf("restore %s: %w", part, err)
		}
		return nil
	}
	if part == admin.BackupMailName {
		return nil
	}
	return fmt.Errorf("%w: %s is missing", errNoBackup, part)
}

func fillStore(ctx context.Context, dir string, r io.Reader) error {
	db, err := badgerkv.Open(dir, zerolog.Nop())
	if err != nil {
		return err
	}
	return errors.Join(db.Restore(ctx, r), db.Close())
}

func fillMail(ctx context.Context, dir string, r io.Reader) error {
	m, err := mailbox.Open(dir, mailbox.Options{})
	if err != nil {
		return err
	}
	return errors.Join(m.Restore(ctx, r), m.Close())
}
