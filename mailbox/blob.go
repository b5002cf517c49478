package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"posthorn/mailbox/structure"
)

// packedSize is how large a message may be to go into a pack, where it shares a
// sync with others. Larger ones have files of their own: they need no memory on
// the way in.
const packedSize = 256 << 10

// smallBuffer is what receiving begins with, as most messages are small.
const smallBuffer = 16 << 10

// files are the large messages, by blob ID in hexadecimal. One is incoming
// until the change that adds it is on disk; what a crash leaves in incoming is
// sorted out by recover. Only then it is moved to messages, so that the
// directory looked through at the start is a short one.
type files struct{ messages, incoming string }

func openFiles(dir string) (files, error) {
	f := files{filepath.Join(dir, "messages"), filepath.Join(dir, "incoming")}
	return f, errors.Join(os.MkdirAll(f.messages, 0o700), os.MkdirAll(f.incoming, 0o700), syncDir(dir))
}

func fileName(dir string, blob uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x", blob))
}

// create makes the file of a new message.
func (f files) create(blob uint64) (*os.File, error) {
	return os.OpenFile(fileName(f.incoming, blob), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// settle moves a file whose change is on disk to the others. If that is lost,
// or fails, the file is found all the same.
func (f files) settle(blob uint64) {
	_ = os.Rename(fileName(f.incoming, blob), fileName(f.messages, blob))
}

// open opens a message wherever it is. It looks for it twice in case it is
// being moved.
func (f files) open(blob uint64) (file *os.File, err error) {
	for _, dir := range []string{f.messages, f.incoming, f.messages} {
		file, err = os.Open(fileName(dir, blob))
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return file, err
}

// remove deletes a message, which need not exist.
func (f files) remove(blob uint64) error {
	for _, dir := range []string{f.incoming, f.messages} {
		if err := os.Remove(fileName(dir, blob)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeAll deletes all messages.
func (f files) removeAll() error {
	for _, dir := range []string{f.incoming, f.messages} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// listIncoming returns the blob IDs of the files in incoming.
func (f files) listIncoming() ([]uint64, error) {
	entries, err := os.ReadDir(f.incoming)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, e := range entries {
		if id, err := strconv.ParseUint(e.Name(), 16, 64); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// upload is a message on its way in: in buf as long as it fits, then in file.
type upload struct {
	s         *Store
	id        uint64
	size      int64
	structure []byte
	buf       []byte
	file      *os.File // nil: the message is buf
	stored    bool     // the change that adds it is on disk
	unsure    bool     // or it may be: recover will know
}

// receive reads a message to its end. The caller calls finish in the end,
// whatever happens in between.
func (s *Store) receive(ctx context.Context, r io.Reader) (*upload, error) {
	u := &upload{s: s, id: s.lastBlob.Add(1), buf: *s.buffers.Get().(*[]byte)}
	err := u.read(ctx, r)
	if err == nil && u.file != nil {
		err = u.sync()
	}
	if err != nil {
		u.finish()
		return nil, err
	}
	return u, nil
}

func (u *upload) read(ctx context.Context, r io.Reader) error {
	p := structure.NewParser()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := u.makeRoom(); err != nil {
			return err
		}
		n, err := r.Read(u.buf[len(u.buf):cap(u.buf)])
		u.buf = u.buf[:len(u.buf)+n]
		p.Write(u.buf[len(u.buf)-n:])
		if u.size += int64(n); u.size > u.s.options.MaxMessageSize {
			return ErrTooBig
		}
		switch {
		case err == io.EOF:
			u.structure = p.Finish().Encode()
			return nil
		case err != nil:
			return err
		}
	}
}

// makeRoom grows a full buffer or, when it is as large as they get, empties it
// into the file.
func (u *upload) makeRoom() error {
	switch {
	case len(u.buf) < cap(u.buf):
		return nil
	case cap(u.buf) < packedSize:
		u.buf = append(make([]byte, 0, min(4*cap(u.buf), packedSize)), u.buf...)
		return nil
	}
	if u.file == nil {
		file, err := u.s.files.create(u.id)
		if err != nil {
			return diskError(err)
		}
		u.file = file
	}
	return u.flush()
}

// flush appends the buffer to the file.
func (u *upload) flush() error {
	free, err := u.s.committer.freeSpace()
	if err != nil {
		return err
	}
	if free < int64(len(u.buf)) {
		return ErrFull
	}
	if _, err := u.file.Write(u.buf); err != nil {
		return diskError(err)
	}
	u.buf = u.buf[:0]
	return nil
}

// sync puts the complete file on disk.
func (u *upload) sync() error {
	if err := u.flush(); err != nil {
		return err
	}
	if err := u.file.Sync(); err != nil {
		return diskError(err)
	}
	if err := syncDir(u.s.files.incoming); err != nil {
		return diskError(err)
	}
	return nil
}

// store adds the message to the database, together with the refs messages that
// the change makes of it.
func (u *upload) store(refs int, apply func(*tx) error) error {
	err := u.s.committer.do(func(t *tx) error {
		if err := apply(t); err != nil {
			return err
		}
		record := blobRecord{inFile: u.file != nil, place: extent{size: u.size}, structure: u.structure}
		if refs > 1 {
			t.set(numberKey(kindRefs, u.id), uintValue(uint64(refs)))
		}
		return t.addBlob(u.id, &record, u.buf)
	})
	u.stored, u.unsure = err == nil, errors.Is(err, errUnsure)
	return err
}

// finish ends the upload, and leaves nothing behind that was not stored.
func (u *upload) finish() {
	if cap(u.buf) == smallBuffer {
		u.buf = u.buf[:0]
		u.s.buffers.Put(&u.buf)
	}
	if u.file == nil {
		return
	}
	_ = u.file.Close() // it was synced, or is not wanted
	switch {
	case u.stored:
		u.s.files.settle(u.id)
	case !u.unsure:
		_ = u.s.files.remove(u.id) // recover would do it, too
	}
}

// addBlob adds a message. It puts data into a pack unless the record says that
// the message is in a file.
func (t *tx) addBlob(id uint64, record *blobRecord, data []byte) error {
	t.grows = true
	if !record.inFile {
		if t.free -= int64(len(data)); t.free < 0 {
			return ErrFull
		}
		place, err := t.packs.append(data)
		if err != nil {
			return diskError(err)
		}
		record.place = place
		if err := t.countPacked(place, 1); err != nil {
			return err
		}
	}
	t.set(numberKey(kindBlob, id), record.encode())
	return nil
}

// countPacked counts a message of a pack, or with sign -1 no longer.
func (t *tx) countPacked(e extent, sign int64) error {
	key := numberKey(kindPack, e.pack)
	n, err := getUint(t, key, 0)
	if err != nil {
		return err
	}
	n += uint64(sign * e.size)
	t.set(key, uintValue(n))
	if sign < 0 {
		t.freed = append(t.freed, e)
		t.garbage = true
	}
	return nil
}

// link adds a reference to a blob.
func (t *tx) link(blob uint64) error {
	refs, err := getUint(t, numberKey(kindRefs, blob), 1)
	if err == nil {
		t.set(numberKey(kindRefs, blob), uintValue(refs+1))
	}
	return err
}

// unlink takes a reference to a blob away, and the blob with the last one. Its
// octets are deleted later: see removeGarbage.
func (t *tx) unlink(blob uint64) error {
	refs, err := getUint(t, numberKey(kindRefs, blob), 1)
	switch {
	case err != nil:
		return err
	case refs > 2:
		t.set(numberKey(kindRefs, blob), uintValue(refs-1))
		return nil
	case refs == 2:
		t.delete(numberKey(kindRefs, blob))
		return nil
	}
	var record blobRecord
	if err := t.get(numberKey(kindBlob, blob), record.decode); err != nil {
		return err
	}
	t.delete(numberKey(kindBlob, blob))
	if !record.inFile {
		return t.countPacked(record.place, -1)
	}
	t.set(numberKey(kindGarbage, blob), present)
	t.garbage = true
	return nil
}
