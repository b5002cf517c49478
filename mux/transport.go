package mux

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"posthorn/park"
	"posthorn/socket"
)

// transport is a client's connection below TLS. It counts bytes and keeps the
// time. Its own deadlines come on top of those that a library sets: the earlier
// one holds, but while a library's only wakes the library up, after one of ours
// every read fails for good. (go-smtp goes on after its read timeout, and would
// take the rest of a message for commands.)
type transport struct {
	net.Conn
	direct  io.ReadWriter // Conn's bytes
	conn    *Conn
	in, out atomic.Uint64
	heard   atomic.Int64 // when bytes last came
	writing atomic.Int32 // writes under way

	mu       sync.Mutex // guards what follows, and orders calls of Set…Deadline
	limit    int64      // the end of the current phase; zero after login, when Limits.Idle holds
	until    int64      // our deadline for the read under way, or the last one
	libRead  int64      // the library's deadlines; zero: none
	libWrite int64
	owing    bool // the client owes data since owedAt, when in was owedIn
	owedAt   int64
	owedIn   uint64
	readErr  error // reads fail with it for good
	writeErr error

	hello *hello // during a TLS handshake; used by its goroutine alone

	late lateness

	quiet  Quiet        // what it is parked with, when Conn is no socket; set by its reader
	socket *park.Socket // once it is parked; set by its reader
	nowait bool         // reads do not wait; used by the reader alone
	closed func()       // called by abort; guarded by mu
}

// expiredError is a read or write beyond one of our deadlines. It is not
// temporary, so that crypto/tls takes it for final.
type expiredError struct{}

func (expiredError) Error() string   { return "deadline passed" }
func (expiredError) Timeout() bool   { return true }
func (expiredError) Temporary() bool { return false }
func (expiredError) Unwrap() error   { return ErrTimeout }

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// RemoteAddr is the client's address as the PROXY protocol has it.
func (t *transport) RemoteAddr() net.Addr {
	if !t.conn.Remote.IsValid() {
		return t.Conn.RemoteAddr()
	}
	return net.TCPAddrFromAddrPort(t.conn.Remote)
}

// LocalAddr is the address that the client connected to.
func (t *transport) LocalAddr() net.Addr {
	if !t.conn.Local.IsValid() {
		return t.Conn.LocalAddr()
	}
	return net.TCPAddrFromAddrPort(t.conn.Local)
}

func (t *transport) Read(b []byte) (int, error) {
	if t.nowait {
		return t.readNow(b)
	}
	if err := t.flushHeld(); err != nil {
		return 0, err
	}
	for {
		if err := t.armRead(); err != nil {
			return 0, t.over(err)
		}
		n, err := t.direct.Read(b)
		if n > 0 {
			t.took(n)
			if t.hello != nil {
				if err := t.hello.took(b[:n]); err != nil {
					return 0, err
				}
			}
		}
		if n > 0 || err == nil || !isTimeout(err) {
			return n, err
		}
		if err := t.readExpired(err); err != nil {
			return 0, t.over(err)
		}
	}
}

// took notes that n bytes came.
func (t *transport) took(n int) {
	t.in.Add(uint64(n))
	t.heard.Store(t.conn.srv.now())
}

// over ends the connection when err says that its time is. The caller does not
// hold mu.
func (t *transport) over(err error) error {
	if err == (expiredError{}) {
		t.conn.end(ErrTimeout)
	}
	return err
}

// armRead sets the deadline of a read that begins.
func (t *transport) armRead() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readErr != nil {
		return t.readErr
	}
	now := t.conn.srv.now()
	t.until = t.limit
	if t.limit == 0 {
		t.until = now + int64(t.conn.limits.Idle)
	}
	if t.owing {
		if now >= t.owedAt+int64(stallWindow) {
			in := t.in.Load()
			if t.conn.limits.stalled(int64(in - t.owedIn)) {
				t.readErr = expiredError{}
				return t.readErr
			}
			t.owedAt, t.owedIn = now, in
		}
		t.until = min(t.until, t.owedAt+int64(stallWindow))
	}
	t.setReadLocked()
	return nil
}

// setReadLocked brings the earlier one of our deadline and the library's to the
// connection. The caller holds mu.
func (t *transport) setReadLocked() {
	d := t.until
	if t.libRead != 0 {
		d = min(d, t.libRead)
	}
	_ = t.Conn.SetReadDeadline(t.conn.srv.epoch.Add(time.Duration(d)))
}

// readExpired says what a read's timeout means: the library's deadline (err),
// ours (for good), or neither any more (nil: read on).
func (t *transport) readExpired(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.conn.srv.now()
	switch {
	case t.readErr != nil:
		return t.readErr
	case now < t.until:
		if t.libRead != 0 && now >= t.libRead {
			return err
		}
		return nil
	case t.owing:
		return nil // armRead looks at the rate
	case t.limit == 0 && t.writing.Load() > 0:
		// The client is being served; Limits.MinRate sees to it that it takes
		// what it gets.
		return nil
	}
	t.readErr = expiredError{}
	return t.readErr
}

// setLimit begins a phase that ends at a time; zero begins the time after login.
func (t *transport) setLimit(at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit, t.until = at, at
	if at == 0 {
		t.until = t.conn.srv.now() + int64(t.conn.limits.Idle)
	}
	t.setReadLocked()
}

// owe says whether the client owes data.
func (t *transport) owe(owing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owing, t.owedAt, t.owedIn = owing, t.conn.srv.now(), t.in.Load()
}

// failReads makes every read fail from now on, one that is under way included.
func (t *transport) failReads(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readErr == nil {
		t.readErr = err
		_ = t.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// SetReadDeadline sets the library's deadline.
func (t *transport) SetReadDeadline(at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.libRead = t.conn.srv.clock(at)
	if t.readErr == nil && t.until != 0 {
		t.setReadLocked()
	}
	return nil
}

// SetWriteDeadline sets the library's deadline.
func (t *transport) SetWriteDeadline(at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.libWrite = t.conn.srv.clock(at)
	if t.libWrite == 0 {
		return nil // a write under way keeps its own
	}
	return t.Conn.SetWriteDeadline(at)
}

// SetDeadline sets both of the library's deadlines.
func (t *transport) SetDeadline(at time.Time) error {
	return errors.Join(t.SetReadDeadline(at), t.SetWriteDeadline(at))
}

// send writes b as long as the client takes it at a fair rate.
func (t *transport) send(b []byte) (n int, err error) {
	t.writing.Add(1)
	defer t.writing.Add(-1)
	queued := int64(-1)
	for {
		if err := t.armWrite(); err != nil {
			return n, err
		}
		m, err := t.direct.Write(b[n:])
		n += m
		t.out.Add(uint64(m))
		if err == nil || !isTimeout(err) {
			return n, err
		}
		if err := t.writeExpired(err, int64(m), &queued); err != nil {
			return n, t.over(err)
		}
	}
}

// armWrite sets the deadline of a write that begins.
func (t *transport) armWrite() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writeErr != nil {
		return t.writeErr
	}
	d := t.conn.srv.now() + int64(stallWindow)
	if t.conn.via != nil {
		d = math.MaxInt64 // what it came in sees to it that the client takes data
	}
	if t.limit != 0 {
		d = min(d, t.writeLimit())
	}
	if t.libWrite != 0 {
		d = min(d, t.libWrite)
	}
	if d == math.MaxInt64 {
		return t.Conn.SetWriteDeadline(time.Time{})
	}
	return t.Conn.SetWriteDeadline(t.conn.srv.epoch.Add(time.Duration(d)))
}

// failWrites makes every write fail from now on.
func (t *transport) failWrites(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writeErr == nil {
		t.writeErr = err
	}
}

// writeLimit leaves time for a goodbye at the end of a phase. The caller holds mu.
func (t *transport) writeLimit() int64 { return t.limit + int64(t.conn.srv.config.Grace) }

// writeExpired says what a write's timeout means after m bytes: the end of all
// writing, the library's deadline (err), or nothing as the client takes data at
// a fair rate (nil: write on).
func (t *transport) writeExpired(err error, m int64, queued *int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.conn.srv.now()
	switch {
	case t.limit != 0 && now >= t.writeLimit():
	case t.libWrite != 0 && now >= t.libWrite:
		return err
	case t.takes(m, queued):
		return nil
	}
	t.writeErr = expiredError{}
	return t.writeErr
}

// takes reports whether the client takes data at a fair rate: m bytes went to
// the kernel in a stallWindow. The kernel lets a writer on only when a good part
// of its buffer is free again, so for slow clients what counts is how much
// less there is in it; queued is what there was, or negative at first.
func (t *transport) takes(m int64, queued *int64) bool {
	before, now := *queued, socket.Unsent(t.Conn)
	*queued = now
	switch {
	case !t.conn.limits.stalled(m):
		return true
	case now < 0:
		return false
	case before < 0:
		return true // look again after another stallWindow
	}
	return !t.conn.limits.stalled(before + m - now)
}
