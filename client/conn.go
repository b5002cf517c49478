package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"posthorn/alpn"
)

// Conn is a connection to the gateway whose certificate has been verified, and
// whose greeting has been seen but is still to be read. It is the TLS connection
// that the gateway itself ends, also where another one carries it.
type Conn struct {
	*tls.Conn
	// Route is the way that it goes.
	Route Route
	// Shown says that the server has seen the identity's certificate.
	Shown bool
	Times Times

	early []byte // read already, and not by who has the Conn
	wire  *wire
	began time.Time
}

// Times are how long it took to come so far, since the route was begun; 0: it did
// not.
type Times struct {
	Connected time.Duration // there is an octet stream; with Web, one inside HTTPS
	Secured   time.Duration // TLS is made and verified
	Greeted   time.Duration // the greeting is there
}

// Read reads from the connection, from its greeting on.
func (c *Conn) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// Greeting is the first line that the server has sent, as long as none of it has
// been read.
func (c *Conn) Greeting() string {
	line, _, _ := bytes.Cut(c.early, []byte("\n"))
	return string(bytes.TrimRight(line, "\r"))
}

// Preauthenticated reports whether the greeting says that the key has logged in.
func (c *Conn) Preauthenticated() bool { return hasFold(c.early, "* PREAUTH ") }

// maxGreeting bounds a greeting: one line, with the capabilities perhaps.
const maxGreeting = 8 << 10

// greet reads the first line, and reports what is no greeting of the protocol.
func (c *Conn) greet(ctx context.Context) error {
	defer wake(ctx, c.wire)()
	buf := make([]byte, 0, 512)
	for bytes.IndexByte(buf, '\n') < 0 {
		if looksLikeHTTP(buf) {
			return errHTTP
		}
		if len(buf) >= maxGreeting {
			return errTooLong
		}
		buf = slices.Grow(buf, 512)
		n, err := c.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil && n == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
	}
	c.early = buf
	return c.judge()
}

// wake ends what waits for a connection when ctx ends, until the func that it
// returns is called.
func wake(ctx context.Context, c net.Conn) func() {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = c.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-woken
		}
	}
}

// judge says whether the greeting is that of somebody who will serve.
func (c *Conn) judge() error {
	var good bool
	switch c.Route.Protocol {
	case alpn.IMAP:
		good = hasFold(c.early, "* OK ") || c.Preauthenticated()
	case alpn.SMTP:
		good = hasFold(c.early, "220 ") || hasFold(c.early, "220-") || hasFold(c.early, "220\r")
	}
	switch {
	case good && c.Preauthenticated() && !c.Shown:
		return errUnasked
	case good:
		return nil
	case looksLikeHTTP(c.early):
		return errHTTP
	}
	return fmt.Errorf("%w: %q", errGreeting, oneLine(c.Greeting()))
}

func hasFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && bytes.EqualFold(b[:len(prefix)], []byte(prefix))
}

// wire counts what comes in below TLS.
type wire struct {
	net.Conn
	received atomic.Int64
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.received.Add(int64(n))
	return n, err
}
