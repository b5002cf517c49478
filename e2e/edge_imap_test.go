package e2e

import (
	"bufio"
	"compress/flate"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/backend/backendtest"
)

// TestEdgeCapabilities: a client sees the gateway's capabilities before login
// and Dovecot's after it, by whichever way it has logged in, without what is
// about TLS and logins.
func TestEdgeCapabilities(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{})
	e.account(alice)
	pemFile := e.key(alice, "laptop")
	slow := e.key(alice, "slow", "--no-preauth")

	direct := newPeer(t, e.connect(e.d.Plain))
	direct.until("* OK")
	want := words(direct.do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword), "OK [CAPABILITY "))

	p := e.secure(e.shared, e.tlsConfig("", "imap"))
	if got := p.until("* OK"); strings.Contains(got, "XDELTAPUSH") {
		t.Errorf("greeted a stranger with %q", got)
	}
	p.send(fmt.Sprintf("a LOGIN %q %q\r\n", alice, alicePassword))
	byPassword := p.until("a OK")
	byKey := e.secure(e.shared, e.tlsConfig(pemFile, "imap")).until("* PREAUTH")
	p = e.secure(e.shared, e.tlsConfig(slow, "imap"))
	p.until("* OK")
	p.send("a AUTHENTICATE EXTERNAL =\r\n")
	byExternal := p.until("a OK")
	for way, line := range map[string]string{"a password": byPassword, "a key": byKey, "EXTERNAL": byExternal} {
		if got := words(line); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("after %s: %q, where Dovecot has %q", way, got, want)
		}
		if strings.Contains(line, "STARTTLS") || strings.Contains(line, "AUTH=") {
			t.Errorf("after %s: %q", way, line)
		}
	}
}

// words are the capabilities in a line.
func words(line string) []string {
	_, list, _ := strings.Cut(line, "[CAPABILITY ")
	list, _, _ = strings.Cut(list, "]")
	return strings.Fields(list)
}

// TestEdgeExtensions uses extensions of which the gateway knows nothing.
func TestEdgeExtensions(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{})
	e.account(alice)
	pemFile := e.key(alice, "laptop")
	for n := range 3 {
		e.d.Deliver(t, alice, strings.NewReader(fmt.Sprintf("Subject: number %d\n\nHello.\n", n)))
	}
	p := e.imapOf(pemFile)
	p.do(`SETMETADATA "" (/private/comment "mine")`, "OK")
	if got := p.do(`GETMETADATA "" /private/comment`, "OK"); !strings.Contains(got, "mine") {
		t.Errorf("METADATA: %q", got)
	}
	if got := p.do("GETQUOTAROOT INBOX", "OK"); !strings.Contains(got, "STORAGE") {
		t.Errorf("QUOTA: %q", got)
	}
	p.do("NOTIFY SET (PERSONAL (MessageNew MessageExpunge))", "OK")
	p.do("NOTIFY NONE", "OK")

	t.Run("QRESYNC", func(t *testing.T) {
		p := e.in(t).imapOf(pemFile)
		p.do("ENABLE QRESYNC", "OK")
		selected := p.do("SELECT INBOX", "OK")
		validity := regexp.MustCompile(`UIDVALIDITY (\d+)`).FindStringSubmatch(selected)
		before := regexp.MustCompile(`HIGHESTMODSEQ (\d+)`).FindStringSubmatch(selected)
		if validity == nil || before == nil {
			t.Fatalf("selected with %q", selected)
		}
		p.do(`STORE 1 +FLAGS (\Flagged)`, "OK")
		p.do(`STORE 3 +FLAGS (\Deleted)`, "OK")
		p.do("EXPUNGE", "OK")
		p.do("CLOSE", "OK")
		got := p.do(fmt.Sprintf("SELECT INBOX (QRESYNC (%s %s))", validity[1], before[1]), "OK")
		if !strings.Contains(got, "* VANISHED (EARLIER) 3") || !strings.Contains(got, `\Flagged`) {
			t.Errorf("resynchronized with %q", got)
		}
	})
	t.Run("COMPRESS", func(t *testing.T) {
		p := e.in(t).imapOf(pemFile)
		p.do("COMPRESS DEFLATE", "OK")
		p = newPeer(t, deflated(t, p.Conn, p.r))
		p.do("SELECT INBOX", "OK")
		if got := p.do("FETCH 1:* BODY[]", "OK"); !strings.Contains(got, "Subject: number 0") {
			t.Errorf("fetched %q", got)
		}
		p.do("NOOP", "OK")
	})
}

// deflater is a connection after COMPRESS DEFLATE (RFC 4978).
type deflater struct {
	net.Conn
	r io.Reader
	w *flate.Writer
}

func deflated(t testing.TB, c net.Conn, r *bufio.Reader) *deflater {
	t.Helper()
	w, err := flate.NewWriter(c, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	return &deflater{c, flate.NewReader(r), w}
}

func (d *deflater) Read(b []byte) (int, error) { return d.r.Read(b) }

func (d *deflater) Write(b []byte) (int, error) {
	n, err := d.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, d.w.Flush()
}

// TestEdgePipelined: what a client sends behind its LOGIN, and in one packet
// with it, reaches Dovecot whole, once and in order; literals too.
func TestEdgePipelined(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{})
	body := "Subject: appended\r\n\r\n" + strings.Repeat("x y z\r\n", 20000)
	p := e.imapOf("")
	p.send(fmt.Sprintf("a LOGIN %q %q\r\nb NOOP\r\nc APPEND INBOX {%d+}\r\n%s\r\nd SELECT INBOX\r\ne FETCH 1 RFC822.SIZE\r\nf LOGOUT\r\n",
		alice, alicePassword, len(body), body))
	out := p.over(patience)
	at := 0
	for _, want := range []string{"a OK", "b OK", "c OK", "* 1 EXISTS", "d OK", fmt.Sprintf("RFC822.SIZE %d", len(body)), "e OK", "* BYE", "f OK"} {
		n := strings.Index(out[at:], want)
		if n < 0 {
			t.Fatalf("no %q after %q", want, out[:at])
		}
		at += n
	}
}

// askedAbout is what Dovecot logs of each password that it is asked about.
const askedAbout = "auth: Debug: client in: AUTH\t"

// TestEdgeRefusals: Dovecot's own words reach the client, and each password
// reached Dovecot once.
func TestEdgeRefusals(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{dovecot: backendtest.DovecotOptions{MaxConnections: 2}})
	from := source()
	p := e.imapOf("", from)
	p.do(fmt.Sprintf("LOGIN %q wrong", alice), "NO [AUTHENTICATIONFAILED]")
	p.do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword), "OK")
	e.d.AwaitTimes(t, askedAbout, 2)
	second := e.imapOf("", from)
	second.do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword), "OK")
	third := e.imapOf("", from)
	got := third.do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword), "NO [")
	if !strings.Contains(got, "Maximum number of connections") || strings.Contains(got, "AUTHENTICATIONFAILED") {
		t.Errorf("one too many was answered with %q", got)
	}
	// From elsewhere there is room: Dovecot knows who is who.
	e.imapOf("").do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword), "OK")
}

// TestEdgeAddresses: Dovecot and Postfix know where a client is, however they
// hear of it, and whatever the client says of itself.
func TestEdgeAddresses(t *testing.T) {
	t.Parallel()
	d, p := startMail(t, edgeOptions{dovecot: backendtest.DovecotOptions{Trusted: true, MaxConnections: 100}})
	master := part{"login": "master", "master_user": "gateway"}
	for way, parts := range map[string][2]part{
		"PROXY": {
			master.with(part{"addresses": []string{d.Proxy}, "client_address": "proxy"}),
			master.with(part{"addresses": []string{p.Proxy}, "client_address": "proxy"}),
		},
		"ID and XCLIENT": {
			master.with(part{"addresses": []string{d.Plain}, "client_address": "id"}),
			part{"addresses": []string{p.XClient}, "login": "xclient", "client_address": "xclient"},
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			e := edge{newGateway(t, behind(t, mailSystem{imap: parts[0], submission: parts[1]})), d, p}
			e.account(alice)
			pemFile := e.key(alice, "laptop")

			from := source()
			c := e.imapOf("", from)
			c.do(`ID ("name" "e2e" "x-originating-ip" "192.0.2.66")`, "OK")
			c.do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword), "OK")
			d.Await(t, "user=<"+alice+">, method=PLAIN, rip="+from+",")
			from = source()
			e.imapOf(pemFile, from).do("NOOP", "OK")
			d.Await(t, "rip="+from+",")
			if strings.Contains(d.Log(), "192.0.2.66") {
				t.Error("Dovecot believed the client")
			}

			from = source()
			s := e.smtpOf("", from)
			s.ask("AUTH PLAIN "+base64Of("\x00"+alice+"\x00"+alicePassword), "235")
			s.envelope(bob)
			s.data(letter(alice, bob, "from "+from, "Hello."), "250")
			p.Await(t, "["+from+"], sasl_method=PLAIN, sasl_username="+alice)
			from = source()
			s = e.smtpOf(pemFile, from)
			s.envelope(bob)
			s.data(letter(alice, bob, "from "+from, "Hello."), "250")
			p.Await(t, "["+from+"], sasl_method=")
		})
	}
}

// TestEdgeApart: of many users at once, each gets their own mail and nobody
// else's.
func TestEdgeApart(t *testing.T) {
	t.Parallel()
	const people, rounds = 8, 4
	users := map[string]string{}
	for n := range people {
		users[fmt.Sprintf("user%d@localhost", n)] = fmt.Sprintf("password-of-%d", n)
	}
	e := newEdge(t, edgeOptions{dovecot: backendtest.DovecotOptions{Users: users}})
	var all sync.WaitGroup
	for user, password := range users {
		e.d.Deliver(t, user, strings.NewReader("Subject: of "+user+"\n\nHello.\n"))
		e.account(user)
		pemFile := e.key(user, user)
		for round := range rounds {
			all.Go(func() {
				p := e.imapOf(pemFile)
				if round%2 == 0 {
					p = e.loggedIn(user, password)
				}
				p.do("SELECT INBOX", "OK")
				if got := p.do("FETCH 1 BODY[HEADER.FIELDS (SUBJECT)]", "OK"); !strings.Contains(got, "of "+user+"\n") {
					t.Errorf("%s got %q", user, got)
				}
				p.do("LOGOUT", "OK")
			})
		}
	}
	all.Wait()
}

// TestEdgeHalfClose: a client that has said all that it wants still hears all of
// the answer.
func TestEdgeHalfClose(t *testing.T) {
	t.Parallel()
	say := backendtest.Say
	server := backendtest.StartScript(t, backendtest.Script{
		Greet: []backendtest.Act{say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")},
		Rules: []backendtest.Rule{
			{Line: `(\S+) (LOGIN|AUTHENTICATE) .*`, Do: []backendtest.Act{say("$1 OK [CAPABILITY IMAP4rev1] welcome\r\n")}},
			{Line: `last`, Do: []backendtest.Act{backendtest.Hang(300 * time.Millisecond), backendtest.Repeat("x", 1<<20), backendtest.Close()}},
			{Line: `(\S+) .*`, Do: []backendtest.Act{say("$1 OK done\r\n")}},
		},
	})
	g := newGateway(t, behind(t, mailSystem{imap: part{"addresses": []string{server.Address}}}))
	p := g.loggedIn(alice, alicePassword)
	p.send("last\r\n")
	if err := p.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if out, err := p.rest(); err != nil || len(out) != 1<<20 {
		t.Errorf("%d octets, %v", len(out), err)
	}
}
