// Package folder serves the files of a folder over HTTP: what is asked for
// conditionally, in parts or compressed too. It shows no list of what is there,
// nothing whose name begins with a dot, and nothing outside of the folder,
// whatever symbolic links say.
package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Folder is an open folder. Its methods may be called concurrently.
type Folder struct {
	root         *os.Root
	cacheControl []string // of every response; nil: none
	cache        cache
}

// Errors of Serve, which has written nothing then.
var (
	// ErrMethod says that the method is neither GET nor HEAD.
	ErrMethod = errors.New("files can only be read")
	// ErrFolder says that a folder was asked for as if it were a file: the path
	// wants a slash at its end.
	ErrFolder = errors.New("is a folder")
)

// Open opens a folder, which stays the same one even if another one takes its
// name. With cacheControl, that is the Cache-Control of every file.
func Open(dir, cacheControl string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a folder", dir)
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	f := &Folder{root: root}
	if cacheControl != "" {
		f.cacheControl = []string{cacheControl}
	}
	return f, nil
}

// Close closes the folder. Files that are being served are served to their end.
func (f *Folder) Close() error { return f.root.Close() }

// Serve answers a request with the file at path, which begins with a slash and
// is the folder's own; a path that ends with one means index.html there. Besides
// those above, its error is fs.ErrNotExist (also when the file is not to be
// shown), os.ErrClosed, or what is wrong with the file.
func (f *Folder) Serve(w http.ResponseWriter, r *http.Request, path string) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return ErrMethod
	}
	for range 3 {
		if err := f.serve(w, r, path); err != errChanged {
			return err
		}
	}
	return errChanged
}

func (f *Folder) serve(w http.ResponseWriter, r *http.Request, path string) error {
	file, err := f.file(path)
	if err != nil {
		return err
	}
	v := &file.plain
	if r.Header["Range"] == nil { // parts are those of the file itself
		v = file.choose(r.Header["Accept-Encoding"])
	}
	h := w.Header()
	h["Content-Type"], h["Etag"], h["Last-Modified"] = file.contentType, v.etag, file.lastModified
	if f.cacheControl != nil {
		h["Cache-Control"] = f.cacheControl
	}
	if file.varies {
		h["Vary"] = varies
	}
	if v.coding != nil {
		h["Content-Encoding"], h["Content-Length"] = v.coding, v.length
	}
	if v.content != nil && r.Method == http.MethodGet && unconditional(r.Header) {
		h["Content-Length"], h["Accept-Ranges"] = v.length, ranges
		_, _ = w.Write(v.content)
		return nil
	}
	return f.send(w, r, file, v)
}

// Ready is a whole file that is at hand.
type Ready struct {
	Content []byte // not to be changed
	file    *file
	variant *variant
	folder  *Folder
}

// Ready returns what Serve would answer a plain GET with that says no more than
// which codings it accepts (if that is not empty). The strings are not kept. False:
// it would not be a file, or a large one.
func (f *Folder) Ready(path, acceptEncoding string) (Ready, bool) {
	file, err := f.file(path)
	if err != nil {
		return Ready{}, false
	}
	v := &file.plain
	if acceptEncoding != "" {
		v = file.choose([]string{acceptEncoding})
	}
	return Ready{v.content, file, v, f}, v.content != nil
}

// AppendFields appends the header fields that tell of the file, each with CRLF.
func (r Ready) AppendFields(b []byte) []byte {
	add := func(name string, value []string) {
		if value != nil {
			b = append(append(append(append(b, name...), ": "...), value[0]...), "\r\n"...)
		}
	}
	add("Content-Type", r.file.contentType)
	add("Content-Length", r.variant.length)
	add("Last-Modified", r.file.lastModified)
	add("Etag", r.variant.etag)
	add("Accept-Ranges", ranges)
	add("Cache-Control", r.folder.cacheControl)
	add("Content-Encoding", r.variant.coding)
	if r.file.varies {
		add("Vary", varies)
	}
	return b
}

// Values of header fields.
var (
	varies = []string{"Accept-Encoding"}
	ranges = []string{"bytes"}
)

// unconditional reports whether a request is for all of a file, in any case.
func unconditional(h http.Header) bool {
	for _, name := range [...]string{"If-None-Match", "If-Modified-Since", "Range", "If-Match", "If-Unmodified-Since", "If-Range"} {
		if _, ok := h[name]; ok {
			return false
		}
	}
	return true
}

// send answers a request of any kind.
func (f *Folder) send(w http.ResponseWriter, r *http.Request, file *file, v *variant) error {
	content, err := v.open(f.root)
	if err != nil {
		clear(w.Header())
		return err
	}
	defer content.Close()
	http.ServeContent(w, r, "", file.modified, content)
	return nil
}

// file returns the file at a path.
func (f *Folder) file(path string) (*file, error) {
	if file := f.cache.get(path[1:], f); file != nil { // as the most are asked for
		return file, nil
	}
	name, err := nameOf(path)
	if err != nil {
		return nil, err
	}
	if file := f.cache.get(name, f); file != nil {
		return file, nil
	}
	name = strings.Clone(name) // and not the request that it may be a part of
	file, err := f.load(name)
	if errors.Is(err, ErrFolder) && strings.HasSuffix(path, "/") {
		return nil, fs.ErrNotExist // there is a slash already
	}
	if err != nil {
		return nil, notShown(err)
	}
	f.cache.put(name, file)
	return file, nil
}

// notShown makes fs.ErrNotExist of an error, unless it says nothing of the file.
func notShown(err error) error {
	for _, other := range []error{ErrFolder, os.ErrClosed, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO} {
		if errors.Is(err, other) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
}

// index is the file that stands for its folder.
const index = "index.html"

// wellKnown is the one name with a dot that is shown (RFC 8615).
const wellKnown = ".well-known"

// nameOf returns the name below the folder that a path means. Several slashes are
// as good as one.
func nameOf(path string) (string, error) {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "":
			continue
		case part[0] == '.' && (part != wellKnown || len(parts) > 0), strings.ContainsRune(part, 0):
			return "", fs.ErrNotExist
		}
		parts = append(parts, part)
	}
	if strings.HasSuffix(path, "/") {
		parts = append(parts, index)
	}
	if name := strings.Join(parts, "/"); fs.ValidPath(name) {
		return name, nil
	}
	return "", fs.ErrNotExist
}

// httpTime is a time as header fields have it.
func httpTime(t time.Time) []string { return []string{t.UTC().Format(http.TimeFormat)} }
