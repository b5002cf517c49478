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
	"os"

	"github.com/dgraph-io/badger/v4"
)

// Restore fills an empty store from such a copy. Meanwhile nothing else can be
// done with the store; when it fails, or the process dies, the store is empty
// again.
func (s *Store) Restore(ctx context.Context, r io.Reader) error {
	if err := s.beginRestore(); err != nil {
		return err
	}
	defer s.endRestore()
	b := backupReader{store: s, r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	err := s.committer.do(func(t *tx) error {
		t.set(restoreKey(), present)
		return nil
	})
	if err == nil {
		err = b.restore(ctx)
	}
	if err == nil {
		err = s.committer.do(func(t *tx) error {
			t.delete(restoreKey())
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("mailbox: restore: %w", errors.Join(err, s.clear()))
	}
	return s.recover()
}

// clear deletes what an incomplete Restore has left.
func (s *Store) clear() error {
	if err := errors.Join(s.files.removeAll(), s.db.DropAll()); err != nil {
		return err
	}
	return s.packs.keepOnly(nil)
}

// beginRestore makes sure that the store is empty and that nobody else uses it
// until endRestore.
func (s *Store) beginRestore() error {
	if !s.begin() {
		return ErrClosed
	}
	err := s.checkEmpty()
	s.working.Done()
	if err != nil {
		return err
	}
	s.mu.Lock()
	busy := s.closing || s.restoring
	s.restoring = s.restoring || !busy
	s.mu.Unlock()
	if busy {
		return ErrClosed
	}
	s.restore.Lock()
	s.working.Wait()
	if err := s.checkEmpty(); err != nil {
		s.endRestore()
		return err
	}
	return nil
}

func (s *Store) endRestore() {
	s.mu.Lock()
	s.restoring = false
	s.mu.Unlock()
	s.restore.Unlock()
}

func (s *Store) checkEmpty() error {
	return s.view(func(v snapshot) error {
		return v.scan(nil, func(*badger.Item) error { return ErrNotEmpty })
	})
}

type backupReader struct {
	store  *Store
	r      *bufio.Reader
	sum    hash.Hash
	blob   uint64     // the message whose pieces are being read
	record blobRecord // of that message
	file   *os.File   // if it has one
}

// restored is what one change restores.
type restored struct {
	writes []write
	blobs  []restoredBlob
	size   int
}

// restoredBlob is a message that goes into a pack.
type restoredBlob struct {
	id     uint64
	record blobRecord
	data   []byte
}

func (b *backupReader) restore(ctx context.Context) error {
	defer func() { b.endFile() }() // when it fails
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
		err = b.store.committer.do(func(t *tx) error {
			for _, blob := range batch.blobs {
				if err := t.addBlob(blob.id, &blob.record, blob.data); err != nil {
					return err
				}
			}
			for _, w := range batch.writes {
				t.write(w)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := errors.Join(b.endFile(), syncDir(b.store.files.incoming)); err != nil {
		return diskError(err)
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
func (b *backupReader) batch() (batch restored, last bool, err error) {
	for batch.size < 64<<10 && len(batch.writes) < batchWrites {
		key, err := b.field(maxBackupKey)
		if err != nil {
			return batch, false, err
		}
		if len(key) == 0 {
			return batch, true, nil
		}
		value, err := b.field(maxBackupValue)
		if err == nil {
			err = b.entry(&batch, key, value)
		}
		if err != nil {
			return batch, false, err
		}
	}
	return batch, false, nil
}

// entry adds one entry to the batch, or to the file that it belongs to.
func (b *backupReader) entry(batch *restored, key, value []byte) (err error) {
	batch.size += len(key) + len(value)
	switch key[0] {
	case kindBlob, kindPiece:
		if len(key) != len(numberKey(kindBlob, 0)) {
			return ErrBackup
		}
		if key[0] == kindPiece {
			return b.piece(batch, keyNumber(key), value)
		}
		b.blob, b.record = keyNumber(key), blobRecord{}
		if err := b.record.decode(value); err != nil || !b.record.inFile {
			return err // it is written when its piece comes
		}
		if err := b.startFile(); err != nil {
			return err
		}
	case kindFolder:
		if value, err = skipUIDs(value); err != nil {
			return err
		}
	}
	batch.writes = append(batch.writes, write{key, value})
	return nil
}

// piece takes a piece of the message whose record came before.
func (b *backupReader) piece(batch *restored, blob uint64, data []byte) error {
	switch {
	case blob != b.blob:
		return ErrBackup
	case !b.record.inFile:
		batch.blobs = append(batch.blobs, restoredBlob{blob, b.record, data})
		return nil
	}
	free, err := b.store.committer.freeSpace()
	if err == nil && free < int64(len(data)) {
		err = ErrFull
	}
	if err != nil {
		return err
	}
	if _, err := b.file.Write(data); err != nil {
		return diskError(err)
	}
	return nil
}

func (b *backupReader) startFile() (err error) {
	if err := b.endFile(); err != nil {
		return err
	}
	if b.file, err = b.store.files.create(b.blob); err != nil {
		return diskError(err)
	}
	return nil
}

// endFile puts the file being written, if any, on disk.
func (b *backupReader) endFile() error {
	if b.file == nil {
		return nil
	}
	err := errors.Join(b.file.Sync(), b.file.Close())
	b.file = nil
	if err != nil {
		return diskError(err)
	}
	return nil
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
