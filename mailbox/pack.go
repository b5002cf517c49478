package mailbox

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// packSize is how large a pack becomes before another is begun.
const packSize = 64 << 20

// packs are files that hold messages one after the other, so that those of one
// group share a sync, and none of them passes through the compactions of the
// database. A message lies where its blobRecord says. Deleted ones become holes
// in the file; a pack without messages is deleted. What the database does not
// refer to, as after a crash, is room lost until then.
//
// Only the committer adds to them, one goroutine at a time.
type packs struct {
	dir    string
	number uint64   // of the last pack
	file   *os.File // the last pack; nil: not opened yet
	end    int64    // of the last pack
	dirty  bool     // it has to be synced

	mu    sync.Mutex // guards holes
	holes []extent   // to be made
}

// extent is where a message lies.
type extent struct {
	pack         uint64
	offset, size int64
	crc          uint32 // CRC-32C of the octets
}

// maxHoles bounds the holes that wait to be made. To forget some costs no more
// than room.
const maxHoles = 100_000

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (p *packs) name(number uint64) string {
	return filepath.Join(p.dir, fmt.Sprintf("%08x.pack", number))
}

// openPacks finds the last pack in dir.
func openPacks(dir string) (*packs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &packs{dir: dir}
	numbers, err := p.list()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		p.number = max(p.number, n)
	}
	return p, nil
}

// list returns the numbers of the packs.
func (p *packs) list() ([]uint64, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		var n uint64
		if _, err := fmt.Sscanf(e.Name(), "%x.pack", &n); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// keepOnly deletes all packs but the last and those with the given numbers.
func (p *packs) keepOnly(known []uint64) error {
	numbers, err := p.list()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n != p.number && !slices.Contains(known, n) {
			if err := p.remove(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// append writes a message, which is on disk after the next sync.
func (p *packs) append(data []byte) (extent, error) {
	if err := p.makeRoom(); err != nil {
		return extent{}, err
	}
	e := extent{p.number, p.end, int64(len(data)), crc32.Checksum(data, castagnoli)}
	p.dirty = true
	n, err := p.file.WriteAt(data, p.end)
	p.end += int64(n) // also of half a message: to write there again gains nothing
	return e, err
}

// makeRoom opens the last pack, and begins another one when it is full.
func (p *packs) makeRoom() error {
	if p.file != nil && p.end < packSize {
		return nil
	}
	if p.file != nil {
		if err := p.close(); err != nil {
			return err
		}
		p.number++
	}
	f, err := os.OpenFile(p.name(p.number), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = syncDir(p.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	p.file, p.end = f, info.Size()
	if p.end >= packSize {
		return p.makeRoom()
	}
	return nil
}

// sync puts on disk what was appended.
func (p *packs) sync() error {
	if !p.dirty {
		return nil
	}
	if err := fdatasync(p.file); err != nil {
		return fmt.Errorf("sync pack: %w", err)
	}
	p.dirty = false
	return nil
}

func (p *packs) close() error {
	if p.file == nil {
		return nil
	}
	err := errors.Join(p.sync(), p.file.Close())
	p.file = nil
	return err
}

// read returns a message. It returns errGone if it is not there, as those who
// look at an old snapshot must expect.
func (p *packs) read(e extent) ([]byte, error) {
	f, err := os.Open(p.name(e.pack))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errGone
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, e.size)
	if _, err := f.ReadAt(data, e.offset); err != nil {
		return nil, err
	}
	if crc32.Checksum(data, castagnoli) != e.crc {
		return nil, errGone
	}
	return data, nil
}

// free notes that a message is deleted.
func (p *packs) free(e extent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.holes) < maxHoles {
		p.holes = append(p.holes, e)
	}
}

// punch gives the room of deleted messages back to the file system, whole
// blocks of it, if it can do that.
func (p *packs) punch() {
	p.mu.Lock()
	holes := p.holes
	p.holes = nil
	p.mu.Unlock()
	const block = 4096
	for _, e := range holes {
		from := (e.offset + block - 1) / block * block
		to := (e.offset + e.size) / block * block
		if from >= to {
			continue
		}
		f, err := os.OpenFile(p.name(e.pack), os.O_WRONLY, 0)
		if err != nil {
			continue // it is gone as a whole
		}
		_ = punchHole(f, from, to-from)
		f.Close()
	}
}

// remove deletes a pack that has no messages.
func (p *packs) remove(number uint64) error {
	if err := os.Remove(p.name(number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
