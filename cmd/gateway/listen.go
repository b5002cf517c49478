package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"posthorn/admin"
	"posthorn/alpn"
)

// listenOn is a kind of listening socket.
type listenOn struct {
	name  string // in status and the log, and what systemd calls it (FileDescriptorName=)
	key   string // in the configuration
	port  alpn.Port
	addrs []string
}

func (c *Config) listens() []listenOn {
	l := &c.Listen
	return []listenOn{
		{"shared", "listen.shared", alpn.Shared, l.Shared},
		{"imaps", "listen.imaps", alpn.IMAPS, l.IMAPS},
		{"submissions", "listen.submissions", alpn.Submissions, l.Submissions},
		{"imap", "listen.imap_starttls", alpn.IMAPStartTLS, l.IMAPStartTLS},
		{"submission", "listen.submission_starttls", alpn.SubmissionStartTLS, l.SubmissionStartTLS},
	}
}

// listenHTTP is the socket in cleartext, which is none of mux's.
func (c *Config) listenHTTP() listenOn {
	return listenOn{name: httpName, key: "listen.http", addrs: c.Listen.HTTP}
}

// httpName, adminName and metricsName are the names of the sockets that clients
// of mail do not use.
const (
	httpName    = "http"
	adminName   = "admin"
	metricsName = "metrics"
)

// sockets are the open listening sockets of a gateway.
type sockets struct {
	mail    []socket
	http    []net.Listener
	admin   net.Listener
	metrics net.Listener // nil: none is configured
}

type socket struct {
	net.Listener
	name string
	port alpn.Port
}

// openSockets takes the sockets that systemd passes, and opens the others.
func openSockets(cfg *Config) (*sockets, error) {
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	s := new(sockets)
	if err := s.open(cfg, passed); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *sockets) open(cfg *Config, passed map[string][]net.Listener) error {
	for _, l := range cfg.listens() {
		lns, err := take(l, passed)
		for _, ln := range lns {
			s.mail = append(s.mail, socket{ln, l.name, l.port})
		}
		if err != nil {
			return err
		}
	}
	var err error
	if s.http, err = take(cfg.listenHTTP(), passed); err != nil {
		return err
	}
	if cfg.TLS.ACME.HTTP01 && len(s.http) == 0 {
		return withHint(errors.New("tls.acme.http01: there is no port for the CA to come to"), "listen.http names one, such as :80")
	}
	if err := s.openAdmin(cfg, passed[adminName]); err != nil {
		return err
	}
	delete(passed, adminName)
	for name := range passed {
		return withHint(fmt.Errorf("systemd passes a socket that is called %q", name),
			"FileDescriptorName= must be shared, imaps, submissions, imap, submission, http or admin")
	}
	if cfg.Listen.Metrics == "" {
		return nil
	}
	ln, err := listen("listen.metrics", cfg.Listen.Metrics)
	s.metrics = ln
	return err
}

// take returns the sockets that were passed under a name, or else opens those
// that are configured.
func take(l listenOn, passed map[string][]net.Listener) ([]net.Listener, error) {
	if lns := passed[l.name]; len(lns) > 0 {
		delete(passed, l.name)
		return lns, nil
	}
	return listenAll(l)
}

func (s *sockets) openAdmin(cfg *Config, passed []net.Listener) (err error) {
	if len(passed) > 0 {
		s.admin = passed[0]
		return nil
	}
	s.admin, err = admin.Listen(cfg.socket())
	switch {
	case errors.Is(err, admin.ErrRunning):
		err = withHint(err, "stop it, or choose another path with admin.socket or --socket")
	case errors.Is(err, admin.ErrSocketPath):
		err = withHint(err, "choose a shorter one with admin.socket or --socket")
	}
	return err
}

func (s *sockets) close() {
	for _, l := range s.mail {
		l.Close()
	}
	for _, ln := range append(slices.Clone(s.http), s.admin, s.metrics) {
		if ln != nil {
			ln.Close()
		}
	}
}

// listeners lists the sockets for people.
func (s *sockets) listeners() []admin.Listener {
	var all []admin.Listener
	for _, l := range s.mail {
		all = append(all, admin.Listener{Name: l.name, Address: l.Addr().String()})
	}
	for _, ln := range s.http {
		all = append(all, admin.Listener{Name: httpName, Address: ln.Addr().String()})
	}
	if s.metrics != nil {
		all = append(all, admin.Listener{Name: metricsName, Address: s.metrics.Addr().String()})
	}
	return append(all, admin.Listener{Name: adminName, Address: s.admin.Addr().String()})
}

func listenAll(l listenOn) (lns []net.Listener, err error) {
	for _, addr := range l.addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return lns, err
		}
		if host != "localhost" {
			ln, err := listen(l.key, addr)
			if err != nil {
				return lns, err
			}
			lns = append(lns, ln)
			continue
		}
		local, err := listenLocalhost(l.key, port)
		lns = append(lns, local...)
		if err != nil {
			return lns, err
		}
	}
	return lns, nil
}

// listenLocalhost listens on the loopback addresses: on ::1 too if the machine
// has it, on the same port. Clients try one of them first, so none is left to
// another program.
func listenLocalhost(key, port string) ([]net.Listener, error) {
	ln4, err := listen(key, net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, err
	}
	_, same, _ := net.SplitHostPort(ln4.Addr().String())
	ln6, err := listen(key, net.JoinHostPort("::1", same))
	switch {
	case err == nil:
		return []net.Listener{ln4, ln6}, nil
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
		return []net.Listener{ln4}, nil // there is no IPv6
	}
	ln4.Close()
	if port == "0" && errors.Is(err, errInUse) { // free in IPv4 only
		return listenLocalhost(key, port)
	}
	return nil, err
}

// listenTCP listens without Multipath TCP, whose sockets know no
// TCP_USER_TIMEOUT, and do not hand down that of a listener: clients that have
// vanished would stay.
func listenTCP(addr string) (net.Listener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	return c.Listen(context.Background(), "tcp", addr)
}

var errInUse = errors.New("is in use already")

func listen(key, addr string) (net.Listener, error) {
	ln, err := listenTCP(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = withHint(fmt.Errorf("%s: %s %w", key, addr, errInUse), "stop the program that has it, or change %s; or another key names it too", key)
	case errors.Is(err, os.ErrPermission):
		err = withHint(fmt.Errorf("%s: %s may not be opened", key, addr),
			"ports below 1024 want CAP_NET_BIND_SERVICE: let systemd pass the socket, or use a port from 1024 on")
	case err != nil:
		err = fmt.Errorf("%s: %w", key, err)
	}
	return ln, err
}
