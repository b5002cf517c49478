package mux_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/await"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

// oneSession is a session cache that offers its last ticket to everybody.
type oneSession struct {
	mu sync.Mutex
	s  *tls.ClientSessionState
}

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.s, o.s != nil
}

func (o *oneSession) Put(_ string, s *tls.ClientSessionState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s != nil {
		o.s = s
	}
}

// keyed is a client's config with a certificate, whose fingerprint it returns.
func keyed(t testing.TB, protos ...string) (*tls.Config, authkeys.Fingerprint) {
	t.Helper()
	cert := certificate(t, newKey(t), nil)
	c := clientConfig(protos...)
	c.Certificates = []tls.Certificate{cert}
	return c, muxtest.Fingerprint(t, cert)
}

var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// TestKeyAfterResumption: a resumed connection shows the key of the first.
func TestKeyAfterResumption(t *testing.T) {
	b := start(t)
	addr := b.listen(alpn.Shared)
	for _, version := range versions {
		for _, again := range []string{"imap", "smtp"} {
			cc, key := keyed(t, "imap")
			cc.MaxVersion, cc.ClientSessionCache = version, new(oneSession)
			for i, proto := range []string{"imap", "imap", again} {
				cc := cc.Clone()
				cc.NextProtos = []string{proto}
				if i > 0 {
					cc.Certificates = nil // it is in the ticket
				}
				c := connect(t, addr, cc)
				c.want("hello " + proto)
				c.send("x")
				c.want(fmt.Sprintf("%s x key=%s", proto, key))
				if got := c.Conn.(*tls.Conn).ConnectionState().DidResume; got != (i > 0) {
					t.Errorf("%s, connection %d to %s: resumed: %v", tls.VersionName(version), i, proto, got)
				}
				c.Close()
			}
		}
	}
}

// TestTicketsOfClasses: a ticket of one class does not resume in the other, nor
// one of a web name that asks for no certificate on one that does.
func TestTicketsOfClasses(t *testing.T) {
	b := start(t, func(c *mux.Config) { c.Router.CertNames = map[string]bool{"keys.example.org": true} })
	addr := b.listen(alpn.Shared)
	for _, tt := range []struct{ proto1, name1, proto2, name2 string }{
		{"http/1.1", servedName, "imap", servedName},
		{"imap", servedName, "http/1.1", servedName},
		{"http/1.1", servedName, "smtp", servedName},
		{"http/1.1", servedName, "http/1.1", "keys.example.org"},
		{"http/1.1", "keys.example.org", "http/1.1", servedName},
		{"http/1.1", "keys.example.org", "imap", servedName},
	} {
		for _, version := range versions {
			cc, key := keyed(t, tt.proto1)
			cc.MaxVersion, cc.ClientSessionCache, cc.ServerName = version, new(oneSession), tt.name1
			c := connect(t, addr, cc)
			c.line()
			c.Close()

			cc = cc.Clone()
			cc.NextProtos, cc.ServerName = []string{tt.proto2}, tt.name2
			c = connect(t, addr, cc)
			hello := c.line()
			if c.Conn.(*tls.Conn).ConnectionState().DidResume {
				t.Errorf("%s: a ticket of %s, %s resumed on %s, %s", tls.VersionName(version),
					tt.proto1, tt.name1, tt.proto2, tt.name2)
			}
			if tt.name2 == "keys.example.org" || tt.proto2 != "http/1.1" {
				c.send("x")
				c.want(fmt.Sprintf("%s x key=%s", hello[len("hello "):], key))
			}
			c.Close()
		}
	}
}

// TestUnknownNameWithTicket: resumption needs no certificate, so that a name
// which is not served has to be refused before.
func TestUnknownNameWithTicket(t *testing.T) {
	b := start(t)
	addr := b.listen(alpn.Shared)
	for _, version := range versions {
		cc := clientConfig("imap")
		cc.MaxVersion, cc.ClientSessionCache = version, new(oneSession)
		c := connect(t, addr, cc)
		c.line()
		c.Close()
		cc = cc.Clone()
		cc.ServerName = "evil.test"
		if err := tls.Client(dial(t, addr), cc).Handshake(); !gotAlert(err, alertUnrecognizedName) {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

// TestTicketRotation: keys that change are taken up within a minute; a ticket
// of a key that is gone leads to a full handshake.
func TestTicketRotation(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		cc := clientConfig("imap")
		cc.ClientSessionCache = new(oneSession)
		resumes := func() bool {
			c := ps.connect(t, cc)
			defer c.Close()
			c.want("hello imap")
			return c.Conn.(*tls.Conn).ConnectionState().DidResume
		}
		rotate := func(keys ...[32]byte) {
			b.certs.mu.Lock()
			b.certs.keys = map[alpn.Class][][32]byte{alpn.Web: {{1}}, alpn.Mail: keys}
			b.certs.mu.Unlock()
			time.Sleep(61 * time.Second)
		}
		for i, tt := range []struct {
			keys [][32]byte
			want bool
		}{
			{[][32]byte{{2}}, false},
			{[][32]byte{{3}, {2}}, true},
			{[][32]byte{{3}}, true},
			{[][32]byte{{4}}, false},
			{nil, true}, // there are none: the old ones stay
		} {
			rotate(tt.keys...)
			if got := resumes(); got != tt.want {
				t.Errorf("step %d: resumed: %v", i, got)
			}
		}
	})
}

// writes counts a connection's writes.
type writes struct {
	net.Conn
	n *int
}

func (w writes) Write(b []byte) (int, error) { *w.n++; return w.Conn.Write(b) }

// TestTicketWithGreeting: session tickets and greeting leave in one write, and
// tickets never wait for a handler that says nothing.
func TestTicketWithGreeting(t *testing.T) {
	for _, version := range versions {
		for _, proto := range []string{"imap", "acme-tls/1"} {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, func(c *mux.Config) {
					c.Router.ACMEPending = func(string) bool { return true }
				})
				ps := newPipes()
				n := 0
				ps.wrap = func(c net.Conn) net.Conn { return writes{c, &n} }
				b.serveOn(ps, alpn.Shared)
				cc, _ := keyed(t, proto)
				cc.MaxVersion = version
				c := ps.connect(t, cc)
				if proto == "imap" {
					c.want("hello imap")
					synctest.Wait()
					if n != 2 {
						t.Errorf("%s: %d writes, want 2", tls.VersionName(version), n)
					}
				} else {
					c.wantEnd()
				}
			})
		}
	}
}

// TestTicketBeforeRead: a handler that reads first does not keep the ticket.
func TestTicketBeforeRead(t *testing.T) {
	for _, version := range versions {
		inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
			cc, _ := keyed(t) // no ALPN: the server waits for the first bytes
			cc.MaxVersion = version
			cache := new(oneSession)
			cc.ClientSessionCache = cache
			cc.ServerName = "keys.example.org"
			c := ps.connect(t, cc)
			go c.r.Peek(1) // the client takes a TLS 1.3 ticket when it reads
			synctest.Wait()
			if _, ok := cache.Get(""); !ok {
				t.Errorf("%s: no ticket yet", tls.VersionName(version))
			}
			c.Close()
		}, func(c *mux.Config) { c.Router.CertNames = map[string]bool{"keys.example.org": true} })
	}
}

// lateFlights is a listener for one connection, which keeps what the server
// writes after its first flight until the test lets it go.
type lateFlights struct {
	net.Listener
	writes     atomic.Int32
	begun, let chan struct{}
}

func (l *lateFlights) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return lateFlight{c, l}, nil
}

type lateFlight struct {
	net.Conn
	l *lateFlights
}

func (f lateFlight) Write(b []byte) (int, error) {
	if f.l.writes.Add(1) == 2 {
		close(f.l.begun)
		<-f.l.let
	}
	return f.Conn.Write(b)
}

// awaitsTurn reports whether a write of a transport waits for another one.
func awaitsTurn() bool {
	b := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(stack, "[sync.Mutex.Lock") && strings.Contains(stack, "mux.(*transport).Write(") {
			return true
		}
	}
	return false
}

// TestHeldFlightComesFirst: what a handler writes never overtakes the end of the
// handshake, which a read beside it is sending.
func TestHeldFlightComesFirst(t *testing.T) {
	for _, version := range versions {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		late := &lateFlights{Listener: ln, begun: make(chan struct{}), let: make(chan struct{})}
		letGo := sync.OnceFunc(func() { close(late.let) })
		b := start(t, func(c *mux.Config) {
			c.Handlers[alpn.IMAP] = serveFunc(func(_ context.Context, c *mux.Conn) {
				var g errgroup.Group
				g.Go(func() error { _, err := c.Read(make([]byte, 1)); return err })
				select {
				case <-late.begun:
				case <-late.let: // the test has failed
				}
				_, err := c.Write([]byte("hello\r\n"))
				if err != nil || g.Wait() != nil {
					t.Errorf("%s: the conversation failed", tls.VersionName(version))
				}
			})
		})
		t.Cleanup(letGo)
		b.serveOn(late, alpn.Shared)
		cc := clientConfig("imap")
		cc.MaxVersion, cc.ClientSessionCache = version, new(oneSession) // it wants tickets
		tc := tls.Client(dial(t, ln.Addr().String()), cc)
		tc.SetDeadline(time.Now().Add(10 * time.Second))
		var handshake errgroup.Group
		handshake.Go(tc.Handshake)
		await.Until(t, "the greeting waits for its turn, or does not", func() bool {
			return awaitsTurn() || late.writes.Load() > 2
		})
		letGo()
		if err := handshake.Wait(); err != nil {
			t.Fatal(err)
		}
		c := newClient(t, tc)
		c.want("hello")
		c.send("x")
		c.wantEnd()
	}
}
