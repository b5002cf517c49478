package webtransport

import (
	"crypto/tls"
	"net"
	"sync"
)

// outer is the connection around. The records of one Write go out in one write to
// the socket: crypto/tls writes each by itself, and a full record of what is
// inside takes two of them, of which one is tiny.
type outer struct {
	*tls.Conn
	below *joiner
}

// outerClient is tls.Client.
func outerClient(nc net.Conn, config *tls.Config) *outer {
	below := &joiner{Conn: nc}
	return &outer{tls.Client(below, config), below}
}

// Write implements net.Conn. One goroutine writes at a time.
func (o *outer) Write(b []byte) (int, error) {
	o.below.join()
	n, err := o.Conn.Write(b)
	if joined := o.below.joined(); err == nil && joined != nil {
		return 0, joined
	}
	return n, err
}

// Close implements net.Conn. As with tls.Conn, it breaks a Write that is under way,
// instead of waiting for its turn to say goodbye.
func (o *outer) Close() error {
	if o.below.busy() {
		return o.below.Conn.Close()
	}
	return o.Conn.Close()
}

// joiner collects what is written between join and joined.
type joiner struct {
	net.Conn
	mu    sync.Mutex // guards what follows, and orders writes
	bytes *[]byte    // nil: nothing is collected
	err   error      // of a write that others were told had succeeded
}

// joinSize is enough for the frames of one write of a webstream, in records.
const joinSize = 72 << 10

var joinBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, joinSize)) }}

// Write implements net.Conn.
func (j *joiner) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.err != nil:
		return 0, j.err
	case j.bytes != nil:
		*j.bytes = append(*j.bytes, b...)
		return len(b), nil
	}
	return j.Conn.Write(b)
}

// busy reports whether somebody writes.
func (j *joiner) busy() bool {
	if !j.mu.TryLock() {
		return true
	}
	defer j.mu.Unlock()
	return j.bytes != nil
}

func (j *joiner) join() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.bytes = joinBuffers.Get().(*[]byte)
}

// joined writes what was collected.
func (j *joiner) joined() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	buf := j.bytes
	if j.bytes = nil; len(*buf) > 0 {
		_, j.err = j.Conn.Write(*buf)
	}
	*buf = (*buf)[:0]
	joinBuffers.Put(buf)
	return j.err
}
