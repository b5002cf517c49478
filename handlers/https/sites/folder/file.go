package folder

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// file is what is known of a file. It does not change.
type file struct {
	name         string
	loaded       time.Time // when it began to be
	modified     time.Time
	contentType  []string
	lastModified []string
	varies       bool // who accepts it gets it compressed
	plain        variant
	br, gz       *variant // from beside the file; nil: there is none

	once   sync.Once
	packed *variant // compressed here, by once; nil: that is of no use
}

// variant is a file's content in some coding.
type variant struct {
	coding  []string // of Content-Encoding; nil: none
	etag    []string
	length  []string
	size    int64
	content []byte // nil: it is too large to keep, and read from name
	name    string
	identity
}

// identity tells a file from the one that takes its place, and from what becomes
// of it when it is written to.
type identity struct {
	dev, ino         uint64
	octets           int64
	modified, change syscall.Timespec
}

// maxKept is the most of a file that is kept in memory.
const maxKept = 1 << 20

// load reads what is known of a file.
func (f *Folder) load(name string) (*file, error) {
	loaded := time.Now()
	plain, info, err := f.variant(name)
	if err != nil {
		return nil, err
	}
	kind := kindOf(path.Ext(name))
	file := &file{
		name: name, loaded: loaded, modified: info.ModTime(),
		contentType: kind.contentType, lastModified: httpTime(info.ModTime()), plain: *plain,
	}
	if !kind.compressible {
		return file, nil
	}
	file.varies = true
	file.br = f.beside(name+".br", "br", info.ModTime())
	file.gz = f.beside(name+".gz", "gzip", info.ModTime())
	return file, nil
}

// together is how far apart the times of files are that were put there together,
// in whatever order.
const together = 10 * time.Second

// current reports whether a compressed file is of the present state of the one
// that it stands beside.
func current(info fs.FileInfo, modified time.Time) bool {
	return !info.ModTime().Before(modified.Add(-together))
}

// beside returns the compressed variant of a file that somebody has put beside
// it; nil: there is none, or one of an earlier state of the file.
func (f *Folder) beside(name, coding string, modified time.Time) *variant {
	v, info, err := f.variant(name)
	if err != nil || !current(info, modified) {
		return nil
	}
	v.coding = []string{coding}
	return v
}

// variant reads a file, or what is known of a large one.
func (f *Folder) variant(name string) (*variant, fs.FileInfo, error) {
	content, info, err := open(f.root, name)
	if err != nil {
		return nil, nil, err
	}
	defer content.Close()
	v := &variant{size: info.Size(), name: name, identity: identify(info)}
	if v.size <= maxKept {
		// One octet more shows whether it grows meanwhile.
		v.content, err = io.ReadAll(io.LimitReader(content, v.size+1))
		if after, serr := content.Stat(); err == nil && (serr != nil || identify(after) != v.identity || int64(len(v.content)) != v.size) {
			v.content = nil // it is being written to
		}
		if err != nil {
			return nil, nil, err
		}
	}
	v.describe(info)
	return v, info, nil
}

// describe makes the header fields.
func (v *variant) describe(info fs.FileInfo) {
	tag := fmt.Sprintf("%x-%x", info.ModTime().UnixNano(), v.size)
	if v.content != nil { // so it is the same on another machine, too
		hash := sha256.Sum256(v.content)
		tag = base64.RawURLEncoding.EncodeToString(hash[:12])
	}
	v.etag = []string{`"` + tag + `"`}
	v.length = []string{strconv.FormatInt(v.size, 10)}
}

// open opens a regular file. Nothing else makes it wait.
func open(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = ErrFolder
	case !info.Mode().IsRegular():
		err = fs.ErrNotExist
	default:
		return file, info, nil
	}
	_ = file.Close()
	return nil, nil, err
}

func identify(info fs.FileInfo) identity {
	i := identity{octets: info.Size()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		i.dev, i.ino, i.modified, i.change = uint64(s.Dev), s.Ino, s.Mtim, s.Ctim
	}
	return i
}

// content is a variant's octets.
type content interface {
	io.ReadSeeker
	io.Closer
}

type kept struct{ *bytes.Reader }

func (kept) Close() error { return nil }

func (v *variant) open(root *os.Root) (content, error) {
	if v.content != nil {
		return kept{bytes.NewReader(v.content)}, nil
	}
	file, info, err := open(root, v.name)
	if err != nil {
		return nil, notShown(err)
	}
	if identify(info) != v.identity {
		_ = file.Close()
		return nil, errChanged
	}
	return file, nil
}

var errChanged = errors.New("the file is being written to")

// choose returns the variant for what a client accepts.
func (f *file) choose(accept []string) *variant {
	if !f.varies || len(accept) == 0 {
		return &f.plain
	}
	br, gz := accepts(accept)
	switch {
	case br && f.br != nil:
		return f.br
	case !gz:
	case f.gz != nil:
		return f.gz
	default:
		if v := f.pack(); v != nil {
			return v
		}
	}
	return &f.plain
}

// leastPacked is the size from which on compressing is worth the while.
const leastPacked = 512

// pack returns the file compressed; nil: it is not smaller then, or too large to
// be kept.
func (f *file) pack() *variant {
	f.once.Do(func() {
		if f.plain.content == nil || f.plain.size < leastPacked {
			return
		}
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(f.plain.content) // a buffer takes everything
		_ = w.Close()
		if b.Len() >= len(f.plain.content)*9/10 {
			return
		}
		tag := f.plain.etag[0]
		f.packed = &variant{
			coding: []string{"gzip"}, etag: []string{tag[:len(tag)-1] + `-gz"`},
			length: []string{strconv.Itoa(b.Len())}, size: int64(b.Len()), content: bytes.Clone(b.Bytes()),
		}
	})
	return f.packed
}
