package splice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"posthorn/park"
)

// carrier is a Link at work.
type carrier struct {
	client, server net.Conn
	quiet          Quiet           // client, or nil when it cannot be parked
	lot            *park.Lot       // nil when quiet is
	raw            syscall.RawConn // server's socket; nil when it cannot be parked
	head           []byte          // used by down alone
	last           tail            // of what the client got; written by down alone
	moves          atomic.Uint32   // counts what was carried
	goodbye        func(error, []byte) []byte
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
	running state = iota // its goroutine reads what there is, and writes
	parked               // it has no goroutine
	waiting              // its goroutine waits in a read
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

// up carries from the client to the server until there is nothing to carry.
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
		if !closeWrite(c.server) {
			c.kill()
		}
		c.end(up)
	case c.ctx.Err() != nil: // nothing more is to be read
		c.end(up)
	default:
		c.fail(up, read)
	}
}

// down carries from the server to the client until there is nothing to carry.
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
		if !closeWrite(c.client) {
			c.kill()
		}
		c.end(down)
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

// copyUp copies until either side fails.
func (c *carrier) copyUp() (read, write error) {
	buf := records.Get().(*[recordSize]byte)
	defer records.Put(buf)
	for {
		var n int
		if c.quiet != nil {
			n, read = c.quiet.TryRead(buf[:])
		} else {
			n, read = c.await(up, c.client, buf[:])
		}
		if n > 0 {
			c.moves.Add(1)
			if _, err := c.server.Write(buf[:n]); err != nil {
				return nil, err
			}
		}
		if read != nil {
			return read, nil
		}
	}
}

// copyDown copies until either side fails.
func (c *carrier) copyDown() (read, write error) {
	if len(c.head) > 0 {
		if err := c.send(c.head); err != nil {
			return nil, err
		}
		c.head = nil
	}
	if c.raw == nil {
		return c.copyRecords()
	}
	buf := batches.Get().(*[batchSize]byte)
	defer batches.Put(buf)
	for {
		n, read := park.Read(c.raw, buf[:])
		if n > 0 {
			if err := c.send(buf[:n]); err != nil {
				return nil, err
			}
		}
		if read != nil {
			return read, nil
		}
	}
}

// copyRecords is copyDown for a server that cannot be parked.
func (c *carrier) copyRecords() (read, write error) {
	buf := records.Get().(*[recordSize]byte)
	defer records.Put(buf)
	for {
		n, read := c.await(down, c.server, buf[:])
		if n > 0 {
			if err := c.send(buf[:n]); err != nil {
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

// What is read from one side is written to the other before more is read, so
// these are also the most that is ever between them.
const (
	recordSize = 16 << 10 // of a TLS record
	batchSize  = 64 << 10 // four records, which mux joins
)

var (
	records = sync.Pool{New: func() any { return new([recordSize]byte) }}
	batches = sync.Pool{New: func() any { return new([batchSize]byte) }}
)
