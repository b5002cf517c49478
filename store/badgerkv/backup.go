package badgerkv

import (
	"context"
	"io"
)

// Backup implements store.Backuper.
func (db *DB) Backup(ctx context.Context, w io.Writer) error { panic("unbuilt") }

// Restore implements store.Backuper.
func (db *DB) Restore(ctx context.Context, r io.Reader) error { panic("unbuilt") }
