package admin

import (
	"archive/zip"
	"compress/flate"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"posthorn/store"
)

// Names of what a backup holds. It is a ZIP archive: its directory stands at
// the end, so a backup that was cut off is recognized, and each part has a
// checksum.
const (
	BackupInfoName  = "posthorn.json"
	BackupStoreName = "store" // accounts, keys and certificates
	BackupMailName  = "mail"  // absent when the mail is kept elsewhere
)

// BackupInfo says what a backup is.
type BackupInfo struct {
	Format  int       `json:"format"` // BackupFormat
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
}

// BackupFormat is the format that Backup writes.
const BackupFormat = 1

// Backup writes a consistent copy of everything while the gateway serves. The
// accounts come first, so that mail which arrives meanwhile belongs to
// somebody, or is unreachable.
func (s *Service) Backup(ctx context.Context, who Actor, w io.Writer) error {
	const action = "backup"
	if err := s.mayBackup(who); err != nil {
		return err
	}
	kv := s.Store.(store.Backuper)
	return s.do(ctx, who, &Event{Action: action}, func() error {
		z := zip.NewWriter(w)
		// Mail is mostly text, and the disk is slower than this.
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
			return flate.NewWriter(w, flate.BestSpeed)
		})
		info := BackupInfo{Format: BackupFormat, Version: s.Instance.Version, Time: now()}
		if err := addPart(z, BackupInfoName, info.write); err != nil {
			return err
		}
		err := addPart(z, BackupStoreName, func(w io.Writer) error { return kv.Backup(ctx, w) })
		if err != nil {
			return err
		}
		if s.Mail != nil {
			err := addPart(z, BackupMailName, func(w io.Writer) error { return s.Mail.Backup(ctx, w) })
			if err != nil {
				return err
			}
		}
		return z.Close()
	})
}

// mayBackup says why an actor gets no backup, before any of it is written.
func (s *Service) mayBackup(who Actor) error {
	if err := s.operator(who, "backup"); err != nil {
		return err
	}
	if _, ok := s.Store.(store.Backuper); !ok {
		return fmt.Errorf("backup: %w", ErrNoBackup)
	}
	return nil
}

func (i BackupInfo) write(w io.Writer) error { return json.NewEncoder(w).Encode(i) }

func addPart(z *zip.Writer, name string, write func(io.Writer) error) error {
	w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: now()})
	if err != nil {
		return err
	}
	if err := write(w); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
