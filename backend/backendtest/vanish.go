package backendtest

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Vanish cuts the network to a TCP socket on this machine, as a phone's is that
// loses its signal: the kernel drops whatever comes for it, and so acknowledges
// nothing. It is not known to the peer, unless the socket still writes or is
// closed.
func Vanish(t testing.TB, c syscall.Conn) {
	t.Helper()
	drop, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		t.Fatal(err)
	}
	program := make([]unix.SockFilter, len(drop))
	for i, in := range drop {
		program[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	}); err != nil || set != nil {
		t.Fatal(err, set)
	}
}

// Relay passes connections on to a server, over a network that can be cut.
type Relay struct {
	Address string // host:port

	t        testing.TB
	target   string
	listener *net.TCPListener
	serving  sync.WaitGroup

	mu   sync.Mutex
	cut  bool                      // guarded by mu
	open map[*net.TCPConn]struct{} // both sides; guarded by mu
	ends []*net.TCPConn            // of clients; guarded by mu
}

// StartRelay runs a relay to a server on host:port, for as long as the test.
func StartRelay(t testing.TB, target string) *Relay {
	t.Helper()
	l := listen(t)
	r := &Relay{
		Address: l.Addr().String(), t: t, target: target,
		listener: l, open: make(map[*net.TCPConn]struct{}),
	}
	r.serving.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

// Cut makes the server vanish for good, to those that are connected and to
// those that try to connect.
func (r *Relay) Cut() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	Vanish(r.t, r.listener)
	for _, c := range r.ends {
		Vanish(r.t, c)
	}
}

func (r *Relay) close() {
	r.listener.Close()
	r.mu.Lock()
	for c := range r.open {
		c.Close()
	}
	r.mu.Unlock()
	r.serving.Wait()
}

func (r *Relay) accept() {
	for {
		client, err := r.listener.AcceptTCP()
		if err != nil {
			return
		}
		c, err := net.Dial("tcp", r.target)
		if err != nil {
			client.Close()
			continue
		}
		server := c.(*net.TCPConn)
		r.mu.Lock()
		r.open[client], r.open[server] = struct{}{}, struct{}{}
		r.ends = append(r.ends, client)
		r.mu.Unlock()
		r.serving.Go(func() { r.carry(server, client) })
		r.serving.Go(func() { r.carry(client, server) })
	}
}

// carry copies one way, as long as the network is there. What ends behind a cut
// is not told.
func (r *Relay) carry(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.cut {
		_ = to.CloseWrite()
	}
}
