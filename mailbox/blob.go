package mailbox

import (
	"bytes"
	"context"
	"errors"
	"io"

	"posthorn/mailbox/structure"
)

// A message is stored in chunks. The first is small, because mail programs
// often want the header of a large message and nothing else.
const (
	firstChunk = 32 << 10
	nextChunk  = 128 << 10
)

func chunkCount(size int64) int {
	if size <= firstChunk {
		return 1
	}
	return 1 + int((size-firstChunk+nextChunk-1)/nextChunk)
}

// upload is a message on its way in. Up to firstChunk+nextChunk octets wait in
// memory for the change that makes a message of them; more go to disk as they
// come, under a mark that says that nobody can see them yet.
type upload struct {
	s         *Store
	id        uint64
	size      int64
	structure []byte
	chunks    [][]byte // in memory, the last one being filled
	written   int      // chunks on disk
}

// receive reads a message to its end. The caller calls discard in the end,
// whatever happens in between.
func (s *Store) receive(ctx context.Context, r io.Reader) (*upload, error) {
	u := &upload{s: s, id: s.lastBlob.Add(1)}
	if err := u.read(ctx, r); err != nil {
		u.discard()
		return nil, err
	}
	return u, nil
}

func (u *upload) read(ctx context.Context, r io.Reader) error {
	p := structure.NewParser()
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		buf, err := u.room()
		if err != nil {
			return err
		}
		n, err := r.Read(buf)
		if n < 0 || n > len(buf) {
			return errors.New("mailbox: bad Read count")
		}
		p.Write(buf[:n])
		u.chunks[len(u.chunks)-1] = u.chunks[len(u.chunks)-1][:len(u.chunks[len(u.chunks)-1])+n]
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

// room returns where the next octets go, and writes chunks that are full.
func (u *upload) room() ([]byte, error) {
	if n := len(u.chunks); n > 0 {
		last := u.chunks[n-1]
		if len(last) < cap(last) {
			return last[len(last):cap(last)], nil
		}
		if u.written > 0 || n > 1 {
			if err := u.flush(); err != nil {
				return nil, err
			}
		}
	}
	if u.written+len(u.chunks) == 0 {
		u.chunks = append(u.chunks, (*u.s.firstChunks.Get().(*[firstChunk]byte))[:0])
	} else {
		u.chunks = append(u.chunks, (*u.s.nextChunks.Get().(*[nextChunk]byte))[:0])
	}
	last := u.chunks[len(u.chunks)-1]
	return last[:cap(last)], nil
}

// flush writes the chunks in memory to disk.
func (u *upload) flush() error {
	err := u.s.committer.do(func(t *tx) error {
		t.grows = true
		if u.written == 0 {
			t.set(numberKey(kindPending, u.id), present)
		}
		u.stageChunks(t)
		return nil
	})
	if err != nil {
		return err
	}
	u.written += len(u.chunks)
	u.release()
	return nil
}

func (u *upload) stageChunks(t *tx) {
	for i, c := range u.chunks {
		t.set(chunkKey(u.id, u.written+i), c)
	}
}

// stage makes a message of the upload that refs folders will share, in the
// change that adds it to them.
func (u *upload) stage(t *tx, refs int) {
	t.grows = true
	u.stageChunks(t)
	record := blobRecord{size: u.size, structure: u.structure}
	t.set(numberKey(kindBlob, u.id), record.encode())
	if refs > 1 {
		t.set(numberKey(kindRefs, u.id), uintValue(uint64(refs)))
	}
	if u.written > 0 {
		t.delete(numberKey(kindPending, u.id))
	}
}

// release gives the buffers back.
func (u *upload) release() {
	for _, c := range u.chunks {
		if cap(c) == firstChunk {
			u.s.firstChunks.Put((*[firstChunk]byte)(c[:firstChunk]))
		} else {
			u.s.nextChunks.Put((*[nextChunk]byte)(c[:nextChunk]))
		}
	}
	u.chunks = u.chunks[:0]
}

// discard ends the upload. If no message came of it, its chunks are deleted;
// when even that fails, Run or the next Open does it.
func (u *upload) discard() {
	u.release()
	if u.written == 0 {
		return
	}
	if err := u.s.dropPending(u.id); err != nil {
		u.s.abandon(u.id)
	}
}

// dropPending deletes an upload if it has become no message.
func (s *Store) dropPending(id uint64) error {
	return s.committer.do(func(t *tx) error {
		pending := numberKey(kindPending, id)
		err := t.get(pending, func([]byte) error { return nil })
		if notFound(err) {
			return nil
		} else if err != nil {
			return err
		}
		for n := 0; ; n++ {
			key := chunkKey(id, n)
			if err := t.get(key, func([]byte) error { return nil }); notFound(err) {
				break
			} else if err != nil {
				return err
			}
			t.delete(key)
		}
		t.delete(pending)
		return nil
	})
}

// unlink takes one reference to a blob away, and the blob with the last one.
func (t *tx) unlink(blob uint64) error {
	refs, err := getUint(t, numberKey(kindRefs, blob), 1)
	if err != nil {
		return err
	}
	if refs > 1 {
		t.setRefs(blob, refs-1)
		return nil
	}
	var record blobRecord
	if err := t.get(numberKey(kindBlob, blob), record.decode); err != nil {
		return err
	}
	t.delete(numberKey(kindBlob, blob))
	for n := range chunkCount(record.size) {
		t.delete(chunkKey(blob, n))
	}
	return nil
}

// link adds n references to a blob.
func (t *tx) link(blob uint64, n int) error {
	refs, err := getUint(t, numberKey(kindRefs, blob), 1)
	if err != nil {
		return err
	}
	t.setRefs(blob, refs+uint64(n))
	return nil
}

func (t *tx) setRefs(blob, refs uint64) {
	if refs == 1 {
		t.delete(numberKey(kindRefs, blob))
	} else {
		t.set(numberKey(kindRefs, blob), uintValue(refs))
	}
}

// content reads octets of a message in one snapshot.
type content struct {
	s    snapshot
	blob uint64
	size int64
}

// copy writes the octets from start to end to w, a chunk at a time.
func (c *content) copy(w io.Writer, start, end int64) error {
	for end = min(end, c.size); start < end; {
		n, first := chunkAt(start)
		stop := min(end, chunkEnd(start))
		err := c.s.get(chunkKey(c.blob, n), func(chunk []byte) error {
			if int64(len(chunk)) < stop-first {
				return &contentError{errCorrupt}
			}
			_, err := w.Write(chunk[start-first : stop-first])
			return err
		})
		if notFound(err) {
			return &contentError{errCorrupt}
		} else if err != nil {
			return err
		}
		start = stop
	}
	return nil
}

// chunkAt returns the number of the chunk that has the octet at offset, and the
// chunk's own offset.
func chunkAt(offset int64) (n int, first int64) {
	if offset < firstChunk {
		return 0, 0
	}
	i := (offset - firstChunk) / nextChunk
	return 1 + int(i), firstChunk + i*nextChunk
}

// chunkEnd returns the offset after the chunk that has the octet at offset.
func chunkEnd(offset int64) int64 {
	if offset < firstChunk {
		return firstChunk
	}
	return firstChunk + ((offset-firstChunk)/nextChunk+1)*nextChunk
}

// contentError is a failure to read what was stored, as opposed to what a
// decoder says of it.
type contentError struct{ err error }

func (e *contentError) Error() string { return "message content: " + e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

func isContentError(err error) bool {
	var ce *contentError
	return errors.As(err, &ce)
}

// reader reads the octets from start to end. It holds a chunk in memory.
func (c *content) reader(start, end int64) io.Reader {
	return &contentReader{c: c, at: start, end: min(end, c.size)}
}

type contentReader struct {
	c       *content
	at, end int64
	chunk   []byte // a copy of the chunk in use
	rest    []byte // of chunk, to be read next
}

func (r *contentReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.at >= r.end {
			return 0, io.EOF
		}
		stop := min(r.end, chunkEnd(r.at))
		buf := bytes.NewBuffer(r.chunk[:0])
		if err := r.c.copy(buf, r.at, stop); err != nil {
			return 0, err
		}
		r.chunk, r.rest, r.at = buf.Bytes(), buf.Bytes(), stop
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
