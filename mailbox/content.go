package mailbox

import (
	"bytes"
	"errors"
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
	data []byte   // the octets, if they are in the database
	file *os.File // otherwise
}

// openContent returns the content of a message. With octets false it is only
// good for its structure.
func (s *Store) openContent(v snapshot, blob uint64, octets bool) (*content, error) {
	c := new(content)
	inFile := false
	err := v.get(numberKey(kindBlob, blob), func(value []byte) (err error) {
		var record blobRecord
		if err := record.decode(value); err != nil {
			return err
		}
		c.size, inFile = record.size, record.inFile
		c.root, err = structure.Decode(record.structure)
		return err
	})
	switch {
	case err != nil || !octets:
	case inFile:
		if c.file, err = s.files.open(blob); errors.Is(err, fs.ErrNotExist) {
			err = errGone
		}
	default:
		err = v.get(numberKey(kindContent, blob), func(value []byte) error {
			c.data = bytes.Clone(value)
			return nil
		})
	}
	if notFound(err) {
		err = errCorrupt
	}
	return c, err
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
