//go:build linux

package park_test

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"posthorn/loopback"
	"posthorn/park"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// alarm is a Waker that counts, and tells who waits for it.
type alarm chan struct{}

func newAlarm() alarm { return make(alarm, 100) }

func (a alarm) Wake() { a <- struct{}{} }

func (a alarm) rings(t testing.TB) {
	t.Helper()
	select {
	case <-a:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was woken")
	}
}

func (a alarm) isSilent(t testing.TB) {
	t.Helper()
	select {
	case <-a:
		t.Fatal("woken for nothing")
	default:
	}
}

func newLot(t testing.TB) *park.Lot {
	t.Helper()
	l, err := park.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// pair is both ends of a connection, and the first one's socket.
func pair(t testing.TB) (near, far *net.TCPConn, s *park.Socket) {
	t.Helper()
	near, far = loopback.Pair(t)
	return near, far, socket(t, near)
}

func socket(t testing.TB, nc net.Conn) *park.Socket {
	t.Helper()
	s, ok := park.NewSocket(nc)
	if !ok {
		t.Fatalf("%T is no socket", nc)
	}
	return s
}

func enter(t testing.TB, l *park.Lot, s *park.Socket, w park.Waker) park.Ticket {
	t.Helper()
	ticket, err := l.Park(s, w)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func TestWakes(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(near, far *net.TCPConn)
		want   error
	}{
		{"data", func(_, far *net.TCPConn) { far.Write([]byte("x")) }, nil},
		{"end", func(_, far *net.TCPConn) { far.CloseWrite() }, io.EOF},
		{"close", func(_, far *net.TCPConn) { far.Close() }, io.EOF},
		{"reset", func(_, far *net.TCPConn) { far.SetLinger(0); far.Close() }, syscall.ECONNRESET},
	} {
		l, a := newLot(t), newAlarm()
		near, far, s := pair(t)
		enter(t, l, s, a)
		a.isSilent(t)
		c.happen(near, far)
		a.rings(t)
		if _, err := s.TryRead(make([]byte, 10)); !errors.Is(err, c.want) {
			t.Errorf("%s: read %v, want %v", c.name, err, c.want)
		}
	}
}

// What came before is as good as what comes after.
func TestWakesForWhatIsThere(t *testing.T) {
	l, a := newLot(t), newAlarm()
	_, far, s := pair(t)
	far.Write([]byte("x"))
	for range 100 {
		enter(t, l, s, a)
		a.rings(t)
	}
	a.isSilent(t)
}

func TestReadDoesNotWait(t *testing.T) {
	near, far, s := pair(t)
	near.SetReadDeadline(time.Unix(1, 0)) // of no matter
	b := make([]byte, 10)
	var ne net.Error
	if n, err := s.TryRead(b); n != 0 || !errors.Is(err, park.ErrNothing) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("read %d, %v", n, err)
	}
	far.Write([]byte("abc"))
	for {
		n, err := s.TryRead(b)
		if err == park.ErrNothing {
			continue // loopback takes a moment
		}
		if n != 3 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		break
	}
	near.Close()
	if _, err := s.TryRead(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read %v of a closed socket", err)
	}
}

// Wait waits for a while, and not much longer.
func TestWait(t *testing.T) {
	_, far, s := pair(t)
	b := make([]byte, 10)
	n, tries := 0, 0
	try := func(uintptr) bool {
		tries++
		var err error
		n, err = s.TryRead(b)
		return err != park.ErrNothing
	}
	began := time.Now()
	if err := s.Wait(100*time.Millisecond, try); !errors.Is(err, os.ErrDeadlineExceeded) || tries != 1 {
		t.Errorf("got %v after %d tries", err, tries)
	}
	if took := time.Since(began); took < 50*time.Millisecond || took > 5*time.Second {
		t.Errorf("it waited for %v", took)
	}
	time.AfterFunc(10*time.Millisecond, func() { far.Write([]byte("x")) })
	if err := s.Wait(time.Minute, try); err != nil || n != 1 {
		t.Errorf("%d bytes, %v", n, err)
	}
	time.AfterFunc(10*time.Millisecond, s.Interrupt)
	for range 2 {
		if err := s.Wait(time.Minute, try); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
}

func TestInterruptAnyTime(t *testing.T) {
	for range 200 {
		_, _, s := pair(t)
		go s.Interrupt()
		if err := s.Wait(time.Minute, func(uintptr) bool { return false }); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
}

func TestLeave(t *testing.T) {
	l, a := newLot(t), newAlarm()
	near, far, s := pair(t)
	ticket := enter(t, l, s, a)
	if !l.Leave(ticket) || l.Leave(ticket) || l.Leave(park.Ticket{}) {
		t.Error("it does not leave once")
	}
	far.Write([]byte("x"))
	b := newAlarm()
	enter(t, l, s, b)
	b.rings(t)
	a.isSilent(t)
	near.Close()
	if _, err := l.Park(s, a); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed socket parks: %v", err)
	}
}

// Each stay ends in one way: with Leave, or with Wake.
func TestLeaveAndWakeAtOnce(t *testing.T) {
	l := newLot(t)
	_, far, s := pair(t)
	for range 2000 {
		a := newAlarm()
		ticket := enter(t, l, s, a)
		wrote := make(chan struct{})
		go func() { far.Write([]byte("x")); close(wrote) }()
		if !l.Leave(ticket) {
			a.rings(t)
		}
		<-wrote
		for b := make([]byte, 10); ; {
			if n, _ := s.TryRead(b); n > 0 {
				break
			}
		}
		a.isSilent(t)
	}
}

// A socket that is closed gives its number to the next one. Whatever is still
// known of it must not concern that.
func TestNumberIsUsedAgain(t *testing.T) {
	l := newLot(t)
	number := func(c *net.TCPConn) (n uintptr) {
		rc, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		rc.Control(func(fd uintptr) { n = fd })
		return n
	}
	again := 0
	for range 200 {
		old, _, s := pair(t)
		was, left := newAlarm(), newAlarm()
		fd := number(old)
		ticket := enter(t, l, s, was)
		old.Close() // nobody takes it out
		near, far, s2 := pair(t)
		if number(near) != fd {
			near, far, s2 = far, near, socket(t, far)
		}
		if number(near) == fd {
			again++
			enter(t, l, s2, left)
			was.rings(t) // it hears that its socket is gone
			if l.Leave(ticket) {
				t.Error("the old ticket takes the new socket out")
			}
			left.isSilent(t)
			far.Write([]byte("x"))
			left.rings(t)
			was.isSilent(t)
		} else if !l.Leave(ticket) {
			t.Error("it cannot leave")
		}
		near.Close()
		far.Close()
	}
	if again == 0 {
		t.Error("no number came again")
	}
}

func TestMany(t *testing.T) {
	l, a := newLot(t), make(alarm, 2000)
	var far []*net.TCPConn
	for range 1000 {
		_, f, s := pair(t)
		enter(t, l, s, a)
		far = append(far, f)
	}
	a.isSilent(t)
	for _, f := range far {
		f.Write([]byte("x"))
	}
	for range far {
		a.rings(t)
	}
	a.isSilent(t)
}

func TestClose(t *testing.T) {
	l, err := park.New()
	if err != nil {
		t.Fatal(err)
	}
	a := newAlarm()
	_, _, s := pair(t)
	ticket := enter(t, l, s, a)
	l.Close()
	a.rings(t)
	if _, err := l.Park(s, a); err != park.ErrClosed {
		t.Errorf("got %v", err)
	}
	if l.Leave(ticket) {
		t.Error("it leaves what is closed")
	}
}

// counter is woken as often as there is something, and reads it.
type counter struct {
	l     *park.Lot
	s     *park.Socket
	bytes int
	ended chan error
}

func (c *counter) Wake() {
	for b := make([]byte, 16); ; {
		n, err := c.s.TryRead(b)
		c.bytes += n
		if err == park.ErrNothing {
			_, err = c.l.Park(c.s, c)
			if err == nil {
				return
			}
		}
		if err != nil {
			c.ended <- err
			return
		}
	}
}

// No byte is slept through, however the writes fall.
func TestNothingIsMissed(t *testing.T) {
	l := newLot(t)
	_, far, s := pair(t)
	c := &counter{l: l, s: s, ended: make(chan error)}
	go c.Wake()
	const writes = 20000
	for i := range writes {
		far.Write([]byte{byte(i)})
		if i%7 == 0 {
			runtime.Gosched()
		}
	}
	far.Close()
	if err := <-c.ended; err != io.EOF || c.bytes != writes {
		t.Errorf("%d bytes, %v", c.bytes, err)
	}
}

func BenchmarkParkAndWake(b *testing.B) {
	l, a := newLot(b), newAlarm()
	_, far, s := pair(b)
	far.Write([]byte("x"))
	b.ReportAllocs()
	for b.Loop() {
		l.Park(s, a)
		<-a
	}
}
