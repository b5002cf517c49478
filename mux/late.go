package mux

import (
	"crypto/tls"
	"errors"
	"sync"
	"sync/atomic"
)

// lateness is what of a transport's writes does not go out at once: the session
// tickets of a handshake wait for what follows them, and the records of one
// Conn.Write for each other. No write overtakes another.
type lateness struct {
	state atomic.Int32 // nothing, held or joining
	mu    sync.Mutex   // guards what follows, and orders writes while state is not nothing
	bytes []byte
	joins int     // calls of Conn.Write under way
	buf   *[]byte // what bytes grows in while they are; from joinBuffers
}

const (
	nothing int32 = iota
	held          // until there is more to write, or nothing left but to read
	joining       // until the last record is there
)

// Write sends b, after what is late.
func (t *transport) Write(b []byte) (int, error) {
	if t.hello != nil && t.hello.flight() {
		return t.hold(b)
	}
	if t.late.state.Load() == nothing {
		return t.send(b)
	}
	t.late.mu.Lock()
	defer t.late.mu.Unlock()
	if t.late.joins > 0 {
		t.late.bytes = append(t.late.bytes, b...)
		return len(b), nil
	}
	before := len(t.late.bytes)
	n, err := t.sendLate(b)
	return max(0, n-before), err
}

// hold keeps b for the next Write, read or Close.
func (t *transport) hold(b []byte) (int, error) {
	t.late.mu.Lock()
	defer t.late.mu.Unlock()
	t.late.bytes = append(t.late.bytes, b...)
	t.late.state.Store(held)
	return len(b), nil
}

// flushHeld sends what is held: who reads has nothing more to say for now. What
// is being joined is another's, and he does not wait for the client.
func (t *transport) flushHeld() error {
	if t.late.state.Load() != held {
		return nil
	}
	return t.flush()
}

func (t *transport) flush() error {
	t.late.mu.Lock()
	defer t.late.mu.Unlock()
	_, err := t.sendLate(nil)
	return err
}

// sendLate sends what is late, and then b. Not before that is done does state
// change: a Write beside it must wait for its turn. The caller holds late.mu.
func (t *transport) sendLate(b []byte) (n int, err error) {
	if t.late.joins == 0 {
		defer t.late.state.Store(nothing)
	}
	b = append(t.late.bytes, b...)
	if t.late.bytes = nil; t.late.buf != nil {
		t.late.bytes = (*t.late.buf)[:0]
	}
	if len(b) == 0 {
		return 0, nil
	}
	if n, err = t.send(b); err != nil {
		t.failWrites(err) // somebody else was told that these bytes are written
	}
	return n, err
}

// joinSize is the most of one write of a user's that becomes one write to the
// socket, four full records of a connection inside this one, and joinRoom what records need beside it. Writes up to joinFrom are
// one record anyway.
const (
	joinFrom = 1 << 10
	joinSize = 66 << 10
	joinRoom = 8 << 10
)

var joinBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, joinSize+joinRoom)
	return &b
}}

// join begins to collect what is written.
func (t *transport) join() {
	t.late.mu.Lock()
	defer t.late.mu.Unlock()
	if t.late.joins++; t.late.joins == 1 {
		t.late.buf = joinBuffers.Get().(*[]byte)
		t.late.bytes = append((*t.late.buf)[:0], t.late.bytes...)
		t.late.state.Store(joining)
	}
}

// joined sends what was collected since join.
func (t *transport) joined() error {
	t.late.mu.Lock()
	defer t.late.mu.Unlock()
	t.late.joins--
	buf := t.late.buf
	if t.late.joins == 0 {
		t.late.buf = nil
		defer joinBuffers.Put(buf)
	}
	_, err := t.sendLate(nil)
	return err
}

// Write writes b. Over TLS, the records of up to 66 KiB go out in one write to
// the socket: crypto/tls writes each by itself.
func (c *Conn) Write(b []byte) (n int, err error) {
	if _, ok := c.Conn.(*tls.Conn); !ok || len(b) <= joinFrom {
		return c.Conn.Write(b)
	}
	for err == nil && n < len(b) {
		var m int
		m, err = c.writeJoined(b[n:min(len(b), n+joinSize)])
		n += m
	}
	return n, err
}

func (c *Conn) writeJoined(b []byte) (n int, err error) {
	c.wire.join()
	defer func() {
		if joinErr := c.wire.joined(); err == nil && joinErr != nil {
			n, err = 0, joinErr
		}
	}()
	return c.Conn.Write(b)
}

// CloseWrite sends what is late and then FIN.
func (t *transport) CloseWrite() error {
	half, ok := t.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	if err := t.flush(); err != nil {
		return err
	}
	return half.CloseWrite()
}

// Close sends what is held and closes the connection.
func (t *transport) Close() error {
	_ = t.flushHeld()
	return t.Conn.Close()
}
