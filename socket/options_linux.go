package socket

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// apply sets it on a descriptor.
func (p Patience) apply(fd int) error {
	for _, o := range [...]struct {
		of                 time.Duration
		level, name, value int
	}{
		{p.Idle, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{p.Idle, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, max(1, int(p.Idle/time.Second))},
		{p.Interval, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, max(1, int(p.Interval/time.Second))},
		{p.Idle, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, questions},
		{p.Unanswered, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, max(1, int(p.Unanswered/time.Millisecond))},
	} {
		if o.of == 0 {
			continue
		}
		if err := setOption(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// SetPatience sets how long an accepted connection lives whose peer does not
// answer. Those of a listener have what it had when they came.
func SetPatience(nc net.Conn, p Patience) error {
	if c, ok := nc.(*Conn); ok {
		return c.set(p)
	}
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = p.apply(int(fd)) })
	if err == nil && failed != nil {
		err = os.NewSyscallError("setsockopt", failed)
	}
	return err
}

// Unsent is how many octets the peer has not acknowledged yet; negative when
// that cannot be known.
func Unsent(nc net.Conn) int64 {
	n := -1
	tc, ok := Of(nc)
	if !ok {
		return -1
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return -1
	}
	_ = raw.Control(func(fd uintptr) {
		if v, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n = v
		}
	})
	return int64(n)
}
