package main

import (
	"archive/zip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"posthorn/admin"
)

// Who is interrupted while the backup is read through has written nothing.
func TestRestoreInterrupted(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "b.zip")
	writeZip(t, name, map[string]string{admin.BackupInfoName: `{"format":1}`, admin.BackupStoreName: "store", admin.BackupMailName: "mail"})
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	cfg := defaultConfig()
	cfg.DataDir = filepath.Join(dir, "data")
	if err := restore(ctx, name, cfg); !errors.Is(err, interrupted) {
		t.Error(err)
	}
	if _, err := os.Lstat(cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Error("it has begun with the data directory")
	}
}

func writeZip(t *testing.T, name string, parts map[string]string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for part, text := range parts {
		w, err := z.Create(part)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
