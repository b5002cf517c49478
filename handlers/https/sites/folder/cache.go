package folder

import (
	"sync"
	"sync/atomic"
	"time"
)

// cache keeps small files. Its zero value is ready.
type cache struct {
	mu    sync.RWMutex // guards what follows
	files map[string]*cached
	size  int64
}

type cached struct {
	file    *file
	checked atomic.Int64 // when somebody began to see whether it has changed
}

const (
	// freshFor is how long nobody looks whether a file has changed.
	freshFor = time.Second
	// settled is after how long two states of a file have different times.
	settled = 2 * time.Second
	// maxCached is the most that files in memory take.
	maxCached = 32 << 20
	// perFile is what a file takes beside its content.
	perFile = 1 << 10
)

// get returns the file of a name as it was a moment ago; nil: it has to be
// loaded. Who finds out that it has changed makes room for that; others are not
// kept waiting meanwhile.
func (c *cache) get(name string, f *Folder) *file {
	c.mu.RLock()
	k := c.files[name]
	c.mu.RUnlock()
	if k == nil {
		return nil
	}
	now := time.Now().UnixNano()
	checked := k.checked.Load()
	if now-checked < int64(freshFor) || !k.checked.CompareAndSwap(checked, now) || f.unchanged(k.file) {
		return k.file
	}
	c.drop(name, k)
	return nil
}

// unchanged reports whether a file is as it was when it was loaded.
func (f *Folder) unchanged(file *file) bool {
	info, err := f.root.Stat(file.name)
	return err == nil && identify(info) == file.plain.identity && file.loaded.Sub(file.modified) > settled && f.unchangedBeside(file)
}

// unchangedBeside reports whether the same compressed files are beside a file as
// when it was loaded.
func (f *Folder) unchangedBeside(file *file) bool {
	if !file.varies {
		return true
	}
	for suffix, v := range map[string]*variant{".br": file.br, ".gz": file.gz} {
		info, err := f.root.Stat(file.name + suffix)
		there := err == nil && info.Mode().IsRegular() && current(info, file.modified)
		if there != (v != nil) || there && identify(info) != v.identity {
			return false
		}
	}
	return true
}

func (c *cache) put(name string, file *file) {
	size := file.weight()
	if file.plain.content == nil || size > maxCached {
		return
	}
	k := &cached{file: file}
	k.checked.Store(time.Now().UnixNano())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files == nil {
		c.files = make(map[string]*cached)
	}
	if old := c.files[name]; old != nil {
		c.size -= old.file.weight()
		delete(c.files, name)
	}
	for other, k := range c.files { // whichever comes first
		if c.size+size <= maxCached {
			break
		}
		c.size -= k.file.weight()
		delete(c.files, other)
	}
	c.files[name] = k
	c.size += size
}

func (c *cache) drop(name string, k *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[name] == k {
		delete(c.files, name)
		c.size -= k.file.weight()
	}
}

// weight is what a file may take in memory, when it is compressed here too.
func (f *file) weight() int64 {
	size := 2*f.plain.size + perFile
	for _, v := range []*variant{f.br, f.gz} {
		if v != nil && v.content != nil {
			size += v.size
		}
	}
	return size
}
