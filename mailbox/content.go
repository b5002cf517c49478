package mailbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"posthorn/mailbox/structure"
)

// errGone says that a message was deleted while it was being looked at.
var errGone = errors.New("mailbox: message is gone")

// content is a message in one snapshot: what the parser found at delivery, and
// the octets. The caller closes it.
type content struct {
	root *structure.Part
	size int64
	data []byte   // the octets, if they come from a pack
	file *os.File // otherwise
}

// openContent returns the content of a message. With octets false it is only
// good for its structure.
func (s *Store) openContent(v snapshot, blob uint64, octets bool) (*content, error) {
	c := new(content)
	var record blobRecord
	err := v.get(numberKey(kindBlob, blob), func(value []byte) (err error) {
		if err := record.decode(value); err != nil {
			return err
		}
		c.size = record.place.size
		c.root, err = structure.Decode(record.structure)
		return err
	})
	switch {
	case err != nil:
	case !octets:
	case record.inFile:
		if c.file, err = s.files.open(blob); errors.Is(err, fs.ErrNotExist) {
			err = errGone
		}
	default:
		c.data, err = s.packs.read(record.place)
	}
	if errors.Is(err, errGone) && s.hasBlob(blob) || notFound(err) {
		err = fmt.Errorf("message %x: %w", blob, errCorrupt)
	}
	return c, err
}

// hasBlob says whether a message is there now, rather than in some snapshot.
func (s *Store) hasBlob(blob uint64) bool {
	err := s.view(func(v snapshot) error {
		return v.get(numberKey(kindBlob, blob), func([]byte) error { return nil })
	})
	return err == nil
}

// Close implements io.Closer.
func (c *content) Close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

// reader reads the octets from start to end.
func (c *content) reader(start, end int64) io.Reader {
	end = min(end, c.size)
	if c.file != nil {
		return io.NewSectionReader(c.file, start, max(0, end-start))
	}
	end = min(end, int64(len(c.data)))
	return bytes.NewReader(c.data[min(start, end):end])
}

// copy writes the octets from start to end to w.
func (c *content) copy(w io.Writer, start, end int64) error {
	want := min(end, c.size) - start
	n, err := io.Copy(w, c.reader(start, end))
	if err == nil && n < want {
		err = io.ErrUnexpectedEOF
	}
	return err
}
