package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthorn/await"
	"posthorn/backend/backendtest"
)

// TestEdgeGhosts: a client that has vanished is let go on both sides within
// limits.dead_peer, so that Dovecot has room for it when it comes again; and so
// is a server that has vanished.
func TestEdgeGhosts(t *testing.T) {
	t.Parallel()
	const deadPeer = 10 * time.Second
	d := backendtest.StartDovecot(t, backendtest.DovecotOptions{
		Users: map[string]string{alice: alicePassword, bob: alicePassword, "alice@far.test": alicePassword}, MaxConnections: 2,
	})
	far := backendtest.StartRelay(t, d.Proxy)
	imap := func(address string) part {
		return part{"addresses": []string{address}, "client_address": "proxy"}
	}
	g := newGateway(t, behind(t, mailSystem{imap: imap(d.Proxy)}, mailSystem{name: "far", domains: []string{"far.test"}, imap: imap(far.Address)})+
		"domains: [localhost, far.test]\nlimits: {dead_peer: 10s}\n")

	for user, busy := range map[string]bool{alice: false, bob: true} {
		t.Run(fmt.Sprintf("clients, busy %v", busy), func(t *testing.T) {
			t.Parallel()
			g, from := g.in(t), source()
			for range 2 {
				p := g.idling("", user, from)
				backendtest.Vanish(t, p.Conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn))
			}
			if busy {
				// There is something to say to them, which nobody acknowledges.
				d.Deliver(t, user, strings.NewReader("Subject: boo\n\nHello.\n"))
			}
			await.Within(t, deadPeer+slack, "Dovecot has no ghosts", func() bool { return d.Sessions(from) == 0 })
			for range 2 {
				g.idling("", user, from)
			}
		})
	}
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.idling("", "alice@far.test")
		far.Cut()
		p.over(deadPeer + slack)
		began := time.Now()
		g.imapOf("").do(fmt.Sprintf("LOGIN alice@far.test %q", alicePassword), "NO [UNAVAILABLE]")
		if took := time.Since(began); took > 10*time.Second+slack {
			t.Errorf("a server that cannot be reached took %v", took)
		}
	})
}

// idling logs in, by key or else by alice's password, and idles in the INBOX.
func (g *gateway) idling(pemFile, user string, from ...string) *peer {
	g.t.Helper()
	p := g.imapOf(pemFile, from...)
	if pemFile == "" {
		p.do(fmt.Sprintf("LOGIN %q %q", user, alicePassword), "OK")
	}
	p.do("SELECT INBOX", "OK")
	p.send("i IDLE\r\n")
	p.until("+")
	return p
}

// TestEdgeRevocation: sessions that are carried to Dovecot end on both sides
// when their key or account does.
func TestEdgeRevocation(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{})
	e.account(alice)
	pemFile := e.key(alice, "laptop", "--name", "laptop")
	from := source()
	for what, p := range map[string]*peer{
		"key":     e.idling(pemFile, alice, from),
		"account": e.idling("", alice, from),
	} {
		if what == "key" {
			e.posthorn("key", "remove", e.fingerprint(alice, "laptop"))
		} else {
			e.posthorn("account", "disable", alice)
		}
		if out := p.over(slack); !strings.HasPrefix(out, "* BYE ") {
			t.Errorf("%s: ended with %q", what, out)
		}
	}
	await.Within(t, slack, "Dovecot has no sessions", func() bool { return e.d.Sessions(from) == 0 })
	e.imapOf("").do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword), "NO [AUTHENTICATIONFAILED]")
}

// TestEdgeCrowd: at the limit of connections for an account, one that has been
// silent for a minute yields.
func TestEdgeCrowd(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{more: "limits: {connections_per_account: 2}\n"})
	e.account(alice)
	pemFile := e.key(alice, "laptop")
	busy, began := e.imapOf(pemFile), time.Now()
	silent := e.idling(pemFile, alice)
	for _, p := range []*peer{busy, silent} {
		_ = p.SetDeadline(time.Now().Add(2 * time.Minute))
	}
	var third *peer
	pace := time.Tick(time.Second)
	await.Within(t, 90*time.Second, "a third one is let in", func() bool {
		busy.do("NOOP", "OK")
		third = e.secure(e.shared, e.tlsConfig(pemFile, "imap"))
		greeting := third.line()
		if strings.HasPrefix(greeting, "* PREAUTH") {
			return true
		}
		if !strings.HasPrefix(greeting, "* BYE [LIMIT]") {
			t.Fatalf("a third one was greeted with %q", greeting)
		}
		<-pace
		return false
	})
	if after := time.Since(began); after < 55*time.Second {
		t.Errorf("after %v", after)
	}
	third.do("NOOP", "OK")
	if out := silent.over(slack); !strings.Contains(out, "* BYE ") {
		t.Errorf("the silent one ended with %q", out)
	}
	busy.do("NOOP", "OK")
}

// TestEdgeFailover: when one of two Dovecots is killed, its sessions end at
// once, and no login fails; when it is back, it is used again.
func TestEdgeFailover(t *testing.T) {
	t.Parallel()
	options := backendtest.DovecotOptions{
		Users: map[string]string{alice: alicePassword}, Master: "gateway", MasterPassword: masterPassword, MaxConnections: 100,
	}
	servers := []*backendtest.Dovecot{backendtest.StartDovecot(t, options), backendtest.StartDovecot(t, options)}
	g := newGateway(t, behind(t, mailSystem{imap: part{
		"addresses": []string{servers[0].Proxy, servers[1].Proxy}, "client_address": "proxy", "login": "master", "master_user": "gateway",
	}}))
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	// both logs in until both servers have had sessions from a new source.
	both := func() (peers []*peer, from string) {
		t.Helper()
		from = source()
		pace := time.Tick(250 * time.Millisecond) // Dovecot takes a hundred
		for began := time.Now(); servers[0].Sessions(from) == 0 || servers[1].Sessions(from) == 0; <-pace {
			if time.Since(began) > patience {
				t.Fatalf("one server has all %d sessions", len(peers))
			}
			peers = append(peers, g.idling(pemFile, alice, from))
		}
		return peers, from
	}
	before, from := both()
	lost := servers[0].Sessions(from)
	servers[0].Kill()
	for range 20 {
		g.imapOf(pemFile).do("LOGOUT", "OK")
		g.loggedIn(alice, alicePassword).do("LOGOUT", "OK")
	}
	ended := 0
	for _, p := range before {
		_ = p.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := io.ReadAll(p.r); err == nil {
			ended++
		}
	}
	if ended != lost {
		t.Errorf("%d of %d sessions have ended, where the server had %d", ended, len(before), lost)
	}
	if list := g.posthorn("backend", "list"); !strings.Contains(list, "down") {
		t.Errorf("backend list says\n%s", list)
	}
	servers[0].Start()
	both()
}

// TestEdgeRestart: what the gateway has acknowledged is there after it has been
// stopped or killed amid submissions, once.
func TestEdgeRestart(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{dovecot: backendtest.DovecotOptions{
		Users: map[string]string{alice: alicePassword}, MaxConnections: 100}, more: "shutdown_timeout: 5s\n"})
	e.account(alice)
	pemFile := e.key(alice, "laptop")
	acknowledged := e.endAmidWriters(pemFile, "stopped", func() { e.end(syscall.SIGTERM) })
	for id := range e.endAmidWriters(pemFile, "killed", e.kill) {
		acknowledged[id] = true
	}
	e.p.Settle(t)
	e.holds(pemFile, acknowledged)
}
