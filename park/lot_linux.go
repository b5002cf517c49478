package park

import (
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Lot is an epoll instance. It hangs on the runtime's own poller, so that one
// goroutine and no thread waits for all that is parked. Its methods may be
// called concurrently.
type Lot struct {
	epoll *os.File
	wait  syscall.RawConn // of epoll
	gone  chan struct{}   // closed when loop has ended

	mu    sync.Mutex // guards what follows, and the use of fd
	fd    int        // epoll's; negative when closed
	turn  uint32
	stays []stay // by descriptor
}

// stay is a socket in the lot; without a waker there is none.
type stay struct {
	waker Waker
	turn  uint32
}

// New returns an empty Lot.
func New() (*Lot, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for the runtime's poller
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &Lot{epoll: os.NewFile(uintptr(fd), "epoll"), gone: make(chan struct{}), fd: fd}
	if l.wait, err = l.epoll.SyscallConn(); err != nil {
		l.epoll.Close()
		return nil, err
	}
	go l.loop()
	return l, nil
}

// Close wakes all that are parked, and lets nobody in any more.
func (l *Lot) Close() {
	l.mu.Lock()
	stays := l.stays
	l.stays, l.fd = nil, -1
	l.mu.Unlock()
	for _, s := range stays {
		if s.waker != nil {
			go s.waker.Wake()
		}
	}
	l.epoll.Close()
	<-l.gone
}

// Park has w woken when there is something to read from a socket, or its end,
// or an error. Closing the socket wakes nobody: who closes it calls Leave.
func (l *Lot) Park(s *Socket, w Waker) (t Ticket, err error) {
	cerr := s.raw.Control(func(fd uintptr) { t, err = l.park(int(fd), &s.known, w) })
	if cerr != nil {
		return Ticket{}, cerr
	}
	return t, err
}

// park does that; fd stays open meanwhile. known says whether the kernel knows
// it here.
func (l *Lot) park(fd int, known *bool, w Waker) (Ticket, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return Ticket{}, ErrClosed
	}
	l.turn++
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT,
		Fd:     int32(fd), Pad: int32(l.turn),
	}
	op := unix.EPOLL_CTL_ADD
	if *known {
		op = unix.EPOLL_CTL_MOD
	}
	if err := unix.EpollCtl(l.fd, op, fd, &ev); err != nil {
		return Ticket{}, os.NewSyscallError("epoll_ctl", err)
	}
	*known = true
	if fd >= len(l.stays) {
		l.stays = append(l.stays, make([]stay, fd+1-len(l.stays))...)
	}
	if old := l.stays[fd].waker; old != nil {
		// Its socket was closed, as the number is another one's now. Its
		// ticket is no good any more, so that it must be told.
		go old.Wake()
	}
	l.stays[fd] = stay{w, l.turn}
	return Ticket{int32(fd), l.turn}, nil
}

// Leave takes back a Park. It returns false when that is too late: Wake has
// been called, or will be.
func (l *Lot) Leave(t Ticket) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take(t) != nil
}

// take ends a stay. It returns nil when that has ended already. An event may
// still come of a socket that left, or of one that was closed and whose number
// is another's now: it has the wrong turn. The caller holds mu.
func (l *Lot) take(t Ticket) Waker {
	if int(t.fd) >= len(l.stays) || l.stays[t.fd].turn != t.turn {
		return nil
	}
	w := l.stays[t.fd].waker
	l.stays[t.fd] = stay{}
	return w
}

// loop wakes until the Lot is closed.
func (l *Lot) loop() {
	defer close(l.gone)
	events := make([]unix.EpollEvent, 256)
	_ = l.wait.Read(func(fd uintptr) bool {
		for {
			n := ready(fd, events)
			l.wake(events[:n])
			if n < len(events) {
				return false // whatever comes now makes epoll readable anew
			}
		}
	})
}

// ready returns how many events there are, without waiting, so that the
// scheduler need not know (see package socket).
func ready(epoll uintptr, events []unix.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, epoll,
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 { // EBADF; EINTR does not happen without waiting
		return 0
	}
	return int(n)
}

func (l *Lot) wake(events []unix.EpollEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range events {
		if w := l.take(Ticket{ev.Fd, uint32(ev.Pad)}); w != nil {
			go w.Wake()
		}
	}
}
