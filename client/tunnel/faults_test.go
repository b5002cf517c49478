package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/client"
	"posthorn/client/clienttest"
	"posthorn/client/gatewaytest"
	"posthorn/client/tunnel"
	"posthorn/loopback"
)

// TestGatewayGone: the gateway is killed, programs hear of it, and when it is back
// they get through again.
func TestGatewayGone(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t)
	n := clienttest.New(t, g.Ports, clienttest.Rules{})
	r := startTunnel(t, g, n)
	in, sending := dial(t, r.unix), r.sending()
	in.expect("* PREAUTH")
	g.Stop()
	in.expect("* BYE ", "EOF")
	sending.expect("421 ", "EOF")
	p := dial(t, r.imap)
	p.expect("* OK")
	p.say("a LOGIN x " + r.password + "\r\n")
	p.expect("a NO [UNAVAILABLE] ", "* BYE", "EOF")
	if s := r.state(alpn.IMAP); s.Route != nil || !errors.As(s.Err, new(*client.DialError)) {
		t.Errorf("state %+v", s)
	}
	q := dial(t, r.smtp)
	q.expect("220 ")
	q.say("EHLO x\r\n") // what it offers is known
	q.until("250 AUTH")
	q.say("AUTH LOGIN eA==\r\n")
	q.expect("334 ")
	q.say("eA==\r\n")
	q.expect("535 ")
	g.Serve()
	if inIMAP, inSMTP := useIMAP(r), useSMTP(r); inIMAP != nil || inSMTP != nil {
		t.Errorf("%v, %v", inIMAP, inSMTP)
	}
	if s := r.state(alpn.IMAP); s.Route == nil {
		t.Errorf("state %+v", s)
	}
}

// TestCut: a connection that breaks between two responses ends with BYE; in the
// midst of one it just ends.
func TestCut(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ sent, want string }{
		"between":      {"* 1 EXISTS\r\n", "* BYE "},
		"in a line":    {"* 1 EXI", ""},
		"in a literal": {"* 1 FETCH (BODY[] {100}\r\nhello\r\n", ""},
		"behind one":   {"* 1 FETCH (BODY[] {7}\r\nhello\r\n", ""},
		"after that":   {"* 1 FETCH (BODY[] {7}\r\nhello\r\n)\r\n", "* BYE "},
	} {
		for _, reset := range []bool{false, true} {
			t.Run(name, func(t *testing.T) { cut(t, tt.sent, tt.want, reset) })
		}
	}
	t.Run("by the gateway", func(t *testing.T) { cut(t, "* BYE x\r\n", "", false) })
}

func cut(t *testing.T, sent, want string, reset bool) {
	there := make(chan struct{}) // what is sent has got to the program
	f := startFake(t, func(c *tls.Conn) {
		_, _ = c.Write([]byte("* PREAUTH [CAPABILITY IMAP4rev1] x\r\n" + sent))
		<-there
		raw := c.NetConn().(*net.TCPConn)
		if reset {
			_ = raw.SetLinger(0)
		}
		raw.Close()
	})
	arrived := sync.OnceFunc(func() { close(there) })
	t.Cleanup(arrived)
	p := dial(t, f.run(t).unix)
	p.expect("* PREAUTH")
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(p.r, got); err != nil || string(got) != sent {
		t.Fatalf("the program gets %q, %v", got, err)
	}
	arrived()
	rest, _ := io.ReadAll(p.r)
	if (want == "") != (len(rest) == 0) || !strings.HasPrefix(string(rest), want) {
		t.Errorf("then the program gets %q", rest)
	}
}

// fake is a gateway that says what a test wants.
type fake struct {
	ca      *clienttest.Authority
	key     *client.Identity
	address string
	dials   atomic.Int32
}

// startFake runs a server on TLS that asks for a key. handle has the connection
// until it returns.
func startFake(t testing.TB, handle func(*tls.Conn)) *fake {
	t.Helper()
	f := &fake{ca: clienttest.NewAuthority(t, "CA"), key: must(client.NewIdentity(client.ECDSA, "x"))}
	config := &tls.Config{Certificates: []tls.Certificate{f.ca.Issue(host)}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"imap", "smtp"}}
	f.address = loopback.Serve(t, func(nc net.Conn) {
		f.dials.Add(1)
		c := tls.Server(nc, config)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if c.Handshake() == nil {
			handle(c)
		}
	})
	return f
}

// run starts a tunnel to it.
func (f *fake) run(t testing.TB, edit ...option) *running {
	direct := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", f.address)
	}
	return startTunnel(t, &gatewaytest.Gateway{CA: f.ca, Key: f.key}, &clienttest.Network{}, append([]option{func(c *tunnel.Config) {
		c.Client.DialContext, c.Client.Routes, c.Client.LoginTimeout = direct, []client.Kind{client.ALPN}, time.Second
	}}, edit...)...)
}

// TestHostileGateway: whatever somebody with the gateway's certificate says before
// the login, programs hear that there is nothing, in time, and none of it.
func TestHostileGateway(t *testing.T) {
	for name, say := range map[string][]string{
		"nothing":                {},
		"HTTP":                   {"HTTP/1.1 200 OK\r\n\r\n"},
		"no mechanism":           {"* OK [CAPABILITY IMAP4rev1] x\r\n"},
		"no capabilities":        {"* OK x\r\n", "T1 OK\r\n"},
		"endless capabilities":   {"* OK x\r\n", strings.Repeat("* CAPABILITY EVIL\r\n", 10_000)},
		"an endless line":        {"* OK x\r\n", strings.Repeat("EVIL", 50_000)},
		"a literal":              {"* OK x\r\n", "* CAPABILITY {4}\r\nEVIL\r\nT1 OK\r\n"},
		"another tag":            {"* OK [CAPABILITY AUTH=EXTERNAL] x\r\n", "EVIL OK\r\n"},
		"NO":                     {"* OK [CAPABILITY AUTH=EXTERNAL SASL-IR] x\r\n", "T1 NO EVIL\r\n"},
		"BYE":                    {"* OK [CAPABILITY AUTH=EXTERNAL SASL-IR] x\r\n", "* BYE EVIL\r\n"},
		"challenges":             {"* OK [CAPABILITY AUTH=EXTERNAL SASL-IR] x\r\n", "+ RVZJTA==\r\n"},
		"no base64":              {"* OK [CAPABILITY AUTH=EXTERNAL SASL-IR] x\r\n", "+ !EVIL\r\n"},
		"smtp/nothing":           {},
		"smtp/HTTP":              {"HTTP/1.1 200 OK\r\n\r\n"},
		"smtp/closing":           {"554 EVIL\r\n"},
		"smtp/EHLO refused":      {"220 x\r\n", "550 EVIL\r\n"},
		"smtp/an endless offer":  {"220 x\r\n", strings.Repeat("250-EVIL\r\n", 10_000)},
		"smtp/garbage":           {"220 x\r\n", "EVIL\r\n"},
		"smtp/codes that change": {"220 x\r\n", "250-x\r\n251 EVIL\r\n"},
		"smtp/AUTH refused":      {"220 x\r\n", "250-x\r\n250 AUTH EXTERNAL\r\n", "535 EVIL\r\n"},
		"smtp/no mechanism":      {"220 x\r\n", "250-x\r\n250 AUTH EVIL\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, func(c *tls.Conn) {
				buf := make([]byte, 4096)
				for i, s := range say {
					if i > 0 {
						if _, err := c.Read(buf); err != nil {
							return
						}
					}
					if _, err := c.Write([]byte(s)); err != nil {
						return
					}
				}
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			})
			r := f.run(t)
			began := time.Now()
			all := ""
			if strings.HasPrefix(name, "smtp/") {
				p := dial(t, r.smtp)
				p.expect("220 ")
				p.say("EHLO x\r\n")
				all = p.expect("421 ") + p.expect("EOF")
			} else {
				p := dial(t, r.imap)
				p.expect("* OK")
				p.say("a LOGIN x " + r.password + "\r\n")
				all = p.expect("a NO [") + p.expect("* BYE") + p.expect("EOF")
			}
			if strings.Contains(all, "EVIL") {
				t.Errorf("programs hear %q", all)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestOffers: what a gateway offers is not taken on trust.
func TestOffers(t *testing.T) {
	f := startFake(t, func(c *tls.Conn) {
		if c.ConnectionState().NegotiatedProtocol == "imap" {
			_, _ = c.Write([]byte("* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED auth=PLAIN X\x1b[2J GOOD] \x1b[2J\r\n"))
		} else {
			_, _ = c.Write([]byte("220 x\r\n"))
			_, _ = c.Read(make([]byte, 100))
			_, _ = c.Write([]byte("250-x\r\n250-STARTTLS\r\n250-X\x1b[2J\r\n250-Auth=EVIL\r\n250 SIZE 1\r\n"))
		}
		_, _ = c.Read(make([]byte, 100))
	})
	r := f.run(t)
	p := dial(t, r.unix)
	if got := p.line(); got != "* PREAUTH [CAPABILITY IMAP4rev1 GOOD] Posthorn tunnel ready" {
		t.Errorf("%q", got)
	}
	p = dial(t, r.unixSMTP)
	p.expect("220 ")
	p.say("EHLO x\r\n")
	p.expect("250-localhost", "250-SIZE 1", "250 AUTH PLAIN LOGIN")
}

// TestNetworkChange: in another network, and after sleep, the tunnel finds out by
// itself what leads to the gateway now.
func TestNetworkChange(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t)
	n := clienttest.New(t, g.Ports, clienttest.Rules{})
	var network atomic.Value
	network.Store("home")
	memory := client.NewMemory("").WithNetwork(func() string { return network.Load().(string) })
	r := startTunnel(t, g, n, func(c *tunnel.Config) {
		c.Network = func() string { return network.Load().(string) }
		c.Client.Memory, c.Watch, c.Client.Stagger = memory, 20*time.Millisecond, 5*time.Second
	})
	by := func(k client.Kind) func() bool {
		return func() bool {
			i, s := r.state(alpn.IMAP), r.state(alpn.SMTP)
			return i != nil && s != nil && i.Route != nil && s.Route != nil && i.Route.Kind == k && s.Route.Kind == k
		}
	}
	await.Until(t, "the usual route", by(client.Dedicated))
	n.SetRules(clienttest.Rules{Ports: map[uint16]clienttest.Verdict{993: clienttest.Refuse, 465: clienttest.Refuse}})
	network.Store("hotel")
	await.Until(t, "the hotel's", by(client.ALPN))
	n.SetRules(clienttest.Rules{OnlyProxies: clienttest.Refuse})
	network.Store("cellar")
	await.Until(t, "none", func() bool {
		i, s := r.state(alpn.IMAP), r.state(alpn.SMTP)
		return i.Err != nil && s.Err != nil
	})
	n.SetRules(clienttest.Rules{})
	network.Store("home")
	await.Until(t, "the usual one again", by(client.Dedicated))
}

// TestIdleDay: a program that idles for a day is still there, and gets its mail;
// meanwhile nobody is dialled.
func TestIdleDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startInMemory(t, func(c *tls.Conn) {
			buf := make([]byte, 4096)
			n, _ := c.Read(buf)
			if !strings.Contains(string(buf[:n]), "IDLE") {
				return
			}
			_, _ = c.Write([]byte("+ idling\r\n"))
			time.Sleep(24 * time.Hour)
			_, _ = c.Write([]byte("* 1 EXISTS\r\n"))
			_, _ = c.Read(buf)
		})
		p := m.dial(alpn.IMAP)
		p.expect("* OK")
		p.say("a LOGIN x " + m.password + "\r\nb IDLE\r\n")
		p.expect("a OK [CAPABILITY IMAP4rev1 IDLE]", "+ idling")
		before := m.dials.Load()
		began := time.Now()
		p.expect("* 1 EXISTS")
		if took := time.Since(began); took != 24*time.Hour || m.dials.Load() != before {
			t.Errorf("after %v; dialled %d times meanwhile", took, m.dials.Load()-before)
		}
		go m.end()
		p.expect("* BYE")
	})
}

// TestRetry: a gateway that is out of reach is looked for, less and less often;
// the next time, it begins anew.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reached atomic.Bool
		var told atomic.Int32
		m := startInMemory(t, untilEnd, func(c *tunnel.Config) {
			c.Changed = func(s tunnel.State) {
				reached.Store(s.Err == nil)
				told.Add(1)
			}
		})
		lose := func() {
			t.Helper()
			m.away.Store(true)
			p := m.dial(alpn.IMAP)
			p.expect("* OK")
			p.say("a LOGIN x " + m.password + "\r\n")
			p.expect("a NO [UNAVAILABLE]", "* BYE", "EOF")
			if reached.Load() {
				t.Fatal("nobody is told that it is lost")
			}
		}
		lose()
		before := m.dials.Load()
		time.Sleep(time.Hour) // at once, after 30 s, 1 min, … 10 min: ten times, both protocols
		if n := m.dials.Load() - before; n < 18 || n > 22 {
			t.Errorf("dialled %d times in an hour", n)
		}
		if n := told.Load(); n != 4 { // both protocols were reached, and are not
			t.Errorf("told %d times", n)
		}
		m.away.Store(false)
		time.Sleep(10*time.Minute + 10*time.Second)
		if !reached.Load() {
			t.Fatal("nobody is told that it is back")
		}
		lose()
		time.Sleep(20 * time.Second)
		m.away.Store(false)
		time.Sleep(time.Minute)
		if !reached.Load() {
			t.Error("a minute after it was back, nobody is told")
		}
	})
}

// strayed is a connection of an address that is not this machine's any more.
type strayed struct{ net.Conn }

func (strayed) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 50000} }

// TestAddressGone: connections of an address that went with its network end when
// that is noticed, and the program hears of it.
func TestAddressGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network atomic.Value
		network.Store("home")
		m := startInMemory(t, untilEnd, func(c *tunnel.Config) {
			dial := c.Client.DialContext
			c.Client.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				nc, err := dial(ctx, network, address)
				return strayed{nc}, err
			}
			c.Network = func() string { return network.Load().(string) }
		})
		p := m.dial(alpn.IMAP)
		p.expect("* OK")
		p.say("a LOGIN x " + m.password + "\r\n")
		p.expect("a OK")
		time.Sleep(time.Hour)
		began := time.Now()
		network.Store("hotel")
		p.expect("* BYE ", "EOF")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("after %v", took)
		}
	})
}
