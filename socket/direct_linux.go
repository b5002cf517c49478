package socket

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketIO reads and writes without telling the scheduler.
type socketIO struct{ raw syscall.RawConn }

func direct(_ net.Conn, raw syscall.RawConn) io.ReadWriter { return &socketIO{raw} }

// Read implements io.Reader.
func (s *socketIO) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := begin("read", readSocket, b)
	defer t.release()
	n, err := t.result(s.raw.Read(t.some))
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write implements io.Writer.
func (s *socketIO) Write(b []byte) (int, error) {
	t := begin("write", writeSocket, b)
	defer t.release()
	return t.result(s.raw.Write(t.whole))
}

// TryRead reads what there is, without waiting; ok is false when there is
// nothing. The error is io.EOF at the end.
func TryRead(raw syscall.RawConn, b []byte) (n int, ok bool, err error) {
	t := begin("read", readSocket, b)
	defer t.release()
	switch n, err := t.result(raw.Control(t.now)); {
	case t.err == unix.EAGAIN:
		return 0, false, nil
	case n == 0 && err == nil && len(b) > 0:
		return 0, true, io.EOF
	default:
		return n, true, err
	}
}

// WriteMore writes b, which the next write is to follow at once: it goes into
// the same packet.
func WriteMore(nc net.Conn, b []byte) error {
	tc, ok := Of(nc)
	if !ok {
		_, err := nc.Write(b)
		return err
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return err
	}
	t := begin("write", sendMore, b)
	defer t.release()
	_, err = t.result(raw.Write(t.whole))
	return err
}

// transfer is one read or write. It is kept for the next ones: what RawConn's
// methods are given escapes, and would be garbage each time.
type transfer struct {
	op   string
	call func(fd uintptr, b []byte) (int, error)
	b    []byte
	n    int   // of b that are done
	err  error // of the last system call

	now         func(fd uintptr)
	some, whole func(fd uintptr) bool
}

var transfers = sync.Pool{New: func() any {
	t := new(transfer)
	t.now = func(fd uintptr) { t.try(fd) }
	t.some = t.try
	t.whole = t.tryAll
	return t
}}

func begin(op string, call func(fd uintptr, b []byte) (int, error), b []byte) *transfer {
	t := transfers.Get().(*transfer)
	t.op, t.call, t.b, t.n, t.err = op, call, b, 0, nil
	return t
}

func (t *transfer) release() {
	t.b = nil
	transfers.Put(t)
}

// most is what one system call moves: nothing else can use the processor for so
// long, the garbage collector's stop included.
const most = 128 << 10

// try makes a system call for what is left of b, which is not empty but in a
// TryRead that asks for nothing. False: the socket, which is non-blocking, is
// not ready.
func (t *transfer) try(fd uintptr) bool {
	b := t.b[t.n:]
	b = b[:min(len(b), most)]
	for {
		n, err := t.call(fd, b)
		if err == unix.EINTR {
			continue
		}
		if t.err = err; err == nil {
			t.n += n
		}
		return err != unix.EAGAIN
	}
}

// tryAll is try until all of b is done.
func (t *transfer) tryAll(fd uintptr) bool {
	for t.n < len(t.b) {
		switch ready := t.try(fd); {
		case !ready:
			return false
		case t.err != nil:
			return true
		}
	}
	return true
}

// result is what it came to; err is RawConn's.
func (t *transfer) result(err error) (int, error) {
	switch {
	case err != nil:
		return t.n, opError(t.op, err)
	case t.err != nil && t.err != unix.EAGAIN:
		return t.n, opError(t.op, os.NewSyscallError(t.op, t.err))
	}
	return t.n, nil
}
