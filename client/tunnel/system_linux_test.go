package tunnel_test

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"posthorn/client/clienttest"
)

// TestStranger: whatever the modes are, another user is not let in over a Unix
// socket.
func TestStranger(t *testing.T) {
	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: only root can become somebody else")
	}
	g := startGateway(t)
	r := startTunnel(t, g, clienttest.New(t, g.ports, clienttest.Rules{}))
	connect := func(uid int) (answer string) {
		over := make(chan struct{})
		go func() {
			defer close(over)
			runtime.LockOSThread() // for good: the thread, which is somebody else now, ends with this
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
			if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: r.unix}); err != nil {
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
	const nobody = 65534
	if got := connect(nobody); got != syscall.EACCES.Error() {
		t.Errorf("the socket lets others connect: %q", got)
	}
	for dir := r.unix; strings.Contains(dir[1:], "/"); dir = dir[:strings.LastIndex(dir, "/")] {
		if dir != "/tmp" {
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := connect(nobody); got != "" {
		t.Errorf("another user hears %q", got)
	}
	if got := connect(0); !strings.HasPrefix(got, "* PREAUTH") {
		t.Errorf("root hears %q", got)
	}
	settle(t, "it is logged", func() bool { return strings.Contains(r.log.String(), "another user of this machine: 65534") })
}
