package tunnel_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/client/clienttest"
	"posthorn/client/gatewaytest"
	"posthorn/client/tunnel"
)

// nobody is a user that is not the tests', whoever they are run by.
const nobody = 65534

// TestStranger: whatever the modes are, another user is not let in over a Unix
// socket. Root becomes that user; anybody else comes to sockets that were given
// to him, which is the same to the tunnel.
func TestStranger(t *testing.T) {
	g := gatewaytest.Start(t)
	r := newTunnel(t, g, clienttest.New(t, g.Ports, clienttest.Rules{}))
	stranger := nobody
	if os.Geteuid() != 0 {
		stranger = os.Geteuid()
		for _, l := range r.listeners {
			l.GiveTo(nobody)
		}
	}
	r.start()
	if os.Geteuid() == 0 {
		if got := connect(t, r.unix, nobody); got != syscall.EACCES.Error() {
			t.Errorf("the socket lets others connect: %q", got)
		}
		for dir := r.unix; strings.Contains(dir[1:], "/"); dir = filepath.Dir(dir) {
			if dir != "/tmp" {
				if err := os.Chmod(dir, 0o777); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := connect(t, r.unix, 0); !strings.HasPrefix(got, "* PREAUTH") {
			t.Errorf("root hears %q", got)
		}
	}
	if got := connect(t, r.unix, stranger); got != "" {
		t.Errorf("another user hears %q", got)
	}
	said := fmt.Sprintf("another user of this machine: %d", stranger)
	await.Until(t, "it is logged", func() bool { return strings.Contains(r.log.String(), said) })
}

// connect returns what a user hears first at a socket, or why he cannot connect.
func connect(t *testing.T, path string, uid int) (answer string) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		runtime.LockOSThread() // for good: the thread, which may be somebody else now, ends with this
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer syscall.Close(fd)
		if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); e != 0 {
			t.Error(e)
			return
		}
		if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
			answer = err.Error()
			return
		}
		buf := make([]byte, 100)
		n, _ := syscall.Read(fd, buf)
		answer = string(buf[:max(n, 0)])
	}()
	<-over
	return answer
}

// TestDeadPeers: connections to the gateway end when nobody acknowledges any more,
// and soon after the network has changed.
func TestDeadPeers(t *testing.T) {
	g := gatewaytest.Start(t)
	n := clienttest.New(t, g.Ports, clienttest.Rules{})
	var last atomic.Pointer[net.TCPConn]
	var network atomic.Value
	network.Store("home")
	r := startTunnel(t, g, n, func(c *tunnel.Config) {
		c.Client.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := n.DialContext(ctx, network, address)
			if tc, ok := nc.(*net.TCPConn); ok {
				last.Store(tc)
			}
			return nc, err
		}
		c.Network, c.Watch = func() string { return network.Load().(string) }, 10*time.Millisecond
	})
	await.Until(t, "the first look is over", func() bool { return r.state(alpn.SMTP) != nil && r.state(alpn.IMAP) != nil })
	in := dial(t, r.unix)
	in.expect("* PREAUTH")
	mine := last.Load()
	option := func(level, name int) (value int) {
		rc := must(mine.SyscallConn())
		if err := rc.Control(func(fd uintptr) { value = must(unix.GetsockoptInt(int(fd), level, name)) }); err != nil {
			t.Fatal(err)
		}
		return value
	}
	if keep, idle, user := option(unix.SOL_SOCKET, unix.SO_KEEPALIVE), option(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE),
		option(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); keep != 1 || idle != 60 || user != 90_000 {
		t.Errorf("keepalive %d after %d s, user timeout %d ms", keep, idle, user)
	}
	network.Store("hotel")
	await.Until(t, "the tunnel is in doubt", func() bool {
		return option(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) == 3 && option(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) == 10_000
	})
	in.say("a NOOP\r\n") // which does no harm to what lives
	in.until("a OK")
}
