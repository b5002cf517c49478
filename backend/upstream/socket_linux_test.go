package upstream_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"posthorn/backend/upstream"
)

// TestSocket wants a server that has vanished to be noticed in time: a quiet
// connection's keepalives end by the time that TCP_USER_TIMEOUT has, and both
// in a row are as long as DeadPeer.
func TestSocket(t *testing.T) {
	s := serve(t, says(greeting))
	p := newPool(t, upstream.Config{Addresses: []string{s.address}, DeadPeer: 2 * time.Minute})
	rc, err := dial(t, p, upstream.Header{}).Bare().(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct {
		name                string
		level, option, want int
	}{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 10},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 60_000},
	} {
		_ = rc.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.option); err != nil || got != o.want {
				t.Errorf("%s: %d, %v, want %d", o.name, got, err, o.want)
			}
		})
	}
}

// TestNoDescriptors runs out of descriptors: no server is to blame for that.
func TestNoDescriptors(t *testing.T) {
	s := serve(t, says(greeting))
	p := newPool(t, upstream.Config{Addresses: []string{s.address}})
	dial(t, p, upstream.Header{}) // what is opened once is open
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, err := p.Dial(context.Background(), upstream.Header{})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, upstream.ErrUnavailable) || !errors.Is(err, unix.EMFILE) {
		t.Errorf("error %v", err)
	}
	if s := p.Status()[0]; !s.Up || s.Conns != 1 {
		t.Errorf("Status: %+v", s)
	}
}
