package park

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketIO is Direct's way.
type socketIO struct{ raw syscall.RawConn }

func direct(_ net.Conn, raw syscall.RawConn) io.ReadWriter { return &socketIO{raw} }

// Read implements io.Reader.
func (s *socketIO) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := begin("read", b)
	defer t.release()
	n, err := t.result(s.raw.Read(t.read))
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write implements io.Writer.
func (s *socketIO) Write(b []byte) (int, error) {
	t := begin("write", b)
	defer t.release()
	return t.result(s.raw.Write(t.write))
}

// read is Socket.TryRead.
func read(raw syscall.RawConn, b []byte) (int, error) {
	t := begin("read", b)
	defer t.release()
	switch n, err := t.result(raw.Control(t.now)); {
	case t.err == unix.EAGAIN:
		return 0, ErrNothing
	case n == 0 && err == nil && len(b) > 0:
		return 0, io.EOF
	default:
		return n, err
	}
}

// transfer is one read or write. It is kept for the next ones: what RawConn's
// methods are given escapes, and would be garbage each time.
type transfer struct {
	op  string
	b   []byte
	n   int   // of b that are done
	err error // of the last system call

	now         func(fd uintptr)
	read, write func(fd uintptr) bool
}

var transfers = sync.Pool{New: func() any {
	t := new(transfer)
	t.now = func(fd uintptr) { t.try(readSocket, fd) }
	t.read = func(fd uintptr) bool { return t.try(readSocket, fd) }
	t.write = t.writeAll
	return t
}}

func begin(op string, b []byte) *transfer {
	t := transfers.Get().(*transfer)
	t.op, t.b, t.n, t.err = op, b, 0, nil
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
// TryRead that asks for nothing. False: the socket, which is non-blocking as all
// of package net's are, is not ready.
func (t *transfer) try(call func(uintptr, []byte) (int, error), fd uintptr) bool {
	b := t.b[t.n:]
	b = b[:min(len(b), most)]
	for {
		n, err := call(fd, b)
		if err == unix.EINTR {
			continue
		}
		if t.err = err; err == nil {
			t.n += n
		}
		return err != unix.EAGAIN
	}
}

func (t *transfer) writeAll(fd uintptr) bool {
	for t.n < len(t.b) {
		switch ready := t.try(writeSocket, fd); {
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
	switch op, ok := errors.AsType[*net.OpError](err); {
	case ok:
		op.Op = t.op // it is "raw-read" to RawConn
		return t.n, op
	case err != nil:
		return t.n, err
	case t.err != nil && t.err != unix.EAGAIN:
		return t.n, &net.OpError{Op: t.op, Net: "tcp", Err: os.NewSyscallError(t.op, t.err)}
	}
	return t.n, nil
}
