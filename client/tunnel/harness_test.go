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

	"posthorn/accounts"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/certs/ech"
	"posthorn/client"
	"posthorn/client/clienttest"
	"posthorn/client/tunnel"
	"posthorn/client/webtransport"
	"posthorn/handlers/https"
	"posthorn/handlers/https/transport"
	"posthorn/handlers/imap"
	"posthorn/handlers/smtp"
	"posthorn/mailbox"
	"posthorn/mux"
	"posthorn/mux/muxtest"
	"posthorn/store/badgerkv"
)

func TestMain(m *testing.M) {
	// Tests that are parallel wait more than they compute.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	alice    = "alice@example.org"
	password = `the gateway's "Horse\` // which programs here do not know
	host     = "mail.example.org"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// gateway is a gateway in this process, with alice, her password and her key.
type gateway struct {
	t     testing.TB
	ca    *clienttest.Authority
	keys  *authkeys.Store
	alice *accounts.Account
	key   *client.Identity
	log   *muxtest.Log
	ports clienttest.Gateway
	serve func()
	stop  func()
}

func startGateway(t testing.TB) *gateway {
	t.Helper()
	ctx := context.Background()
	kv := must(badgerkv.OpenMemory())
	t.Cleanup(func() { kv.Close() })
	g := &gateway{t: t, keys: authkeys.New(kv), log: new(muxtest.Log), ca: clienttest.NewAuthority(t, "the gateway's CA"), ports: clienttest.Gateway{}}
	users := must(accounts.New(ctx, kv, g.keys, accounts.Options{Throttle: accounts.Throttle{PerSource: 1000}}))
	g.alice = must(users.Add(ctx, alice, password))
	g.key = must(client.NewIdentity(client.ECDSA, alice))
	g.register(g.key, false)
	log := zerolog.New(g.log)
	mail := must(mailbox.Open(t.TempDir(), mailbox.Options{Log: zerolog.Nop()}))
	t.Cleanup(func() { mail.Close() })
	behind := &backend.Embedded{Mail: mail, Accounts: users, Domains: []string{"example.org"}, Log: log}
	config := mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{
			alpn.IMAP: &imap.Handler{Accounts: users, Backend: behind, Hostname: host, Log: log},
			alpn.SMTP: &smtp.Handler{Accounts: users, Backend: behind, Hostname: host, Log: log},
			alpn.HTTP1: &https.Server{Transport: &transport.Handler{Path: webtransport.DefaultPath},
				Serves: func(string) bool { return true }, Ready: func() bool { return true }, Log: log},
		},
		Router: &alpn.Router{Names: map[string]alpn.Protocol{"imap.example.org": alpn.IMAP, "smtp.example.org": alpn.SMTP}},
		Certs:  muxtest.Certificates{Pair: g.ca.Issue(host, "imap.example.org", "smtp.example.org")},
		Log:    log,
	}
	g.serve = func() { g.listen(mux.New(config)) }
	g.serve()
	t.Cleanup(func() { g.stop() })
	return g
}

// listen serves on three ports, the same ones each time.
func (g *gateway) listen(server *mux.Server) {
	var serving sync.WaitGroup
	for number, port := range map[uint16]alpn.Port{443: alpn.Shared, 993: alpn.IMAPS, 465: alpn.Submissions} {
		address, again := g.ports[number]
		if !again {
			address = "127.0.0.1:0"
		}
		ln := must(net.Listen("tcp", address))
		if !again {
			g.ports[number] = ln.Addr().String()
		}
		serving.Go(func() { _ = server.Serve(context.Background(), ln, port) })
	}
	g.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = server.Shutdown(ctx)
		serving.Wait()
	}
}

func (g *gateway) register(i *client.Identity, noPreauth bool) {
	g.t.Helper()
	k := authkeys.Key{Fingerprint: i.Fingerprint(), Account: g.alice.ID, Name: "test", Type: i.Type(), NoPreauth: noPreauth}
	if err := g.keys.Add(context.Background(), k); err != nil {
		g.t.Fatal(err)
	}
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
func startTunnel(t testing.TB, g *gateway, n *clienttest.Network, edit ...option) *running {
	t.Helper()
	r := newTunnel(t, g, n, edit...)
	r.start()
	return r
}

// newTunnel makes one, with its sockets, that does not run yet.
func newTunnel(t testing.TB, g *gateway, n *clienttest.Network, edit ...option) *running {
	t.Helper()
	r := &running{t: t, log: new(muxtest.Log)}
	r.password, r.hash = tunnel.NewPassword()
	c := tunnel.Config{
		Client: client.Config{
			Host: host, Identity: g.key, RootCAs: clienttest.Pool(g.ca), DialContext: n.DialContext,
			Proxy: client.FixedProxy(nil), ECHConfigList: ech.List(must(ech.Generate(1, "public.example.org", 40))), Timeout: 5 * time.Second,
		},
		Password: r.hash, Changed: r.changed, Log: zerolog.New(r.log), Grace: 2 * time.Second,
		Network: func() string { return "test" },
	}
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

// settle waits until a condition holds.
func settle(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
