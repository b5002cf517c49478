package socket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"posthorn/loopback"
	"posthorn/socket"
)

const wait = 20 * time.Second

// patience is what the tests' dialer sets.
var patience = socket.Patience{Idle: 30 * time.Second, Interval: 10 * time.Second, Unanswered: time.Minute}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	ln, err := c.Listen(t.Context(), "tcp", address)
	if err == nil {
		ln, err = socket.Listen(ln)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	d := socket.Dialer{Patience: patience}
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t testing.TB, ln net.Listener) net.Conn {
	t.Helper()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// pair is both ends of a connection.
func pair(t testing.TB) (accepted, dialed *socket.Conn) {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	c := dial(t, ln.Addr().String())
	return accept(t, ln).(*socket.Conn), c.(*socket.Conn)
}

// A connection does what every net.Conn has to.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := pair(t)
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

// Both ends know each other's address, of either family: a client of IPv4 has one of
// IPv4 at a socket for both.
func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ listen, dial string }{
		{"127.0.0.1:0", "127.0.0.1"},
		{"[::1]:0", "::1"},
		{"[::]:0", "127.0.0.1"},
		{"[::]:0", "::1"},
		{"[::]:0", "::ffff:127.0.0.1"},
		{"127.0.0.1:0", "localhost"}, // by package net
	} {
		t.Run(tt.listen+" from "+tt.dial, func(t *testing.T) {
			ln := listen(t, tt.listen)
			_, port, err := net.SplitHostPort(ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, net.JoinHostPort(tt.dial, port))
			s := accept(t, ln)
			if c.LocalAddr().String() != s.RemoteAddr().String() || c.RemoteAddr().String() != s.LocalAddr().String() {
				t.Errorf("from %v to %v is from %v to %v for the other", c.LocalAddr(), c.RemoteAddr(), s.RemoteAddr(), s.LocalAddr())
			}
			ip := net.ParseIP(tt.dial)
			if got := s.RemoteAddr().(*net.TCPAddr).IP; ip != nil && !got.Equal(ip) {
				t.Errorf("the client is %v", got)
			}
		})
	}
}

// Other networks are package net's.
func TestUnix(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if same, err := socket.Listen(ln); same != ln || err != nil {
		t.Errorf("it is %v, %v now", same, err)
	}
	var d socket.Dialer
	c, err := d.DialContext(t.Context(), "unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := socket.Of(c); !ok {
		t.Errorf("%T is no socket", c)
	}
}

// Of tells sockets from what only uses one.
func TestOf(t *testing.T) {
	mine, _ := pair(t)
	nets, _ := loopback.Pair(t)
	pipe, _ := net.Pipe()
	for _, tt := range []struct {
		nc   net.Conn
		want bool
	}{
		{mine, true}, {nets, true}, {pipe, false}, {struct{ net.Conn }{mine}, false}, {struct{ *net.TCPConn }{nets}, false},
	} {
		if _, ok := socket.Of(tt.nc); ok != tt.want {
			t.Errorf("%T: %v", tt.nc, ok)
		}
	}
}

// options reads back what the kernel has of a connection.
func options(t *testing.T, c socket.Bare) map[string]int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]int)
	_ = raw.Control(func(fd uintptr) {
		for _, o := range []struct {
			name          string
			level, option int
		}{
			{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY},
			{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE},
			{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
			{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
			{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
			{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
		} {
			v, err := unix.GetsockoptInt(int(fd), o.level, o.option)
			if err != nil {
				t.Errorf("%s: %v", o.name, err)
			}
			all[o.name] = v
		}
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor flags %x, %v: programs that are started inherit it", flags, err)
		}
	})
	return all
}

// Options are set at either end, and on package net's connections.
func TestPatience(t *testing.T) {
	accepted, dialed := pair(t)
	nets, _ := loopback.Pair(t)
	for _, c := range []socket.Bare{accepted, nets} {
		if err := socket.SetPatience(c, patience); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]int{
		"TCP_NODELAY": 1, "SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000,
	}
	for _, c := range []socket.Bare{accepted, dialed, nets} {
		if got := options(t, c); !maps.Equal(got, want) {
			t.Errorf("%T: %v", c, got)
		}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if err := socket.SetPatience(a, patience); err != nil {
		t.Errorf("what has none: %v", err)
	}
}

// Without Patience there is no end.
func TestNoPatience(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	var d socket.Dialer
	dialed, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	accepted := accept(t, ln)
	if err := socket.SetPatience(accepted, socket.Patience{}); err != nil {
		t.Error(err)
	}
	for _, c := range []net.Conn{accepted, dialed} {
		if o := options(t, c.(*socket.Conn)); o["SO_KEEPALIVE"] != 0 || o["TCP_USER_TIMEOUT"] != 0 || o["TCP_NODELAY"] != 1 {
			t.Errorf("%v", o)
		}
	}
}

// The peer hears of a Close at once, although the descriptor is given back later.
func TestCloseIsHeard(t *testing.T) {
	near, far := pair(t)
	far.SetDeadline(time.Now().Add(wait))
	near.Close()
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d, %v; want the end", n, err)
	}
}

// What has been written arrives before the end; with SetLinger(0) it may not, and
// the end is a reset.
func TestLinger(t *testing.T) {
	near, far := pair(t)
	far.SetDeadline(time.Now().Add(wait))
	if _, err := near.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if n := socket.Unsent(near); n < 0 || n > int64(len("last words")) {
		t.Errorf("%d octets are not acknowledged", n)
	}
	near.Close()
	if b, err := io.ReadAll(far); string(b) != "last words" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	near, far = pair(t)
	far.SetDeadline(time.Now().Add(wait))
	if err := near.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	near.Close()
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v; want a reset", err)
	}
}

// After Close everything fails in the same way, whoever waits included, and the
// number is nobody else's.
func TestClosed(t *testing.T) {
	near, far := pair(t)
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if n, err := near.Read(make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("a read under way: %d, %v", n, err)
		}
	})
	waiting.Go(func() {
		if n, err := near.Write(make([]byte, 64<<20)); n == 64<<20 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write under way: %d, %v", n, err)
		}
	})
	if _, err := io.ReadFull(far, make([]byte, 1<<20)); err != nil { // it is under way
		t.Fatal(err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	waiting.Wait()
	other, _ := pair(t) // has the number, if anybody has
	for _, tt := range []struct {
		name string
		do   func() error
	}{
		{"Read", func() error { _, err := near.Read(make([]byte, 1)); return err }},
		{"Write", func() error { _, err := near.Write([]byte("x")); return err }},
		{"CloseWrite", near.CloseWrite},
		{"Close", near.Close},
		{"SetLinger", func() error { return near.SetLinger(0) }},
		{"SetDeadline", func() error { return near.SetDeadline(time.Now().Add(time.Hour)) }},
		{"SetReadDeadline", func() error { return near.SetReadDeadline(time.Time{}) }},
		{"SetWriteDeadline", func() error { return near.SetWriteDeadline(time.Time{}) }},
		{"SetPatience", func() error { return socket.SetPatience(near, patience) }},
	} {
		if err := tt.do(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, ok, err := socket.TryRead(raw, make([]byte, 1)); !ok || err == nil || err == io.EOF {
		t.Errorf("TryRead: %v, %v", ok, err)
	}
	if err := socket.WriteMore(near, []byte("x")); err == nil {
		t.Error("WriteMore goes somewhere")
	}
	if n := socket.Unsent(near); n >= 0 {
		t.Errorf("%d octets are not acknowledged", n)
	}
	if a := near.LocalAddr().String(); a != ":0" {
		t.Errorf("it is still at %s", a)
	}
	if _, err := other.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// Close may come at any time, from anywhere.
func TestCloseAnytime(t *testing.T) {
	for range 200 {
		near, far := pair(t)
		var all sync.WaitGroup
		for _, f := range []func(){
			func() { io.Copy(io.Discard, near) },
			func() {
				for b := make([]byte, 64<<10); ; {
					if _, err := near.Write(b); err != nil {
						return
					}
				}
			},
			func() {
				for near.SetReadDeadline(time.Now().Add(time.Hour)) == nil {
				}
			},
			func() { near.LocalAddr(); near.CloseWrite(); near.Close() },
			func() { near.Close() },
			func() { io.CopyN(io.Discard, far, 100); far.Close() },
		} {
			all.Go(f)
		}
		all.Wait()
	}
}

// Descriptors do come back.
func TestDescriptors(t *testing.T) {
	pair(t) // opens what is opened once
	count := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := count()
	ln := listen(t, "127.0.0.1:0")
	for range 1000 {
		c := dial(t, ln.Addr().String())
		accept(t, ln).Close()
		c.Close()
	}
	if now := count(); now > before+200 {
		t.Errorf("of 2000 that are closed, %d are open", now-before)
	}
}

// TryRead reads what there is.
func TestTryRead(t *testing.T) {
	near, far := pair(t)
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, ok, err := socket.TryRead(raw, b); n != 0 || ok || err != nil {
		t.Errorf("nothing is %d, %v, %v", n, ok, err)
	}
	if n, ok, err := socket.TryRead(raw, nil); n != 0 || !ok || err != nil {
		t.Errorf("nothing asked for: %d, %v, %v", n, ok, err)
	}
	if err := socket.WriteMore(far, []byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Write([]byte("b")); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadAtLeast(near, b, 2); n != 2 || err != nil || !bytes.HasPrefix(b, []byte("ab")) {
		t.Errorf("%q, %v", b[:n], err)
	}
	if err := far.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := near.Read(b); n != 0 || err != io.EOF {
		t.Errorf("the end is %d, %v", n, err)
	}
	if n, ok, err := socket.TryRead(raw, b); n != 0 || !ok || err != io.EOF {
		t.Errorf("the end is %d, %v, %v", n, ok, err)
	}
}

// A listener that is closed wakes who waits.
func TestListenerClosed(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("an Accept under way: %v", err)
		}
	})
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed again: %v", err)
	}
	waiting.Wait()
}

// Who has gone again is not accepted as anything else than gone.
func TestAcceptGone(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	c := dial(t, ln.Addr().String()).(*socket.Conn)
	c.SetLinger(0)
	c.Close()
	s := accept(t, ln)
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v; want a reset", err)
	}
}

// withDescriptors calls f while no number from n on can be had.
func withDescriptors(t *testing.T, n uint64, f func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = n
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	f()
}

// Without descriptors the error says so, and passes. Those of closed connections
// can be had.
func TestWithoutDescriptors(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	var d socket.Dialer
	try := func() (accepted, dialed error) {
		c, dialed := d.DialContext(t.Context(), "tcp", ln.Addr().String())
		s, accepted := ln.Accept()
		for _, c := range []net.Conn{c, s} {
			if c != nil {
				c.Close()
			}
		}
		return accepted, dialed
	}
	try()
	dial(t, ln.Addr().String())
	withDescriptors(t, 0, func() {
		if accepted, dialed := try(); !errors.Is(accepted, syscall.EMFILE) || !errors.Is(dialed, syscall.EMFILE) {
			t.Errorf("%v, %v", accepted, dialed)
		}
	})
	accept(t, ln)

	next, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0) // there is no lower one
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	withDescriptors(t, uint64(next)+20, func() {
		for range 40 {
			if accepted, dialed := try(); accepted != nil || dialed != nil {
				t.Fatalf("%v, %v", accepted, dialed)
			}
		}
	})
}

func TestDialRefused(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	ln.Close()
	var d socket.Dialer
	_, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "dial" || op.Addr.String() != ln.Addr().String() || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.DialContext(ctx, "tcp", ln.Addr().String()); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled before: %v", err)
	}
}

// crowded is a listener that the kernel takes no further connections for, until
// one is accepted.
func crowded(t *testing.T) net.Listener {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	ln, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	if ln, err = socket.Listen(ln); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	dial(t, ln.Addr().String()) // fills the queue
	return ln
}

// Dialing waits for a connection that does not stand at once, no longer than
// its context.
func TestDialWaits(t *testing.T) {
	ln := crowded(t)
	var d socket.Dialer
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := d.DialContext(ctx, "tcp", ln.Addr().String())
	if op, ok := errors.AsType[*net.OpError](err); !ok || !op.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	var dialing sync.WaitGroup
	began := make(chan struct{})
	dialing.Go(func() {
		close(began)
		c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		}
	})
	<-began
	accept(t, ln)
	c := accept(t, ln) // when SYN is sent again
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	dialing.Wait()
}

// aloneEnv is set where TestDialItself has a network of its own.
const aloneEnv = "POSTHORN_TEST_ALONE"

// A port that nobody listens on is refused, even when the kernel chooses the same
// one for our end, and TCP connects it to itself. In a network where there is no other,
// that always happens.
func TestDialItself(t *testing.T) {
	if os.Getenv(aloneEnv) == "" {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestDialItself$")
		cmd.Env = append(os.Environ(), aloneEnv+"=yes")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	loopbackUp(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40001 40001"), 0); err != nil {
		t.Fatal(err)
	}
	const itself = "127.0.0.1:40001"
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 40001}); err != nil {
		t.Fatalf("TCP does not do it here: %v", err)
	}
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd) // and forgets it
	var d socket.Dialer
	if c, err := d.DialContext(t.Context(), "tcp", itself); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v", c, err)
	}
}

func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}
