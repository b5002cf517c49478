package splice_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"posthorn/await"
	"posthorn/mux"
	"posthorn/splice"
)

// carriers counts the goroutines that work for links.
func carriers() int {
	b := make([]byte, 1<<20)
	return strings.Count(string(b[:runtime.Stack(b, true)]), "splice.(*carrier)")
}

// ways are the ways to join a client with a server.
var ways = []struct {
	name    string
	options options
}{
	{"tcp", options{}},
	{"tls server", options{dial: dialTLS, tls: true}},
	{"nothing parks", options{cover: true}},
}

// covered is a listener whose connections cannot be seen to be sockets.
type covered struct{ net.Listener }

func (l covered) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ *net.TCPConn }{nc.(*net.TCPConn)}, nil
}

func dialTLS(addr string) (net.Conn, error) {
	return tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
}

func eachWay(t *testing.T, test func(t *testing.T, e *edge)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) { test(t, newWayEdge(t, w.options)) })
	}
}

func newWayEdge(t *testing.T, o options) *edge {
	t.Helper()
	o.link = func(l *splice.Link) { l.Goodbye = goodbye }
	return newEdge(t, o)
}

// goodbye fits after a line.
func goodbye(cause error, last []byte) []byte {
	if !bytes.HasSuffix(last, []byte("\r\n")) {
		return nil
	}
	return []byte("* BYE " + cause.Error() + " after " + string(last))
}

func closeWrite(t testing.TB, nc net.Conn) {
	t.Helper()
	if err := nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// The client says close_notify and hears what the server still has to say.
func TestClientHalfClose(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		j := e.join()
		j.talk()
		write(t, j.client, "DONE\r\n")
		closeWrite(t, j.client)
		readEnd(t, j.server, "DONE\r\n")
		write(t, j.server, "a OK\r\n")
		write(t, j.server, "* BYE\r\n")
		j.server.Close()
		readEnd(t, j.r, "a OK\r\n* BYE\r\n")
		e.result(io.EOF)
	})
}

// The server has said all and hears what the client still has to say.
func TestServerHalfClose(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		j := e.join()
		j.talk()
		write(t, j.server, "* BYE\r\n")
		closeWrite(t, j.server)
		readEnd(t, j.r, "* BYE\r\n")
		for range 3 {
			write(t, j.client, "late\r\n")
			read(t, j.server, "late\r\n")
		}
		j.client.Close()
		readEnd(t, j.server, "")
		e.result(nil)
	})
}

func TestServerHangsUp(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		j := e.join()
		j.talk()
		j.server.Close()
		readEnd(t, j.r, "")
		j.client.Close()
		e.result(nil)
	})
}

func TestServerResets(t *testing.T) {
	e := newEdge(t, options{})
	j := e.join()
	j.talk()
	j.server.(patient).SetLinger(0)
	j.server.Close()
	readEnd(t, j.r, "")
	e.result(splice.ErrServer)
}

func TestClientResets(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		j := e.join()
		j.talk()
		j.tcp.SetLinger(0)
		j.tcp.Close()
		readEnd(t, j.server, "")
		if err := <-e.results; err == nil || errors.Is(err, splice.ErrServer) {
			t.Errorf("got %v", err)
		}
	})
}

// A client that ends without close_notify has ended.
func TestClientVanishesWithoutNotify(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		j := e.join()
		j.talk()
		j.tcp.Close()
		readEnd(t, j.server, "")
		j.server.Close()
		e.result(io.EOF)
	})
}

func TestHead(t *testing.T) {
	e := newEdge(t, options{link: func(l *splice.Link) { l.Head = []byte("* early\r\n") }})
	j := e.join()
	read(t, j.r, "* early\r\n")
	j.talk()
}

// noise is endless, and the same for the same seed.
func noise(seed uint64) io.Reader {
	var key [32]byte
	key[0] = byte(seed)
	return rand.NewChaCha8(key)
}

// pour writes n bytes of noise in pieces of all sizes, with pauses.
func pour(w io.Writer, seed uint64, n int) error {
	r, dice := noise(seed), rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 200<<10)
	for n > 0 {
		size := min(n, 1+dice.IntN(1<<dice.IntN(18)))
		io.ReadFull(r, b[:size])
		if _, err := w.Write(b[:size]); err != nil {
			return err
		}
		if n -= size; dice.IntN(50) == 0 {
			// The pause itself is what is wanted: a way that finds nothing to read
			// waits, and parks now and then. The other way may carry meanwhile, so
			// neither can be waited for.
			time.Sleep(time.Duration(dice.IntN(300)) * time.Microsecond)
		}
	}
	return nil
}

// drink reads n bytes that must be those of want.
func drink(r, want io.Reader, n int) error {
	a, b := make([]byte, 32<<10), make([]byte, 32<<10)
	for n > 0 {
		m, err := r.Read(a[:min(n, len(a))])
		io.ReadFull(want, b[:m])
		if !bytes.Equal(a[:m], b[:m]) {
			return errors.New("other bytes than were sent")
		}
		if n -= m; err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// Everything arrives once and in order, both ways at once, however it is cut
// and wherever it pauses.
func TestAllArrives(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		eachWay(t, func(t *testing.T, e *edge) {
			j := e.join(func(c *tls.Config) { c.MaxVersion = version })
			const size = 50 << 20
			errs := make(chan error)
			go func() { errs <- pour(j.client, 1, size) }()
			go func() { errs <- pour(j.server, 2, size) }()
			go func() { errs <- drink(j.client, noise(2), size) }()
			go func() { errs <- drink(j.server, noise(1), size) }()
			for range 4 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			if info := e.Conns(); len(info) != 1 || info[0].In < size || info[0].Out < size {
				t.Errorf("bytes counted: %v", info)
			}
		})
	}
}

// A quiet link has no goroutine; it goes on as if it had.
func TestParks(t *testing.T) {
	e := newEdge(t, options{})
	j := e.join()
	for range 3 {
		e.park()
		j.talk()
	}
}

// slow is a client's connection that stops in the middle of TLS records.
type slow struct {
	net.Conn
	cut func()
}

func (s *slow) Write(b []byte) (int, error) {
	if s.cut == nil {
		return s.Conn.Write(b)
	}
	for i, part := range [][]byte{b[:1], b[1:3], b[3 : len(b)/2], b[len(b)/2:]} {
		if i > 0 {
			s.cut()
		}
		if _, err := s.Conn.Write(part); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// A record may come in parts, with any time between them.
func TestRecordInParts(t *testing.T) {
	e := newEdge(t, options{})
	raw, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &slow{Conn: raw}
	client := tls.Client(s, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"imap"}})
	defer client.Close()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	server, err := e.servers.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	s.cut = func() {
		e.park()
		write(t, server, "* 1 EXISTS\r\n") // the other way is not held up
		read(t, client, "* 1 EXISTS\r\n")
		e.park()
	}
	for _, line := range []string{"a NOOP\r\n", strings.Repeat("b", 15000) + "\r\n", "c NOOP\r\n"} {
		write(t, client, line)
		read(t, server, line)
	}
	s.cut = nil
}

func TestContextEndsWhileParked(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		j := e.join()
		j.talk()
		if n := e.Close(nil, mux.ErrRevoked); n != 1 {
			t.Fatalf("%d connections", n)
		}
		readEnd(t, j.r, "* BYE access revoked after idling\r\n")
		readEnd(t, j.server, "")
		e.result(mux.ErrRevoked)
	})
}

// A response that is under way ends first when the gateway stops.
func TestDrainWaitsForResponse(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		j := e.join()
		j.talk()
		const size = 8 << 20 // more than sockets hold
		poured := make(chan error, 1)
		go func() {
			err := pour(j.server, 3, size)
			write(t, j.server, "\r\n")
			poured <- err
		}()
		want := noise(3)
		if err := drink(j.r, want, size/2); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- e.shutdown(patience) }()
		if err := drink(j.r, want, size-size/2); err != nil {
			t.Error(err)
		}
		if b, err := io.ReadAll(j.r); err != nil || !bytes.HasPrefix(b, []byte("\r\n* BYE shutting down after ")) {
			t.Errorf("got %q, %v", b, err)
		}
		if err := errors.Join(<-ended, <-poured); err != nil {
			t.Error(err)
		}
	})
}

// Where a goodbye does not fit (it may be compressed) there is none, and no
// wait for it.
func TestNoGoodbye(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		j := e.join()
		j.talk()
		write(t, j.server, "\x00\xff")
		read(t, j.r, "\x00\xff")
		if err := e.shutdown(patience); err != nil {
			t.Error(err)
		}
		readEnd(t, j.r, "")
		e.result(mux.ErrDraining)
	})
}

// Nobody waits longer than Shutdown does for a client that takes nothing, or a
// server that does.
func TestDrainEnds(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		clientStuck, serverStuck := e.join(), e.join()
		clientStuck.talk()
		serverStuck.talk()
		for _, w := range []net.Conn{clientStuck.server, serverStuck.client} {
			go pour(w, 4, 64<<20) // nobody reads it
		}
		e.stuck(clientStuck.server, serverStuck.tcp)
		if err := e.shutdown(50 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// Revoking does not wait either.
func TestRevokedWhileBlocked(t *testing.T) {
	eachWay(t, func(t *testing.T, e *edge) {
		clientStuck, serverStuck := e.join(), e.join()
		clientStuck.talk()
		serverStuck.talk()
		for _, w := range []net.Conn{clientStuck.server, serverStuck.client} {
			go pour(w, 4, 64<<20)
		}
		e.stuck(clientStuck.server, serverStuck.tcp)
		if n := e.Close(nil, mux.ErrRevoked); n != 2 {
			t.Fatalf("%d connections", n)
		}
		e.result(mux.ErrRevoked)
		e.result(mux.ErrRevoked)
	})
}

// stuck waits until what is written to these is not taken any more.
func (e *edge) stuck(writers ...net.Conn) {
	e.t.Helper()
	for _, w := range writers {
		was, calm := int64(-1), 0
		await.Until(e.t, "nobody takes it", func() bool {
			n := unsent(e.t, w)
			if calm++; n == 0 || n != was {
				was, calm = n, 0
			}
			return calm == 10
		})
	}
}

// unsent is how much of what was written to a connection is not taken.
func unsent(t testing.TB, nc net.Conn) int64 {
	t.Helper()
	if tc, ok := nc.(*tls.Conn); ok {
		nc = tc.NetConn()
	}
	rc, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	rc.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err != nil {
		t.Fatal(err)
	}
	return int64(n)
}

// Thousands wait at once, and all of them are woken.
func TestMany(t *testing.T) {
	e := newEdge(t, options{})
	const n = 2000
	links := make([]*joined, n)
	for i := range links {
		links[i] = e.join()
	}
	e.park()
	if live := runtime.NumGoroutine(); live > n/10 {
		t.Errorf("%d goroutines", live)
	}
	var talks sync.WaitGroup
	for _, j := range links {
		talks.Go(func() { write(t, j.client, "a IDLE\r\n") })
	}
	talks.Wait()
	for _, j := range links {
		read(t, j.server, "a IDLE\r\n")
		write(t, j.server, "+ idling\r\n")
	}
	for _, j := range links {
		read(t, j.r, "+ idling\r\n")
	}
	e.park()
	if err := e.shutdown(patience); err != nil {
		t.Error(err)
	}
	for range links {
		e.result(mux.ErrDraining)
	}
}

// openssl's client can change its keys, and asks the gateway to.
func TestKeyUpdateWhileParked(t *testing.T) {
	e := newEdge(t, options{})
	cmd := exec.Command("openssl", "s_client", "-connect", e.addr, "-alpn", "imap", "-tls1_3", "-brief")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	server, err := e.servers.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	r := bufio.NewReader(out)
	before := uint64(0)
	for _, update := range []string{"k\n", "K\n", "K\n"} {
		e.park()
		before = e.Conns()[0].In
		write(t, in, update)
		await.Until(t, "openssl sends a KeyUpdate", func() bool { return e.Conns()[0].In != before })
		e.park()
		write(t, in, "a NOOP\n")
		read(t, server, "a NOOP\n")
		write(t, server, "a OK\r\n")
		for line := ""; line != "a OK\r\n"; {
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	in.Close()
	readEnd(t, server, "")
	server.Close()
	cmd.Wait()
	e.result(io.EOF)
}
