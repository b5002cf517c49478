package e2e

import (
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthorn/backend/backendtest"
)

// TestEdgeGhosts: a server that has vanished is let go within limits.dead_peer.
func TestEdgeGhosts(t *testing.T) {
	t.Parallel()
	const deadPeer = 10 * time.Second
	d := backendtest.StartDovecot(t, backendtest.DovecotOptions{
		Users: map[string]string{alice: alicePassword, "alice@far.test": alicePassword},
	})
	far := backendtest.StartRelay(t, d.Proxy)
	imap := func(address string) part {
		return part{"addresses": []string{address}, "client_address": "proxy"}
	}
	g := newGateway(t, behind(t, mailSystem{imap: imap(d.Proxy)}, mailSystem{name: "far", domains: []string{"far.test"}, imap: imap(far.Address)})+
		"domains: [localhost, far.test]\nlimits: {dead_peer: 10s}\n")

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
	for began := time.Now(); e.d.Sessions(from) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > slack {
			t.Fatalf("Dovecot still has %d sessions", e.d.Sessions(from))
		}
	}
	e.imapOf("").do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword), "NO [AUTHENTICATIONFAILED]")
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
		for began := time.Now(); servers[0].Sessions(from) == 0 || servers[1].Sessions(from) == 0; {
			if time.Since(began) > patience {
				t.Fatalf("one server has all %d sessions", len(peers))
			}
			peers = append(peers, g.idling(pemFile, alice, from))
			time.Sleep(100 * time.Millisecond)
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
