//go:build !linux

package park

import "errors"

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
