package mailbox

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/dgraph-io/badger/v4"
)

// ErrBackup says that what Restore was given is no complete backup.
var ErrBackup = errors.New("mailbox: not a complete backup")

// A backup is backupMagic, all keys and values of the database in order, each
// with its length before it as an uvarint, a key of length 0, and the SHA-256
// of all that.
const backupMagic = "posthorn mailbox backup 1\n"

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
	b := backupWriter{w: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	if err := b.backup(ctx, s); err != nil {
		return fmt.Errorf("mailbox: backup: %w", err)
	}
	return nil
}

type backupWriter struct {
	w   *bufio.Writer
	sum hash.Hash
}

func (b *backupWriter) backup(ctx context.Context, s *Store) error {
	if err := b.write([]byte(backupMagic)); err != nil {
		return err
	}
	err := s.view(func(v snapshot) error {
		return v.scan(nil, func(item *badger.Item) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := b.field(item.Key()); err != nil {
				return err
			}
			return item.Value(b.field)
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

// Restore fills an empty store from such a copy. Meanwhile nothing else can be
// done with the store; when it fails, the store is empty again.
func (s *Store) Restore(ctx context.Context, r io.Reader) error {
	if err := s.beginRestore(); err != nil {
		return err
	}
	defer s.endRestore()
	b := backupReader{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	err := b.restore(ctx, s)
	if err == nil {
		return s.recover()
	}
	if drop := s.db.DropAll(); drop != nil {
		err = errors.Join(err, drop)
	}
	return fmt.Errorf("mailbox: restore: %w", err)
}

// beginRestore makes sure that the store is empty and that nobody uses it.
func (s *Store) beginRestore() error {
	if err := s.checkEmpty(); err != nil {
		return err
	}
	s.mu.Lock()
	busy := s.closing
	s.closing = true
	s.mu.Unlock()
	if busy {
		return ErrClosed
	}
	s.working.Wait()
	if err := s.checkEmpty(); err != nil {
		s.endRestore()
		return err
	}
	return nil
}

func (s *Store) endRestore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = false
}

func (s *Store) checkEmpty() error {
	return s.view(func(v snapshot) error {
		return v.scan(nil, func(*badger.Item) error { return ErrNotEmpty })
	})
}

type backupReader struct {
	r   *bufio.Reader
	sum hash.Hash
}

func (b *backupReader) restore(ctx context.Context, s *Store) error {
	magic := make([]byte, len(backupMagic))
	if err := b.read(magic); err != nil || string(magic) != backupMagic {
		return errors.Join(ErrBackup, err)
	}
	for last := false; !last; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		batch, end, err := b.batch()
		if err != nil {
			return err
		}
		last = end
		err = s.committer.do(func(t *tx) error {
			t.grows = true
			for _, w := range batch {
				t.write(w)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	want := b.sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(b.r, got); err != nil || !bytes.Equal(got, want) {
		return errors.Join(ErrBackup, err)
	}
	return nil
}

// batch reads as many entries as make a change, and says whether they were the
// last ones.
func (b *backupReader) batch() (batch []write, last bool, err error) {
	for size := 0; size < 64<<10 && len(batch) < batchWrites; {
		key, err := b.field(maxBackupKey)
		if err != nil {
			return nil, false, err
		}
		if len(key) == 0 {
			return batch, true, nil
		}
		value, err := b.field(maxBackupValue)
		if err != nil {
			return nil, false, err
		}
		if key[0] == kindFolder {
			if value, err = skipUIDs(value); err != nil {
				return nil, false, err
			}
		}
		batch = append(batch, write{key, value})
		size += len(key) + len(value)
	}
	return batch, false, nil
}

func skipUIDs(value []byte) ([]byte, error) {
	var f folderRecord
	if err := f.decode(value); err != nil {
		return nil, err
	}
	f.uidNext = uint32(min(uint64(f.uidNext)+uidGap, math.MaxUint32))
	return f.encode(), nil
}

func (b *backupReader) field(limit uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(b)
	if err != nil || n > limit {
		return nil, errors.Join(ErrBackup, err)
	}
	v := make([]byte, n)
	return v, b.read(v)
}

func (b *backupReader) read(v []byte) error {
	if _, err := io.ReadFull(b.r, v); err != nil {
		return errors.Join(ErrBackup, err)
	}
	b.sum.Write(v)
	return nil
}

// ReadByte is for binary.ReadUvarint.
func (b *backupReader) ReadByte() (byte, error) {
	c, err := b.r.ReadByte()
	if err == nil {
		b.sum.Write([]byte{c})
	}
	return c, err
}
