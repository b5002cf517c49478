package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// readerSize is that of Conn.R: a greeting with its capabilities fits.
const readerSize = 2048

// ErrBadLine says that a server sent a line that is too long, or does not end
// in CRLF.
var ErrBadLine = errors.New("bad line from server")

// Conn is an open connection. Its Close gives its place back, once; it may be
// called concurrently, all else not.
type Conn struct {
	net.Conn               // *net.TCPConn, *net.UnixConn or *tls.Conn
	R        *bufio.Reader // reads Conn; what it holds comes before what Conn yields; nil after Detach

	// Offers is what Open has learnt that the server can do, for who logs in.
	Offers string

	pool    *Pool
	address *address
	raw     net.Conn  // below TLS
	direct  io.Writer // writes to Conn for less; nil: there is none such
	placed  bool      // it has a place to give back
	once    sync.Once // gives it back

	mu    sync.Mutex
	bound *bound // guarded by mu
}

// Address is the one of Config.Addresses that c is to.
func (c *Conn) Address() string { return c.address.name }

// Close closes the connection and gives its place back.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		if c.placed {
			c.pool.closed(c.address)
		}
	})
	return err
}

// Read reads what R holds, and then from the connection.
func (c *Conn) Read(b []byte) (int, error) {
	if c.R != nil && c.R.Buffered() > 0 {
		return c.R.Read(b)
	}
	return c.Conn.Read(b)
}

// Write writes to the connection.
func (c *Conn) Write(b []byte) (int, error) {
	if c.direct != nil {
		return c.direct.Write(b)
	}
	return c.Conn.Write(b)
}

// Detach lets R go, and returns what it held: who serves the connection from
// now on begins with that and goes on with c.Conn. Close is still c's.
func (c *Conn) Detach() []byte {
	var head []byte
	if n := c.R.Buffered(); n > 0 {
		b, _ := c.R.Peek(n)
		head = bytes.Clone(b)
	}
	c.R = nil
	return head
}

// Bare is c.Conn, for who has c as a net.Conn only.
func (c *Conn) Bare() net.Conn { return c.Conn }

// CloseWrite sends the end of what is written: FIN, with TLS close_notify.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// ReadLine returns the next line without its CRLF, which is at most limit
// octets long. The error wraps ErrBadLine when it is none such, and is io.EOF
// when the server has closed the connection between lines.
func (c *Conn) ReadLine(limit int) (string, error) {
	var line []byte
	for {
		part, err := c.R.ReadSlice('\n')
		if len(line)+len(part) > limit+len("\r\n") {
			return "", fmt.Errorf("%w: longer than %d octets", ErrBadLine, limit)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			text, ok := bytes.CutSuffix(line, []byte("\r\n"))
			if !ok {
				return "", fmt.Errorf("%w: it does not end in CRLF", ErrBadLine)
			}
			return string(text), nil
		case err == io.EOF && len(line) > 0:
			return "", io.ErrUnexpectedEOF
		case err != bufio.ErrBufferFull:
			return "", err
		}
	}
}
