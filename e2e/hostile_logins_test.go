package e2e

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdg-go/scram"
)

func TestHostileSTARTTLS(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(alice)
	pemFile := g.key(alice, "laptop")

	t.Run("IMAP before TLS: no AUTH=, no login, no literal asked for", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.clear(g.imap)
		greeting := p.until("* OK")
		caps := greeting + p.do("CAPABILITY", "OK")
		if strings.Contains(caps, "AUTH=") || strings.Count(caps, "LOGINDISABLED") != 2 || strings.Count(caps, "STARTTLS") != 2 {
			t.Errorf("capabilities in cleartext: %s", caps)
		}
		p.do("LOGIN "+alice+" "+password, "NO [PRIVACYREQUIRED]")
		p.do("LOGIN "+alice+" {16}", "NO [PRIVACYREQUIRED]") // and not "+"
		p.do("LOGIN {16}", "NO")
		p.do("AUTHENTICATE PLAIN "+base64Of("\x00"+alice+"\x00"+password), "NO")
		p.do("AUTHENTICATE PLAIN", "NO") // and not "+"
		p.do("AUTHENTICATE EXTERNAL =", "NO")
		p.do("SELECT INBOX", "BAD")
	})

	t.Run("SMTP before TLS: no AUTH line, no AUTH, no MAIL", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.clear(g.submission)
		p.until("220 ")
		if out := p.ask("EHLO client.example", "250"); strings.Contains(out, "AUTH") || !strings.Contains(out, "STARTTLS") {
			t.Errorf("EHLO in cleartext: %s", out)
		}
		p.ask("AUTH PLAIN "+base64Of("\x00"+alice+"\x00"+password), "530")
		p.ask("AUTH LOGIN", "530")
		p.ask("MAIL FROM:<"+alice+">", "530")
		p.ask("RCPT TO:<"+alice+">", "530")
		p.ask("VRFY alice", "530")
	})

	t.Run("STARTTLS with an argument or twice", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.clear(g.imap)
		p.until("* OK")
		p.do("STARTTLS now", "BAD")
		p.do("STARTTLS {1}", "BAD")
		p.do("STARTTLS", "OK")
		p = p.startTLS(g.tlsConfig(pemFile, "imap"))
		p.do("STARTTLS", "BAD")

		p = g.clear(g.submission)
		p.until("220 ")
		p.ask("STARTTLS now", "501")
		p.ask("STARTTLS", "220")
		p = p.startTLS(g.tlsConfig("", "smtp"))
		p.ask("EHLO client.example", "250")
		p.ask("STARTTLS", "503")
	})

	t.Run("STARTTLS where TLS is on", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.imapOf("")
		p.do("STARTTLS", "BAD")
		p.do("NOOP", "OK")
		q := g.smtpOf("")
		q.ask("STARTTLS", "503")
		q.ask("NOOP", "250")
	})

	t.Run("after TLS the server is silent, starts over, and never says PREAUTH", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.clear(g.imap)
		p.until("* OK")
		p.do(`ID ("name" "before")`, "OK")
		p.do("STARTTLS", "OK")
		p = p.startTLS(g.tlsConfig(pemFile, "imap"))
		p.silent()
		if out := p.do("CAPABILITY", "OK"); !strings.Contains(out, "AUTH=EXTERNAL") || strings.Contains(out, "LOGINDISABLED") {
			t.Errorf("capabilities after TLS: %s", out)
		}
		p.do("SELECT INBOX", "BAD")
		p.do("AUTHENTICATE EXTERNAL =", "OK")
		p.do("SELECT INBOX", "OK")

		p = g.clear(g.submission)
		p.until("220 ")
		p.ask("EHLO before.example", "250")
		p.ask("STARTTLS", "220")
		p = p.startTLS(g.tlsConfig(pemFile, "smtp"))
		p.silent()
		p.ask("MAIL FROM:<"+alice+">", "503")
		p.ask("EHLO after.example", "250")
		p.ask("MAIL FROM:<"+alice+">", "250")
	})

	for name, injected := range map[string]string{
		"a command":          "i CREATE injected\r\n",
		"two commands":       "i NOOP\r\ni LOGOUT\r\n",
		"half a command":     "i LOGO",
		"a literal":          "i LOGIN {5+}\r\nalice",
		"many commands":      strings.Repeat("i NOOP\r\n", 2000),
		"a greeting":         "* PREAUTH\r\n",
		"a bare LF":          "i NOOP\n",
		"STARTTLS once more": "i STARTTLS\r\n",
	} {
		t.Run("cleartext behind STARTTLS is dropped: "+name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			p := g.clear(g.imap)
			p.until("* OK")
			p.send("t STARTTLS\r\n" + injected)
			p.until("t OK")
			p.afterInjection(g.tlsConfig(pemFile, "imap"), func(p *peer) {
				p.do("NOOP", "OK")
				p.do("AUTHENTICATE EXTERNAL =", "OK")
				if out := p.do(`LIST "" injected`, "OK"); strings.Contains(out, "* LIST") {
					t.Error("the injected command was executed")
				}
			})

			p = g.clear(g.submission)
			p.until("220 ")
			p.ask("EHLO client.example", "250")
			smtp := strings.NewReplacer("i CREATE injected", "MAIL FROM:<"+alice+">", "i LOGOUT", "QUIT", "i ", "").Replace(injected)
			p.send("STARTTLS\r\n" + smtp)
			p.until("220 ")
			p.afterInjection(g.tlsConfig(pemFile, "smtp"), func(p *peer) {
				p.ask("EHLO client.example", "250")
				p.ask("RCPT TO:<"+alice+">", "503")
				p.ask("MAIL FROM:<"+alice+">", "250")
			})
		})
	}

	t.Run("a failed handshake ends the connection", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		var wg sync.WaitGroup
		for _, address := range []string{g.imap, g.submission} {
			for _, junk := range []string{"NOOP\r\nNOOP\r\n", "a NOOP\r\n", "\x16\x03\x01\x00\x01x", "\r\n"} {
				p := newPeer(t, g.inTLS(address))
				p.send(junk)
				wg.Go(func() {
					if out := p.over(8*time.Second + slack); strings.Contains(out, "OK") || strings.Contains(out, "250") {
						t.Errorf("after %q: %q", junk, out)
					}
				})
			}
		}
		wg.Wait()
	})
}

// silent wants the server to say nothing by itself. It cannot wait for ever;
// what is wrong would come with the handshake's last flight.
func (p *peer) silent() {
	p.t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if b, err := p.r.Peek(1); err == nil {
		line, _ := p.r.ReadString('\n')
		p.t.Errorf("the server spoke first: %q%q", b, line)
	}
	_ = p.SetReadDeadline(time.Now().Add(patience))
}

// afterInjection goes on over TLS if the server does, which may also have
// ended the connection: when the injected octets came in time to be taken for
// the handshake, say.
func (p *peer) afterInjection(config *tls.Config, try func(*peer)) {
	p.t.Helper()
	c := tls.Client(p.Conn, config)
	if err := c.Handshake(); err != nil {
		return
	}
	try(newPeer(p.t, c))
}

func TestHostileLogins(t *testing.T) {
	// What is tried here is not guessing; that has a test of its own. Nor do
	// accounts that fail often slow each other down: each case has its own.
	g := newGateway(t, "limits: {passwords_per_connection: 1000, password_failures: 100000}\n")
	var cases atomic.Int32
	own := func(t *testing.T) (address, password string) {
		address = fmt.Sprintf("case%d@localhost", cases.Add(1))
		return address, g.in(t).account(address)
	}
	password := g.account(alice)
	g.account(bob)
	pemFile := g.key(alice, "laptop")
	noPreauth := g.key(alice, "phone", "--no-preauth")
	long := strings.Repeat("a", 3000)

	identities := map[string]string{
		"another account":       bob,
		"nobody":                "nobody@localhost",
		"another domain":        "alice@elsewhere.example",
		"NUL":                   alice + "\x00",
		"NUL and another":       alice + "\x00" + bob,
		"NUL alone":             "\x00",
		"bad UTF-8":             "alice\xff@localhost",
		"CRLF":                  alice + "\r\nNOOP",
		"only a local part":     "alice",
		"only a domain":         "@localhost",
		"quoted":                `"alice"@localhost`,
		"two":                   alice + "," + bob,
		"long":                  long + alice,
		"dotted":                "a.l.i.c.e@localhost",
		"spaces around":         " " + alice + " ",
		"a final dot":           alice + ".",
		"full width characters": "ａlice@localhost",
	}
	for name, identity := range identities {
		t.Run("EXTERNAL is refused: "+name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			p := g.secure(g.shared, g.tlsConfig(noPreauth, "imap"))
			p.until("* OK")
			p.do("AUTHENTICATE EXTERNAL "+base64Of(identity), "NO")
			p.send("t AUTHENTICATE EXTERNAL\r\n")
			p.until("+")
			p.send(base64Of(identity) + "\r\n")
			p.until("t NO")
			p.do("SELECT INBOX", "BAD") // it is still what it was
			p.do("AUTHENTICATE EXTERNAL "+base64Of(alice), "OK")

			q := g.smtpOf(noPreauth)
			q.ask("AUTH EXTERNAL "+base64Of(identity), "535")
			q.ask("AUTH EXTERNAL", "334")
			q.ask(base64Of(identity), "535")
			q.ask("MAIL FROM:<"+alice+">", "250") // the key still counts
		})
	}

	t.Run("EXTERNAL of 100 kB", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		identity := base64Of(strings.Repeat("a", 100000) + alice)
		p := g.secure(g.shared, g.tlsConfig(noPreauth, "imap"))
		p.send("t AUTHENTICATE EXTERNAL " + identity + "\r\n")
		if out := p.over(8 * time.Second); strings.Contains(out, "t OK") || !strings.Contains(out, "* BYE") {
			t.Errorf("IMAP: %q", out)
		}
		q := g.smtpOf(noPreauth)
		q.send("AUTH EXTERNAL " + identity + "\r\n")
		if out := q.over(8 * time.Second); strings.Contains(out, "235") {
			t.Errorf("SMTP: %q", out)
		}
	})

	plain := func(parts ...string) string { return base64Of(strings.Join(parts, "\x00")) }
	good := plain("", alice, password)
	for name, response := range map[string]func(user, password, good string) string{
		"another identity":  func(user, password, good string) string { return plain(bob, user, password) },
		"nobody's identity": func(user, password, good string) string { return plain("nobody@localhost", user, password) },
		"an extra field":    func(user, password, good string) string { return plain("", user, password, "") },
		"two extra fields":  func(user, password, good string) string { return plain("", user, password, "x", "y") },
		"a missing field":   func(user, password, good string) string { return plain(user, password) },
		"one field":         func(user, password, good string) string { return plain(user) },
		"nothing":           func(user, password, good string) string { return "=" },
		"no user":           func(user, password, good string) string { return plain("", "", password) },
		"no password":       func(user, password, good string) string { return plain("", user, "") },
		"upper case":        func(user, password, good string) string { return plain("", user, strings.ToUpper(password)) },
		"a space behind":    func(user, password, good string) string { return plain("", user, password+" ") },
		"a space before":    func(user, password, good string) string { return plain("", user, " "+password) },
		"a tab behind":      func(user, password, good string) string { return plain("", user, password+"\t") },
		"a newline behind":  func(user, password, good string) string { return plain("", user, password+"\r\n") },
		"bad UTF-8":         func(user, password, good string) string { return plain("", user, password+"\xff") },
		"a soft hyphen": func(user, password, good string) string {
			return plain("", user, password+"\u00ad\u00ad")[:20] + "===="
		},
		"base64 without padding": func(user, password, good string) string {
			return strings.TrimRight(plain("", user, password+"x"), "=") + "*"
		},
		"base64 with a bad letter":  func(user, password, good string) string { return "!" + good[1:] },
		"base64 of one letter":      func(user, password, good string) string { return "A" },
		"base64 with trailing bits": func(user, password, good string) string { return "AGEAYR==" },
		"base64 in two":             func(user, password, good string) string { return good[:8] + " " + good[8:] },
		"base64 twice":              func(user, password, good string) string { return good + "=" + good },
		"cancelled":                 func(user, password, good string) string { return "*" },
		"long":                      func(user, password, good string) string { return plain("", user, long) },
	} {
		t.Run("PLAIN is refused: "+name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			user, password := own(t)
			good := plain("", user, password)
			response := response(user, password, good)
			p := g.imapOf("")
			p.refusedLogin("t AUTHENTICATE PLAIN "+response+"\r\n", "t ")
			p.send("t AUTHENTICATE PLAIN\r\n")
			p.until("+")
			p.refusedLogin(response+"\r\n", "t ")
			p.do("SELECT INBOX", "BAD")
			p.do("AUTHENTICATE PLAIN "+good, "OK")

			q := g.smtpOf("")
			q.ask("AUTH PLAIN "+response, "5")
			q.ask("AUTH PLAIN", "334")
			q.ask(response, "5")
			q.ask("MAIL FROM:<"+user+">", "530")
			q.ask("AUTH PLAIN "+good, "235")
			q.ask("MAIL FROM:<"+user+">", "250")
		})
	}

	t.Run("LOGIN is refused: malformed or not quite right", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		user, password := own(t)
		for _, arguments := range []string{
			"", " ", " " + user, " " + user + " ", "  " + user + " " + password, " " + user + "  " + password,
			" " + user + " " + password + " x", " " + user + ` "` + password, " " + user + ` "` + password + `\"`,
			" (" + user + " " + password + ")", " NIL NIL", ` "" ""`, " " + user + ` ""`, " " + user + ` "` + password + ` "`,
			" " + user + ` "` + strings.ToUpper(password) + `"`, " " + bob + " " + password, " % *",
		} {
			p := g.imapOf("")
			p.refusedLogin("t LOGIN"+arguments+"\r\n", "t ")
			p.do("SELECT INBOX", "BAD")
			p.do("LOGIN "+user+" "+password, "OK")
		}
	})

	t.Run("after PREAUTH there is no login", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.imapOf(pemFile)
		p.do("LOGIN "+alice+" "+password, "BAD")
		p.do("LOGIN "+alice+" {8}", "BAD") // and no "+"
		p.do("AUTHENTICATE PLAIN "+good, "BAD")
		p.do("AUTHENTICATE PLAIN", "BAD")
		p.do("AUTHENTICATE EXTERNAL =", "BAD")
		p.do("STARTTLS", "BAD")
		p.do("SELECT INBOX", "OK")
	})

	t.Run("a second login is refused and changes nothing", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		bobs := g.key(bob, "bob")
		p := g.imapOf("")
		p.do("LOGIN "+alice+" "+password, "OK")
		p.do("CREATE mine", "OK")
		p.do("LOGIN "+bob+" whatever", "BAD")
		p.do("LOGIN "+alice+" "+password, "BAD")
		if out := p.do(`LIST "" mine`, "OK"); !strings.Contains(out, "mine") {
			t.Errorf("somebody else's mailboxes: %s", out)
		}
		q := g.smtpOf("")
		q.ask("AUTH PLAIN "+good, "235")
		q.ask("AUTH PLAIN "+good, "503")
		q.ask("MAIL FROM:<"+alice+">", "250")
		// A key and a password of different accounts.
		q = g.smtpOf(bobs)
		q.ask("AUTH PLAIN "+good, "535")
		q.ask("MAIL FROM:<"+alice+">", "550")
		q.ask("MAIL FROM:<"+bob+">", "250")
		r := g.secure(g.imaps, g.tlsConfig(g.key(bob, "bob2", "--no-preauth")))
		r.until("* OK")
		r.do("LOGIN "+alice+" "+password, "NO")
		r.do("AUTHENTICATE PLAIN "+good, "NO")
	})

	t.Run("what is pipelined behind LOGIN", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.imapOf("")
		p.send("a LOGIN " + alice + " wrong\r\nb CREATE afterfailure\r\nc LIST \"\" *\r\nd LOGIN " + alice + " " + password +
			"\r\ne CREATE aftersuccess\r\nf LIST \"\" after*\r\ng LOGOUT\r\n")
		out, _ := p.rest()
		for _, want := range []string{"a NO ", "b BAD ", "c BAD ", "d OK ", "e OK ", `* LIST`, "f OK ", "* BYE", "g OK "} {
			_, rest, found := strings.Cut(out, want)
			if !found {
				t.Errorf("no %q, in order, before %q", want, out)
			}
			out = rest
		}
		q := g.smtpOf("")
		q.send("AUTH PLAIN " + plain("", alice, "wrong") +
			"\r\nMAIL FROM:<" + alice + ">\r\nAUTH PLAIN " + good +
			"\r\nMAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\nQUIT\r\n")
		for _, code := range []string{"535", "530", "235", "250", "250", "221"} {
			q.hear("pipelined", code)
		}
	})

	t.Run("unknown user, wrong password and unknown domain are the same", func(t *testing.T) {
		g := g.in(t)
		for protocol, attempt := range map[string]func(user string) string{
			"IMAP LOGIN": func(user string) string { return g.imapOf("").do("LOGIN \""+user+"\" wrong", "NO") },
			"IMAP PLAIN": func(user string) string {
				return g.imapOf("").do("AUTHENTICATE PLAIN "+plain("", user, "wrong"), "NO")
			},
			"IMAP SCRAM": func(user string) string { return g.imapSCRAM(user) },
			"SMTP PLAIN": func(user string) string {
				return g.smtpOf("").ask("AUTH PLAIN "+plain("", user, "wrong"), "535")
			},
		} {
			alice, _ := own(t)
			who := []string{alice, "no" + alice, alice + ".example", "not " + alice}
			answers := map[string]string{}
			times := map[string][]time.Duration{}
			for range 7 {
				for _, user := range who {
					start := time.Now()
					answers[user] = attempt(user)
					times[user] = append(times[user], time.Since(start))
				}
			}
			for _, user := range who {
				slices.Sort(times[user])
				median := times[user][3]
				if answers[user] != answers[alice] {
					t.Errorf("%s: %q is told %q, not %q", protocol, user, answers[user], answers[alice])
				}
				// 10 ms are promised, of a machine that has nothing else to do.
				if difference := (median - times[alice][3]).Abs(); difference > 10*time.Millisecond {
					t.Logf("%s: %q takes %v longer", protocol, user, median-times[alice][3])
					if difference > max(40*time.Millisecond, times[alice][3]) {
						t.Errorf("%s: %q takes %v, not %v", protocol, user, median, times[alice][3])
					}
				}
			}
		}
	})

	t.Run("at most 10 bad commands before login", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, address := range []string{g.imap, g.imaps, g.submission, g.submissions} {
			for _, bad := range []string{"a BOGUS\r\n", "\r\n", "BOGUS BOGUS\r\n"} {
				p := g.clear(address)
				if address == g.imaps || address == g.submissions {
					p = newPeer(t, tls.Client(p.Conn, g.tlsConfig("")))
				}
				go p.send(strings.Repeat(bad, 1000))
				out := p.over(8 * time.Second)
				if n := strings.Count(out, "\r\n"); n > 13 {
					t.Errorf("%q was answered %d times: %q", bad, n, out)
				}
			}
		}
	})
}

// refusedLogin wants what is sent to be answered with NO or BAD, behind prefix.
func (p *peer) refusedLogin(s, prefix string) {
	p.t.Helper()
	p.send(s)
	if answer := p.until(prefix); !strings.HasPrefix(answer, prefix+"NO ") && !strings.HasPrefix(answer, prefix+"BAD ") {
		p.t.Errorf("%.100q: %q", s, answer)
	}
}

// imapSCRAM tries SCRAM-SHA-256 with a wrong password, and returns the answer.
func (g *gateway) imapSCRAM(user string) string {
	g.t.Helper()
	client, err := scram.SHA256.NewClientUnprepped(user, "wrong", "")
	if err != nil {
		g.t.Fatal(err)
	}
	conversation := client.NewConversation()
	p := g.imapOf("")
	first, _ := conversation.Step("")
	p.send("t AUTHENTICATE SCRAM-SHA-256 " + base64Of(first) + "\r\n")
	line := p.line()
	if challenge, ok := strings.CutPrefix(line, "+ "); ok {
		final, err := conversation.Step(fromBase64(challenge))
		if err != nil {
			g.t.Errorf("%s: challenge %q: %v", user, fromBase64(challenge), err)
		}
		p.send(base64Of(final) + "\r\n")
		line = p.line()
	}
	return line
}

func TestHostileGuessing(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(alice)
	pemFile := g.key(alice, "laptop")
	noPreauth := g.key(alice, "phone", "--no-preauth")
	plain := func(password string) string { return base64Of("\x00" + alice + "\x00" + password) }

	t.Run("5 passwords on a connection", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.imapOf("")
		p.send(strings.Repeat("a LOGIN "+alice+" wrong\r\n", 200) + "b LOGIN " + alice + " " + password + "\r\nc LOGOUT\r\n")
		out := p.over(patience)
		if n := strings.Count(out, "a NO"); n > 6 || strings.Contains(out, "b OK") || !strings.Contains(out, "* BYE") {
			t.Errorf("%d answers to 200 guesses: %q", n, out)
		}
		q := g.smtpOf("")
		q.send(strings.Repeat("AUTH PLAIN "+plain("wrong")+"\r\n", 200) + "AUTH PLAIN " + plain(password) + "\r\n")
		out = q.over(patience)
		if n := strings.Count(out, "535"); n > 6 || strings.Contains(out, "235") || !strings.Contains(out, "421") {
			t.Errorf("%d answers to 200 guesses: %q", n, out)
		}
	})

	t.Run("10 passwords in 20 s over connections and protocols", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		guesser, elsewhere := source(), source()
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				if i%2 == 0 {
					p := g.imapOf("", guesser)
					p.do("LOGIN "+alice+" wrong", "NO")
				} else {
					g.smtpOf("", guesser).ask("AUTH PLAIN "+plain("wrong"), "535")
				}
			})
		}
		wg.Wait()
		// From here the right password looks like a wrong one.
		g.imapOf("", guesser).do("LOGIN "+alice+" "+password, "NO [AUTHENTICATIONFAILED]")
		g.smtpOf("", guesser).ask("AUTH PLAIN "+plain(password), "535")

		// The owner gets in: by key from the same address, and from elsewhere.
		g.imapOf(pemFile, guesser).do("NOOP", "OK")
		g.smtpOf(pemFile, guesser).ask("MAIL FROM:<"+alice+">", "250")
		p := g.secure(g.shared, g.tlsConfig(noPreauth, "imap"), guesser)
		p.do("AUTHENTICATE EXTERNAL =", "OK")
		g.imapOf("", elsewhere).do("LOGIN "+alice+" "+password, "OK")
		g.smtpOf("", elsewhere).ask("AUTH PLAIN "+plain(password), "235")
	})

	t.Run("SCRAM and PLAIN count alike", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		guesser := source()
		for range 3 {
			p := g.secure(g.shared, g.tlsConfig("", "imap"), guesser)
			p.until("* OK")
			for range 4 {
				client, err := scram.SHA256.NewClientUnprepped(alice, "wrong", "")
				if err != nil {
					t.Fatal(err)
				}
				conversation := client.NewConversation()
				first, _ := conversation.Step("")
				p.send("t AUTHENTICATE SCRAM-SHA-256 " + base64Of(first) + "\r\n")
				challenge, ok := strings.CutPrefix(p.line(), "+ ")
				if !ok {
					break
				}
				final, err := conversation.Step(fromBase64(challenge))
				if err != nil {
					t.Fatal(err)
				}
				p.send(base64Of(final) + "\r\n")
				if answer := p.line(); !strings.HasPrefix(answer, "t NO") {
					t.Errorf("%q", answer)
				}
			}
		}
		g.imapOf("", guesser).do("LOGIN "+alice+" "+password, "NO")
	})
}

func TestHostilePatience(t *testing.T) {
	g := newGateway(t, "limits: {pre_login: 6s, handshake: 6s}\n")
	g.account(alice)
	for protocol, noop := range map[string]string{"imap": "a NOOP\r\n", "smtp": "NOOP\r\n"} {
		t.Run("NOOP forever does not keep an unauthenticated connection: "+protocol, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			p := g.secure(g.shared, g.tlsConfig("", protocol))
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				for range time.Tick(50 * time.Millisecond) {
					if _, err := fmt.Fprint(p.Conn, noop); err != nil {
						return
					}
				}
			}()
			p.over(6*time.Second + slack)
			p.Close()
			<-gone
		})
	}
}
