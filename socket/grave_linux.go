package socket

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// grave keeps the descriptors of closed connections for a while. The scheduler
// hears of each one that is given back, which cannot be had otherwise from an
// os.File; so that happens to many at a time. Their sockets are closed already:
// the number stands for the root directory, opened for nothing (O_PATH), and
// whatever is done with it fails with EBADF.
type grave struct {
	nowhere func() (fd int, err error)

	mu    sync.Mutex
	files []*os.File
}

// graveSize is how many descriptors stay open at most.
const graveSize = 128

// graves is one for all: of several each would keep as many open, and nobody would
// clear one whose owner has ended.
var graves = grave{nowhere: sync.OnceValues(func() (int, error) {
	return unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
})}

// bury closes the socket of a file, whose descriptor is fd, wakes who waits for
// it, and closes the file some time.
func (g *grave) bury(f *os.File, fd int) {
	nowhere, err := g.nowhere()
	if err == nil {
		err = replace(fd, nowhere)
	}
	if err != nil {
		_ = f.Close()
		return
	}
	_ = f.SetDeadline(longAgo)
	g.mu.Lock()
	g.files = append(g.files, f)
	full := len(g.files) >= graveSize
	g.mu.Unlock()
	if full {
		g.clear()
	}
}

// clear gives all descriptors back, and reports whether there were any.
func (g *grave) clear() bool {
	g.mu.Lock()
	all := g.files
	g.files = nil
	g.mu.Unlock()
	for _, f := range all {
		_ = f.Close()
	}
	return len(all) > 0
}
