//go:build !linux

package park

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// Lot needs epoll: there is none here.
type Lot struct{}

// New returns an error that is errors.ErrUnsupported.
func New() (*Lot, error) { return nil, errors.ErrUnsupported }

// Close has nothing to do here.
func (*Lot) Close() {}

// Park always fails here.
func (*Lot) Park(*Socket, Waker) (Ticket, error) { return Ticket{}, errors.ErrUnsupported }

// Leave has nothing to take back here.
func (*Lot) Leave(Ticket) bool { return false }

// read always fails here.
func read(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }

func direct(nc net.Conn, _ syscall.RawConn) io.ReadWriter { return nc }
