package mailbox

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/dgraph-io/badger/v4"
)

// ErrBackup says that what Restore was given is no complete backup.
var ErrBackup = errors.New("mailbox: not a complete backup")

// A backup is backupMagic, all keys and values of the database in order, each
// with its length before it as an uvarint, a key of length 0, and the SHA-256
// of all that. Each blobRecord is followed by the message in pieces: values of
// the key kindPiece and blob ID, a single one unless the message is a file.
const backupMagic = "posthorn mailbox backup 1\n"

// kindPiece is in backups only.
const kindPiece = 'C'

const (
	maxBackupKey   = 2 << 10
	maxBackupValue = 512 << 10

	// uidGap is added to every UIDNEXT by Restore: mail that came after the
	// backup had UIDs that clients may remember, and that must not come again.
	uidGap = 1 << 20
)

// Backup writes a consistent copy of all mail while the store is in use.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	if !s.begin() {
		return ErrClosed
	}
	defer s.working.Done()
	s.keeping.RLock()
	defer s.keeping.RUnlock()
	b := backupWriter{store: s, w: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	if err := b.backup(ctx); err != nil {
		return fmt.Errorf("mailbox: backup: %w", err)
	}
	return nil
}

type backupWriter struct {
	store *Store
	w     *bufio.Writer
	sum   hash.Hash
}

func (b *backupWriter) backup(ctx context.Context) error {
	if err := b.write([]byte(backupMagic)); err != nil {
		return err
	}
	err := b.store.view(func(v snapshot) error {
		return v.scan(nil, func(item *badger.Item) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return b.item(ctx, item)
		})
	})
	if err != nil {
		return err
	}
	if err := b.field(nil); err != nil {
		return err
	}
	if _, err := b.w.Write(b.sum.Sum(nil)); err != nil {
		return err
	}
	return b.w.Flush()
}

func (b *backupWriter) item(ctx context.Context, item *badger.Item) error {
	key := item.Key()
	if key[0] == kindGarbage || key[0] == kindPack {
		return nil
	}
	if err := b.field(key); err != nil {
		return err
	}
	if err := item.Value(b.field); err != nil || key[0] != kindBlob {
		return err
	}
	var record blobRecord
	if err := item.Value(record.decode); err != nil {
		return err
	}
	if record.inFile {
		return b.file(ctx, keyNumber(key))
	}
	data, err := b.store.packs.read(record.place)
	if err != nil {
		return err
	}
	return b.piece(keyNumber(key), data)
}

func (b *backupWriter) piece(blob uint64, data []byte) error {
	return errors.Join(b.field(numberKey(kindPiece, blob)), b.field(data))
}

// file writes the pieces of a message.
func (b *backupWriter) file(ctx context.Context, blob uint64) error {
	file, err := b.store.files.open(blob)
	if err != nil {
		return err
	}
	defer file.Close()
	buf := make([]byte, packedSize)
	for {
		n, err := io.ReadFull(file, buf)
		if n > 0 {
			if err := b.piece(blob, buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

func (b *backupWriter) field(v []byte) error {
	if err := b.write(binary.AppendUvarint(nil, uint64(len(v)))); err != nil {
		return err
	}
	return b.write(v)
}

func (b *backupWriter) write(v []byte) error {
	b.sum.Write(v)
	_, err := b.w.Write(v)
	return err
}
