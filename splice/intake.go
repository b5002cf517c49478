package splice

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"posthorn/park"
)

// What is read from one side is written to the other before more is read, so
// these are also the most that is ever between them.
const (
	recordSize = 16 << 10 // of a TLS record
	batchSize  = 64 << 10 // four records, which mux joins
)

var (
	records = sync.Pool{New: func() any { return newBuffer(recordSize) }}
	batches = sync.Pool{New: func() any { return newBuffer(batchSize) }}
	intakes = sync.Pool{New: func() any {
		in := new(intake)
		in.try = in.readNow
		return in
	}}
)

func newBuffer(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

// linger is how long a way that is quiet keeps its goroutine, or half of that:
// much of what is said is answered within it, and answered again.
const linger = 400 * time.Millisecond

// intake is where a way's goroutine reads from. It holds a buffer only while
// there is something in it.
type intake struct {
	reader  interface{ TryRead([]byte) (int, error) } // nil: it cannot be parked
	blocked io.Reader                                 // then
	socket  *park.Socket
	buffers *sync.Pool
	buf     *[]byte
	n       int
	err     error
	tried   bool                  // since take began
	try     func(fd uintptr) bool // readNow, which would be garbage each time
}

func (c *carrier) intake(w way, buffers *sync.Pool) *intake {
	in := intakes.Get().(*intake)
	in.socket, in.buffers = c.sockets[w], buffers
	switch {
	case in.socket == nil && w == up:
		in.blocked = c.client
	case in.socket == nil:
		in.blocked = c.server
	case w == up:
		in.reader = c.quiet
	default:
		in.reader = in.socket
	}
	return in
}

// release gives back all that in has.
func (in *intake) release() {
	in.empty()
	in.reader, in.blocked, in.socket, in.buffers, in.err = nil, nil, nil, nil, nil
	intakes.Put(in)
}

// empty gives the buffer back.
func (in *intake) empty() {
	if in.buf != nil {
		in.buffers.Put(in.buf)
		in.buf = nil
	}
}

// readNow reads what there is; false: nothing, and that is no reason to end.
func (in *intake) readNow(uintptr) bool {
	in.tried = true
	in.buf = in.buffers.Get().(*[]byte)
	in.n, in.err = in.reader.TryRead(*in.buf)
	switch {
	case in.n > 0 && in.err == park.ErrNothing:
		in.err = nil
	case in.n == 0 && in.err == park.ErrNothing:
		in.empty()
		return false
	}
	return true
}

// take returns what comes next. Both a result and an error may be there. When
// the way has become quiet, or has to end, the error is park.ErrNothing.
func (c *carrier) take(w way, in *intake) ([]byte, error) {
	in.empty()
	in.n, in.err, in.tried = 0, nil, false
	if !c.await(w) {
		return nil, park.ErrNothing
	}
	defer c.resume(w)
	if in.blocked != nil {
		in.buf = in.buffers.Get().(*[]byte)
		in.n, in.err = in.blocked.Read(*in.buf)
		if errors.Is(in.err, os.ErrDeadlineExceeded) && c.isEnding() {
			in.err = park.ErrNothing // quit woke it
		}
		return (*in.buf)[:in.n], in.err
	}
	err := in.socket.Wait(c.linger, in.try)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		// If time was up before the first try, this is it: nobody is woken for
		// what TLS holds already, or for what was unread.
		if in.tried || !in.readNow(0) {
			return nil, park.ErrNothing
		}
	case err != nil:
		return nil, err
	}
	return (*in.buf)[:in.n], in.err
}
