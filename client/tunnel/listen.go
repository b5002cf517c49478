package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"posthorn/alpn"
)

// Listener is where local programs come to for a protocol.
type Listener struct {
	net.Listener
	Protocol alpn.Protocol
	// trusted says that the kernel tells who comes, which admit looks at; owner is
	// the user who may.
	trusted bool
	owner   int
}

var (
	// ErrNotLoopback says that a tunnel does not listen on an address that other
	// machines can reach.
	ErrNotLoopback = errors.New("not a loopback address, nor the path of a socket")
	// ErrStranger says that a connection is another user's.
	ErrStranger = errors.New("another user of this machine")
	// ErrInUse says that somebody listens there.
	ErrInUse = errors.New("somebody listens there already")
)

// Listen opens the sockets of an address: "127.0.0.1:1143", "[::1]:1143",
// "localhost:1143" for both of them, or a path, which has a slash in it, for a Unix
// socket that only this user and root can open. Port 0 is a free one.
func Listen(p alpn.Protocol, address string) ([]*Listener, error) {
	if strings.Contains(address, "/") {
		ln, err := listenUnix(address)
		if err != nil {
			return nil, err
		}
		return []*Listener{{Listener: ln, Protocol: p, trusted: true, owner: os.Geteuid()}}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", address, ErrNotLoopback)
	}
	if strings.EqualFold(host, "localhost") {
		return listenLocalhost(p, port)
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() || ip.Zone() != "" {
		return nil, fmt.Errorf("%q: %w", address, ErrNotLoopback)
	}
	ln, err := listenTCP(address)
	if err != nil {
		return nil, err
	}
	return []*Listener{{Listener: ln, Protocol: p}}, nil
}

// listenLocalhost listens on both loopback addresses. Were one left free, another
// user could listen there and be told the password by a program that tries it
// first.
func listenLocalhost(p alpn.Protocol, port string) ([]*Listener, error) {
	four, err := listenTCP("127.0.0.1:" + port)
	if err != nil {
		return nil, err
	}
	all := []*Listener{{Listener: four, Protocol: p}}
	bound := strconv.Itoa(four.Addr().(*net.TCPAddr).Port)
	six, err := listenTCP("[::1]:" + bound)
	switch {
	case err == nil:
		return append(all, &Listener{Listener: six, Protocol: p}), nil
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
		return all, nil // there is no IPv6
	}
	four.Close()
	return nil, err
}

func listenTCP(address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: %w", address, ErrInUse)
	}
	return ln, err
}

// listenUnix listens on a path. The socket is made in a directory that nobody else
// can enter, and appears at its path with its mode; what is left of a tunnel that
// has gone is replaced.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := vacate(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".tunnel-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	hidden := filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	l := &unixListener{UnixListener: ln, path: path}
	if err = os.Chmod(hidden, 0o600); err == nil {
		l.made, err = os.Lstat(hidden)
	}
	if err == nil {
		err = os.Rename(hidden, path)
	}
	if err != nil {
		ln.Close()
		return nil, err
	}
	return l, nil
}

// vacate makes sure that nobody listens on a path, and that what is there may be
// replaced.
func vacate(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s: %w, and is no socket", path, fs.ErrExist)
	}
	nc, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		nc.Close()
		return fmt.Errorf("%s: %w", path, ErrInUse)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist): // he has gone
		return nil
	case errors.Is(err, syscall.EAGAIN): // too many wait for him
		return fmt.Errorf("%s: %w", path, ErrInUse)
	}
	return err
}

// unixListener removes its path when it is closed, unless that is somebody else's
// by then. Of those who close it, all wait for that.
type unixListener struct {
	*net.UnixListener
	path string
	made fs.FileInfo // the socket

	once sync.Once
	err  error // of once
}

func (l *unixListener) Close() error {
	l.once.Do(func() {
		if there, err := os.Lstat(l.path); err == nil && os.SameFile(there, l.made) {
			l.err = os.Remove(l.path)
		}
		l.err = errors.Join(l.err, l.UnixListener.Close())
	})
	return l.err
}

// Addr is the path, not where the socket was made.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// admit returns ErrStranger for a connection of somebody who may not come here.
func (l *Listener) admit(nc net.Conn) error {
	if !l.trusted {
		return nil
	}
	uid, err := peerUser(nc.(*net.UnixConn))
	if err != nil {
		return err
	}
	if uid != 0 && uid != l.owner {
		return fmt.Errorf("%w: %d", ErrStranger, uid)
	}
	return nil
}
