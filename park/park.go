// Package park waits for many quiet sockets without a goroutine or a buffer
// for each of them. Who finds nothing to read leaves a socket in a Lot, ends,
// and is woken on a goroutine of its own when that has changed.
package park

import (
	"errors"
	"net"
)

// Waker is who wants to know that a socket can be read.
type Waker interface {
	// Wake is called on a goroutine of its own, once for each Park that was not
	// taken back. That there is nothing to read after all is possible.
	Wake()
}

// Ticket stands for one stay of a socket in a Lot.
type Ticket struct {
	fd   int32
	turn uint32 // which stay it is; tells a socket from an earlier one with its number
}

// ErrNothing says that there is nothing to read now. It is a temporary
// net.Error: a *tls.Conn that gets it from below keeps what it has of a record,
// and can be read again later.
var ErrNothing error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing to read" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

var _ net.Error = nothing{}

// ErrClosed says that a Lot is closed.
var ErrClosed = errors.New("park: closed")
