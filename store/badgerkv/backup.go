package badgerkv

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
	"time"

	"posthorn/store"
)

// A backup is backupMagic; for each record, in order of the keys, the key's and
// the value's length as varints, the key and the value; a key length of 0; the
// number of records in 8 bytes, big endian; and the SHA-256 of all that.
const backupMagic = "posthorn store backup 1\n"

// ErrBadBackup says that a stream is no backup, or was cut or changed.
var ErrBadBackup = errors.New("not a whole backup of a store")

// Backup implements store.Backuper. The backup is the state at one moment.
func (db *DB) Backup(ctx context.Context, w io.Writer) error {
	sum := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(w, sum))
	if _, err := out.WriteString(backupMagic); err != nil {
		return err
	}
	var count uint64
	var head []byte
	for item, err := range db.Scan(ctx, "") {
		if err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		head = binary.AppendUvarint(head[:0], uint64(len(item.Key)))
		head = binary.AppendUvarint(head, uint64(len(item.Value)))
		head = append(head, item.Key...)
		// bufio keeps the first error for Flush.
		_, _ = out.Write(head)
		if _, err := out.Write(item.Value); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		count++
	}
	_, _ = out.Write(binary.BigEndian.AppendUint64([]byte{0}, count))
	if err := out.Flush(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if _, err := w.Write(sum.Sum(nil)); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// Restore implements store.Backuper. When it fails (ErrBadBackup) the store is
// empty again; when it is killed the store is of no use, and says so at the next
// Open.
func (db *DB) Restore(ctx context.Context, r io.Reader) error {
	defer since(db.metrics.restore, time.Now())
	unlock, err := db.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := db.acquire()
	if err != nil {
		return err
	}
	defer db.release(s)
	for range scan(s.txn, "") {
		return store.ErrNotEmpty
	}
	now, err := readTally(s.txn)
	if err != nil {
		return err
	}
	now.commits++
	if err := db.apply([]store.Item{{Key: restoringKey}}, now); err != nil {
		return err
	}
	count, err := db.load(ctx, &backupReader{in: bufio.NewReader(r), sum: sha256.New()}, now)
	if err == nil {
		err = db.apply([]store.Item{{Key: restoringKey, Deleted: true}}, tally{count, now.commits})
	}
	if err != nil {
		return errors.Join(fmt.Errorf("restore: %w", err), db.clear(now))
	}
	db.advance()
	return db.announce()
}

// How much of a backup is committed at once.
const (
	restoredBytes   = 256 << 10
	restoredRecords = 1000
)

// load commits the records of a backup, which are not tallied before all are
// there, and returns how many they are.
func (db *DB) load(ctx context.Context, r *backupReader, now tally) (count uint64, err error) {
	if err := r.magic(); err != nil {
		return 0, err
	}
	var batch []store.Item
	size := 0
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		item, err := r.next()
		if err == io.EOF {
			return r.count, db.apply(batch, now)
		}
		if err != nil {
			return 0, err
		}
		batch = append(batch, item)
		if size += len(item.Key) + len(item.Value); size >= restoredBytes || len(batch) >= restoredRecords {
			if err := db.apply(batch, now); err != nil {
				return 0, err
			}
			batch, size = nil, 0
		}
	}
}

// clear deletes what a failed restore has left.
func (db *DB) clear(now tally) error {
	s := newSnapshot(db.badger)
	defer s.drop()
	var batch []store.Item
	for item, err := range scan(s.txn, "") {
		if err != nil {
			return err
		}
		if batch = append(batch, store.Item{Key: item.Key, Deleted: true}); len(batch) == restoredRecords {
			if err := db.apply(batch, now); err != nil {
				return err
			}
			batch = nil
		}
	}
	return db.apply(append(batch, store.Item{Key: restoringKey, Deleted: true}), now)
}

// announce tells the watchers about all records.
func (db *DB) announce() error {
	for item, err := range scan(db.latest.txn, "") {
		if err != nil {
			return err
		}
		db.hub.publish([]store.Item{item})
	}
	return nil
}

// backupReader takes a backup apart and sums it up on the way.
type backupReader struct {
	in    *bufio.Reader
	sum   hash.Hash
	last  string
	count uint64
}

// ReadByte implements io.ByteReader for the varints.
func (r *backupReader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	if err == nil {
		_, _ = r.sum.Write([]byte{b}) // a hash never fails
	}
	return b, err
}

func (r *backupReader) read(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, ErrBadBackup
	}
	_, _ = r.sum.Write(b)
	return b, nil
}

func (r *backupReader) magic() error {
	b, err := r.read(len(backupMagic))
	if err != nil || string(b) != backupMagic {
		return ErrBadBackup
	}
	return nil
}

// next returns the next record, or io.EOF when the end is as it should be.
func (r *backupReader) next() (store.Item, error) {
	klen, err := binary.ReadUvarint(r)
	if err != nil || klen > store.MaxKey {
		return store.Item{}, ErrBadBackup
	}
	if klen == 0 {
		return store.Item{}, r.end()
	}
	vlen, err := binary.ReadUvarint(r)
	if err != nil || vlen > store.MaxValue {
		return store.Item{}, ErrBadBackup
	}
	b, err := r.read(int(klen + vlen))
	if err != nil {
		return store.Item{}, err
	}
	item := store.Item{Key: string(b[:klen]), Value: b[klen:]}
	if item.Key <= r.last || store.Validate(item.Key, item.Value) != nil {
		return store.Item{}, ErrBadBackup
	}
	r.last = item.Key
	r.count++
	return item, nil
}

// end checks what follows the last record, and returns io.EOF.
func (r *backupReader) end() error {
	count, err := r.read(8)
	if err != nil || binary.BigEndian.Uint64(count) != r.count {
		return ErrBadBackup
	}
	want := r.sum.Sum(nil)
	got, err := r.read(len(want))
	if err != nil || !bytes.Equal(got, want) {
		return ErrBadBackup
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return ErrBadBackup
	}
	return io.EOF
}
