package e2e

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"

	"posthorn/backend/backendtest"
)

// TestEdgeFirstLogin: users whom nobody knows come into being by logging in,
// behind and at the gateway, however many connections of theirs do so at once;
// those who are refused do not. Then they have keys.
func TestEdgeFirstLogin(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{dovecot: backendtest.DovecotOptions{Create: true, MaxConnections: 100}})
	const user, password = "newcomer1@localhost", "longer than eight"

	e.imapOf("").do(fmt.Sprintf("LOGIN %q short", user), "NO [AUTHENTICATIONFAILED]")
	if list := e.posthorn("account", "list"); strings.Contains(list, user) || e.d.Created(user) {
		t.Errorf("a refused login made an account:\n%s", list)
	}
	e.d.AwaitTimes(t, askedAbout, 1)
	var all sync.WaitGroup
	for range 4 {
		// As Delta Chat does: both servers at once.
		all.Go(func() { e.loggedIn(user, password).do("SELECT INBOX", "OK") })
		all.Go(func() {
			s := e.smtpOf("")
			s.ask("AUTH PLAIN "+base64Of("\x00"+user+"\x00"+password), "235")
			s.ask("MAIL FROM:<"+user+">", "250")
		})
	}
	all.Wait()
	e.d.AwaitTimes(t, askedAbout, 1+8)
	e.d.AwaitTimes(t, "created "+user, 1)
	if list := e.posthorn("account", "list"); strings.Count(list, user) != 1 {
		t.Errorf("the accounts are\n%s", list)
	}
	pemFile := e.key(user, "laptop")
	e.imapOf(pemFile).do("SELECT INBOX", "OK")
	e.submit(pemFile, user, user, letter(user, user, "to myself", "Hello."))

	e.imapOf("").do(fmt.Sprintf("LOGIN %q %q", user, password+"!"), "NO [AUTHENTICATIONFAILED]")
	e.posthorn("account", "disable", user)
	e.imapOf("").do(fmt.Sprintf("LOGIN %q %q", user, password), "NO [AUTHENTICATIONFAILED]")
}

// TestEdgeMechanisms: passwords reach Dovecot by whichever command they come,
// with every character that may be in one; and no way of writing a user's name
// makes anybody a master.
func TestEdgeMechanisms(t *testing.T) {
	t.Parallel()
	const strange = `"quoted\" {5} 100% ünïcödé *`
	e := newEdge(t, edgeOptions{dovecot: backendtest.DovecotOptions{
		Users: map[string]string{alice: strange, bob: bobPassword}, MaxConnections: 100}})
	plain := base64Of("\x00" + alice + "\x00" + strange)

	p := e.imapOf("")
	p.send(fmt.Sprintf("a LOGIN %s {%d}\r\n", alice, len(strange)))
	p.until("+ ")
	p.send(strange + "\r\n")
	p.until("a OK [CAPABILITY ")
	e.imapOf("").do("AUTHENTICATE PLAIN "+plain, "OK [CAPABILITY ")
	p = e.imapOf("")
	p.send("a AUTHENTICATE PLAIN\r\n")
	p.until("+")
	p.send(plain + "\r\n")
	p.until("a OK")
	p = e.imapOf("")
	p.send("a AUTHENTICATE LOGIN\r\n")
	p.until("+")
	p.send(base64Of(alice) + "\r\n")
	p.until("+")
	p.send(base64Of(strange) + "\r\n")
	p.until("a OK")

	s := e.smtpOf("")
	s.ask("AUTH LOGIN", "334")
	s.ask(base64Of(alice), "334")
	s.ask(base64Of(strange), "235")
	s.envelope(bob)

	for _, claim := range []string{
		alice + "*gateway\x00" + masterPassword, // Dovecot's notation for a master user
		"gateway\x00" + masterPassword,
	} {
		e.imapOf("").do("AUTHENTICATE PLAIN "+base64Of("\x00"+claim), "NO [AUTHENTICATIONFAILED]")
		e.smtpOf("").ask("AUTH PLAIN "+base64Of("\x00"+claim), "535")
	}
	e.imapOf("").do("AUTHENTICATE PLAIN "+base64Of(alice+"\x00gateway\x00"+masterPassword), "NO [A")
	e.imapOf("").do("AUTHENTICATE PLAIN "+base64Of(alice+"\x00"+bob+"\x00"+bobPassword), "NO [A")
	if strings.Contains(e.d.Log(), "Master user logging in") {
		t.Error("somebody became master")
	}
}

// TestEdgeOwnWords: the code of what a server says to a login reaches the
// client, and each login reaches the server once.
func TestEdgeOwnWords(t *testing.T) {
	t.Parallel()
	answering := func(code string) backendtest.Script {
		say := backendtest.Say
		return backendtest.Script{
			Greet: []backendtest.Act{say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")},
			Rules: []backendtest.Rule{
				{Line: `(\S+) (LOGIN|AUTHENTICATE) .*`, Do: []backendtest.Act{say("$1 NO [" + code + "] own words\r\n")}},
				{Line: `(\S+) .*`, Do: []backendtest.Act{say("$1 OK done\r\n")}},
			},
		}
	}
	server := backendtest.StartScript(t, answering(""))
	g := newGateway(t, behind(t, mailSystem{imap: part{"addresses": []string{server.Address}}}))
	for n, code := range []string{"AUTHENTICATIONFAILED", "LIMIT", "INUSE", "UNAVAILABLE", "CONTACTADMIN", "EXPIRED"} {
		server.Follow(answering(code))
		g.imapOf("").do("LOGIN alice@localhost secret", "NO ["+code+"] ")
		logins := 0
		for _, line := range server.Lines() {
			if strings.Contains(line, "LOGIN ") || strings.Contains(line, "AUTHENTICATE ") {
				logins++
			}
		}
		if logins != n+1 {
			t.Errorf("%s: %d of %d logins reached the server", code, logins, n+1)
		}
	}
}

// TestEdgeGuesses: guesses are stopped before they reach Dovecot, and the user
// gets in from elsewhere meanwhile.
func TestEdgeGuesses(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{})
	from := source()
	var all sync.WaitGroup
	for range 8 {
		p := newPeer(t, tls.Client(e.connect(e.shared, from), e.tlsConfig("", "imap")))
		all.Go(func() {
			var flood strings.Builder
			for n := range 50 {
				fmt.Fprintf(&flood, "g%d LOGIN %s guess-%d\r\n", n, alice, n)
			}
			p.send(flood.String())
			if out, _ := p.rest(); strings.Contains(out, " OK [CAPABILITY IMAP4rev1 LOGIN-REFERRALS") {
				t.Errorf("a guess was right: %q", out)
			}
		})
	}
	all.Wait()
	if n := strings.Count(e.d.Log(), askedAbout); n == 0 || n > 10 {
		t.Errorf("Dovecot was asked about %d of 400 guesses", n)
	}
	e.loggedIn(alice, alicePassword).do("NOOP", "OK")
}
