//go:build linux

package splice_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"posthorn/mux"
)

// vanish has the kernel drop whatever comes for a socket, before TCP sees it:
// nothing is acknowledged or answered any more.
func vanish(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if err := c.SetKeepAlive(false); err != nil { // nor said
		t.Fatal(err)
	}
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	dropAll := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	rc.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(dropAll)), Filter: &dropAll[0]})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A client that vanishes without a word is let go on both sides in time, whether
// it is parked, or something is sent to it before that is noticed.
func TestGhosts(t *testing.T) {
	const deadPeer = 6 * time.Second
	var tests sync.WaitGroup
	for _, silent := range []bool{true, false} {
		for _, w := range ways[:2] {
			o := w.options
			o.limits.DeadPeer = deadPeer
			e := newWayEdge(t, o)
			j := e.join()
			j.talk()
			vanish(t, j.tcp)
			began := time.Now()
			tests.Go(func() {
				if !silent {
					time.Sleep(deadPeer / 4) // the kernel counts from then, on its own clock; nothing happens before
					write(t, j.server, "* 1 EXISTS\r\n")
				}
				if _, err := io.ReadAll(j.server); err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s: %v", w.name, err)
				}
				if took := time.Since(began); took > deadPeer+time.Second {
					t.Errorf("%s: it took %v", w.name, took)
				}
				e.result(syscall.ETIMEDOUT)
				if n := len(e.Conns()); n != 0 {
					t.Errorf("%s: %d connections", w.name, n)
				}
			})
		}
	}
	tests.Wait()
}

// Limits hold for who connects after they were set, at once.
func TestDeadPeerChanges(t *testing.T) {
	e := newEdge(t, options{limits: mux.Limits{DeadPeer: time.Hour}})
	e.SetLimits(mux.Limits{DeadPeer: 3 * time.Second, ConnsPerSource: 100})
	j := e.join()
	j.talk()
	vanish(t, j.tcp)
	readEnd(t, j.server, "")
	e.result(syscall.ETIMEDOUT)
}
