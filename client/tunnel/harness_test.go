package tunnel_test

import (
	"bufio"
	"context"
	"flag"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/alpn"
	"posthorn/client/clienttest"
	"posthorn/client/gatewaytest"
	"posthorn/client/tunnel"
	"posthorn/mux/muxtest"
)

func TestMain(m *testing.M) {
	// Tests that are parallel wait more than they compute.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	alice    = gatewaytest.Alice
	password = gatewaytest.Password // which programs here do not know
	host     = gatewaytest.Host
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// running is a tunnel that runs.
type running struct {
	*tunnel.Tunnel
	t          testing.TB
	imap, smtp string // addresses
	unix       string // of IMAP
	unixSMTP   string
	password   string
	listeners  []*tunnel.Listener
	end        func() // ends it, and waits
	mu         sync.Mutex
	states     []tunnel.State
	log        *muxtest.Log
	hash       *tunnel.Password
}

type option func(*tunnel.Config)

// startTunnel runs a tunnel in a network before g.
func startTunnel(t testing.TB, g *gatewaytest.Gateway, n *clienttest.Network, edit ...option) *running {
	t.Helper()
	r := newTunnel(t, g, n, edit...)
	r.start()
	return r
}

// newTunnel makes one, with its sockets, that does not run yet.
func newTunnel(t testing.TB, g *gatewaytest.Gateway, n *clienttest.Network, edit ...option) *running {
	t.Helper()
	r := &running{t: t, log: new(muxtest.Log)}
	r.password, r.hash = tunnel.NewPassword()
	c := tunnel.Config{
		Client: g.Client(n), Password: r.hash, Changed: r.changed, Log: zerolog.New(r.log), Grace: 2 * time.Second,
		Network: func() string { return "test" },
	}
	c.Client.Timeout = 5 * time.Second
	for _, e := range edit {
		e(&c)
	}
	var err error
	if r.Tunnel, err = tunnel.New(c); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r.unix, r.unixSMTP = dir+"/imap", dir+"/submission"
	listen := func(p alpn.Protocol, address string) string {
		ls := must(tunnel.Listen(p, address))
		r.listeners = append(r.listeners, ls...)
		return ls[0].Addr().String()
	}
	r.imap, r.smtp = listen(alpn.IMAP, "127.0.0.1:0"), listen(alpn.SMTP, "localhost:0")
	listen(alpn.IMAP, r.unix)
	listen(alpn.SMTP, r.unixSMTP)
	return r
}

// start runs it until the test's end, or that of r.
func (r *running) start() {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- r.Run(ctx, r.listeners...) }()
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(r.end)
}

func (r *running) changed(s tunnel.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states = append(r.states, s)
}

// state is the last one of a protocol.
func (r *running) state(p alpn.Protocol) *tunnel.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.states) - 1; i >= 0; i-- {
		if r.states[i].Protocol == p {
			return &r.states[i]
		}
	}
	return nil
}

// program is a connection of a program of this machine.
type program struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, address string) *program {
	t.Helper()
	network := "tcp"
	if strings.Contains(address, "/") {
		network = "unix"
	}
	nc, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	return &program{nc, t, bufio.NewReader(nc)}
}

// sending is a program in the midst of sending mail.
func (r *running) sending() *program {
	r.t.Helper()
	p := dial(r.t, r.unixSMTP)
	p.expect("220 ")
	p.say("EHLO x\r\nMAIL FROM:<" + alice + ">\r\n")
	p.until("250 AUTH")
	p.expect("250 ")
	return p
}

func (p *program) say(lines string) {
	p.t.Helper()
	if _, err := p.Write([]byte(lines)); err != nil {
		p.t.Fatal(err)
	}
}

// line reads a line; "EOF" when there is none.
func (p *program) line() string {
	p.t.Helper()
	line, err := p.r.ReadString('\n')
	if err != nil {
		if n, ok := err.(net.Error); ok && n.Timeout() {
			p.t.Fatal("neither an answer nor the end")
		}
		return "EOF"
	}
	if !strings.HasSuffix(line, "\r\n") {
		p.t.Errorf("%q does not end in CRLF", line)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// expect reads lines that begin so.
func (p *program) expect(beginnings ...string) (last string) {
	p.t.Helper()
	for _, want := range beginnings {
		if last = p.line(); !strings.HasPrefix(last, want) {
			p.t.Fatalf("got %q, want %q", last, want)
		}
	}
	return last
}

// until reads up to a line that begins so.
func (p *program) until(beginning string) string {
	p.t.Helper()
	for {
		line := p.line()
		if strings.HasPrefix(line, beginning) {
			return line
		}
		if line == "EOF" {
			p.t.Fatalf("no %q", beginning)
		}
	}
}
