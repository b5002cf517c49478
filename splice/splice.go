// Package splice joins a client's connection with a server's, and carries
// bytes both ways until both have ended. It looks at none of them.
//
// A link that is quiet takes no goroutine and no buffer: its sockets are left
// in the client's park.Lot (see Quiet). A connection that cannot be parked has
// a goroutine that waits for it.
package splice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"posthorn/park"
)

// Link is a client's connection joined with a server's. Its fields are set
// before use; exactly one of Run and Start is called, once.
type Link struct {
	// Client is what a Quiet's own methods read, not something around it that
	// reads ahead.
	Client net.Conn
	// Server may have a method Bare, which returns the socket that it reads
	// from and adds nothing to.
	Server net.Conn
	// Head is what the server has sent already; the client gets it first.
	Head []byte
	// Goodbye returns what the client is told when the context ends: cause is
	// the reason, and last the last octets that the server has sent, eight of
	// them or all there were. The result is empty when nothing fits there. With
	// nil, the end of the context ends the link wherever it is.
	Goodbye func(cause error, last []byte) []byte

	linger time.Duration // default linger
}

// Quiet is a client's connection that can be parked. *mux.Conn is one.
type Quiet interface {
	net.Conn
	// Parking returns where the connection and its server's wait, and the
	// socket; nil when it cannot be parked. From then on TryRead alone reads
	// from it. closed is called when the connection is closed under its user.
	Parking(closed func()) (*park.Lot, *park.Socket)
	// TryRead reads, or returns park.ErrNothing instead of waiting. Bytes may
	// come with that error.
	TryRead([]byte) (int, error)
	// Park is called by the reader after park.ErrNothing; see Lot.Park.
	Park(park.Waker) (park.Ticket, error)
}

// ErrServer says that the server's connection broke, and did not just end.
var ErrServer = errors.New("server's connection broke")

// PanicError is a panic in one of a link's own goroutines. It ends that link
// alone.
type PanicError struct {
	Value any
	stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Stack is the stack of the goroutine that panicked.
func (e *PanicError) Stack() []byte { return e.stack }

// Run carries bytes until both directions have ended. The end of one is passed
// on: close_notify or FIN there becomes that here, and the other direction may
// go on, but not be silent for long. When ctx ends, the link goes on until
// neither side has anything to say and Goodbye fits, and ends with that; after a
// moment of silence it does without. It closes the
// server's connection, not the client's: whoever closes the client's ends the
// link at once. The error is nil when the server ended first, io.EOF when the
// client did, what broke the client's connection, or ErrServer. After the end of
// ctx it is the cause of that.
func (l *Link) Run(ctx context.Context) error {
	result := make(chan error, 1)
	l.Start(ctx, func(err error) { result <- err })
	return <-result
}

// Start does what Run does, and returns when the link is quiet for the first
// time. done is called once, with Run's result, when nothing uses the client's
// connection any more; that may be before Start returns.
func (l *Link) Start(ctx context.Context, done func(error)) {
	c := &carrier{
		client: l.Client, server: l.Server, head: l.Head, goodbye: l.Goodbye,
		linger: cmp.Or(l.linger, linger), ctx: ctx, conclude: done,
	}
	if q, ok := l.Client.(Quiet); ok {
		if c.lot, c.sockets[up] = q.Parking(c.kill); c.lot != nil {
			c.quiet = q
			c.sockets[down] = socket(l.Server)
		}
	}
	c.stop = context.AfterFunc(ctx, c.leave)
	go c.down()
	c.up()
}

// socket returns that of a server's connection, or nil. What wraps a socket,
// like TLS, may have read more than it has yielded.
func socket(nc net.Conn) *park.Socket {
	if wrapped, ok := nc.(interface{ Bare() net.Conn }); ok {
		nc = wrapped.Bare()
	}
	s, _ := park.NewSocket(nc)
	return s
}
