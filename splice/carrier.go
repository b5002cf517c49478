package splice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"posthorn/park"
)

// carrier is a Link at work.
type carrier struct {
	client, server net.Conn
	quiet          Quiet // client, or nil when it cannot be parked
	lot            *park.Lot
	sockets        [2]*park.Socket // what each way reads from; nil: it cannot be parked
	head           []byte          // used by down alone
	last           tail            // of what the client got; written by down alone
	moves          atomic.Uint32   // counts what was carried
	goodbye        func(error, []byte) []byte
	linger         time.Duration
	ctx            context.Context
	stop           func() bool // of leave; set before up and down start
	conclude       func(error)

	mu      sync.Mutex // guards what follows
	ways    [2]state
	tickets [2]park.Ticket // while parked
	leaving bool           // it ends as soon as both ways wait
	ending  bool           // no way waits any more
	killed  bool           // the client gets no goodbye
	done    bool           // finish has been called, or will be
	decided bool           // err is
	err     error
	timer   *time.Timer // after the end of one way, or of ctx
}

// way is one of the two directions.
type way uint8

const (
	up   way = iota // from the client to the server
	down            // from the server to the client
)

// state is what a way is at.
type state uint8

const (
	running state = iota // its goroutine carries
	waiting              // its goroutine waits in a read
	parked               // it has no goroutine
	over
)

// upward and downward are what the lot wakes.
type (
	upward   carrier
	downward carrier
)

// Wake implements park.Waker.
func (w *upward) Wake() { (*carrier)(w).up() }

// Wake implements park.Waker.
func (w *downward) Wake() { (*carrier)(w).down() }

// up carries from the client to the server until the client is quiet.
func (c *carrier) up() {
	defer c.contain(up)
	if !c.begin(up) {
		return
	}
	switch read, write := c.copyUp(); {
	case write != nil:
		c.end(up) // down will see what became of the server
	case read == park.ErrNothing:
		c.wait(up)
	case errors.Is(read, io.EOF):
		c.decide(io.EOF)
		c.passEnd(up, c.server)
	case c.ctx.Err() != nil: // nothing more is to be read
		c.end(up)
	default:
		c.fail(up, read)
	}
}

// down carries from the server to the client until the server is quiet.
func (c *carrier) down() {
	defer c.contain(down)
	if !c.begin(down) {
		return
	}
	switch read, write := c.copyDown(); {
	case write != nil:
		c.fail(down, write)
	case read == park.ErrNothing:
		c.wait(down)
	case c.ctx.Err() != nil: // goodbye comes first
		c.end(down)
	case errors.Is(read, io.EOF):
		c.decide(nil)
		c.passEnd(down, c.client)
	default:
		c.fail(down, fmt.Errorf("%w: %s", ErrServer, bare(read)))
	}
}

// bare is err without the addresses in those of the network.
func bare(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// copyUp copies until either side fails, or the client is quiet.
func (c *carrier) copyUp() (read, write error) {
	in := c.intake(up, &records)
	defer in.release()
	for {
		b, read := c.take(up, in)
		if len(b) > 0 {
			c.moves.Add(1)
			if _, err := c.server.Write(b); err != nil {
				return nil, err
			}
		}
		if read != nil {
			return read, nil
		}
	}
}

// copyDown copies until either side fails, or the server is quiet.
func (c *carrier) copyDown() (read, write error) {
	if len(c.head) > 0 {
		if err := c.send(c.head); err != nil {
			return nil, err
		}
		c.head = nil
	}
	in := c.intake(down, &batches)
	defer in.release()
	for {
		b, read := c.take(down, in)
		if len(b) > 0 {
			if err := c.send(b); err != nil {
				return nil, err
			}
		}
		if read != nil {
			return read, nil
		}
	}
}

func (c *carrier) send(b []byte) error {
	c.moves.Add(1)
	c.last.note(b)
	_, err := c.client.Write(b)
	return err
}
