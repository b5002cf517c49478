package splice

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// bufferSize is that of what is read from one side before it is written to the
// other, and so the most that is ever between them.
const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// carrier is a Link at work.
type carrier struct {
	*Link
	ctx  context.Context
	last tail // of what the client got; written by down alone

	mu    sync.Mutex
	ended bool  // a direction has ended
	err   error // the result; set with ended
}

func newCarrier(ctx context.Context, l *Link) *carrier { return &carrier{Link: l, ctx: ctx} }

func (c *carrier) run() error {
	stop := context.AfterFunc(c.ctx, c.halt)
	var copies sync.WaitGroup
	copies.Go(c.up)
	copies.Go(c.down)
	copies.Wait()
	stop()
	_ = c.Server.Close()
	if c.ctx.Err() == nil {
		return c.err
	}
	cause := context.Cause(c.ctx)
	if c.Goodbye != nil {
		if text := c.Goodbye(cause, c.last.octets()); len(text) > 0 {
			_, _ = c.Client.Write(text)
		}
	}
	return cause
}

var longAgo = time.Unix(1, 0)

// halt ends all reading, and with the server all writing to it.
func (c *carrier) halt() {
	_ = c.Client.SetReadDeadline(longAgo)
	_ = c.Server.Close()
}

// end notes why a direction has ended; the first one decides.
func (c *carrier) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended, c.err = true, err
	}
}

// up carries bytes from the client to the server.
func (c *carrier) up() {
	read, write := copyAll(c.Server, c.Client, nil)
	switch {
	case write != nil:
		return // down will see what became of the server
	case errors.Is(read, io.EOF):
		c.end(io.EOF)
		if !closeWrite(c.Server) {
			_ = c.Server.Close()
		}
	default:
		c.end(read)
		_ = c.Server.Close() // the client is gone
	}
}

// down carries bytes from the server to the client.
func (c *carrier) down() {
	if len(c.Head) > 0 {
		c.last.note(c.Head)
		if _, err := c.Client.Write(c.Head); err != nil {
			c.end(err)
			c.halt()
			return
		}
		c.Head = nil
	}
	_, write := copyAll(c.Client, c.Server, &c.last)
	if write != nil {
		c.end(write)
		c.halt()
		return
	}
	if c.ctx.Err() != nil {
		return // the goodbye comes first
	}
	c.end(nil)
	if !closeWrite(c.Client) {
		c.halt()
	}
}

// copyAll copies until either side fails; read is io.EOF after all went well.
func copyAll(dst io.Writer, src io.Reader, last *tail) (read, write error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			if last != nil {
				last.note(buf[:n])
			}
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return nil, werr
			}
		}
		if err != nil {
			return err, nil
		}
	}
}

// closeWrite ends the direction to nc; false when nc has no halves.
func closeWrite(nc net.Conn) bool {
	half, ok := nc.(interface{ CloseWrite() error })
	if ok {
		_ = half.CloseWrite()
	}
	return ok
}

// tail is the end of a stream.
type tail struct {
	buf [8]byte
	n   int
}

func (t *tail) note(b []byte) {
	if len(b) >= len(t.buf) {
		t.n = copy(t.buf[:], b[len(b)-len(t.buf):])
		return
	}
	keep := min(t.n, len(t.buf)-len(b))
	copy(t.buf[:], t.buf[t.n-keep:t.n])
	t.n = keep + copy(t.buf[keep:], b)
}

func (t *tail) octets() []byte { return t.buf[:t.n] }
