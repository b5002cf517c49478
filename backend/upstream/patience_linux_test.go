package upstream_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"

	"posthorn/backend/upstream"
	"posthorn/socket"
)

// TestSocket wants a server that has vanished to be noticed in time: a quiet
// connection's keepalives end by the time that TCP_USER_TIMEOUT has, and both
// in a row are as long as DeadPeer.
func TestSocket(t *testing.T) {
	s := serve(t, says(greeting))
	p := newPool(t, upstream.Config{Addresses: []string{s.address}, DeadPeer: 2 * time.Minute})
	rc, err := dial(t, p, upstream.Header{}).Bare().(socket.Bare).SyscallConn()
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

// TestPackets counts what a handshake takes: the PROXY header and ClientHello
// leave together, and then Finished.
func TestPackets(t *testing.T) {
	cert, pin := newAuthority(t).issue(time.Now().Add(time.Hour), "localhost")
	handshake := secured(cert, says(greeting))
	s := serve(t, func(c net.Conn) {
		size := len(proxyproto.SIGV2) + 4 // LOCAL
		if _, err := io.ReadFull(c, make([]byte, size)); err == nil {
			handshake(c)
		}
	})
	p := newPool(t, upstream.Config{
		Addresses: []string{s.address}, ProxyProtocol: true,
		Security: upstream.ImplicitTLS, TLS: trusting(t, "", []string{pin}, ""),
	})
	rc, err := dial(t, p, upstream.Header{}).Bare().(*tls.Conn).NetConn().(socket.Bare).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = rc.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || info.Data_segs_out != 2 {
			t.Errorf("%d packets, %v", info.Data_segs_out, err)
		}
	})
}
