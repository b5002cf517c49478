package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthorn/backend/backendtest"
)

// fault is a server behind the gateway that is no good.
type fault struct {
	name   string
	script backendtest.Script // what it does
	server part               // where it is, if not where the script is followed
}

// garbage is no line of any protocol.
const garbage = "\x00\xff\xfe{5}\r\n\x16\x03\x01\x02\x00\r\n* \r\n\r\n250-\r\n"

// imapFaults are what can be wrong with an IMAP server. Those with rules are
// well until somebody logs in.
func imapFaults(t *testing.T) []fault {
	say, hang, closed := backendtest.Say, backendtest.Hang(0), backendtest.Close()
	greeting := say("* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] ready\r\n")
	login := func(do ...backendtest.Act) backendtest.Script {
		return backendtest.Script{Greet: []backendtest.Act{greeting}, Rules: []backendtest.Rule{
			{Line: `(\S+) (LOGIN|AUTHENTICATE) .*`, Do: do},
			{Line: `(\S+) CAPABILITY`, Do: []backendtest.Act{say("* CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN\r\n$1 OK done\r\n")}},
			{Line: `(\S+) (ID .*|NOOP)`, Do: []backendtest.Act{say("$1 OK done\r\n")}},
			{Line: `(\S+) LOGOUT`, Do: []backendtest.Act{say("* BYE\r\n$1 OK done\r\n"), closed}},
		}}
	}
	greet := func(do ...backendtest.Act) backendtest.Script { return backendtest.Script{Greet: do} }
	return append(commonFaults(t),
		fault{name: "full", script: greet(say("* BYE Too many connections\r\n"), closed)},
		fault{name: "preauth", script: greet(say("* PREAUTH [CAPABILITY IMAP4rev1] somebody's\r\n"), hang)},
		fault{name: "smtp", script: greet(say("220 mail.test ESMTP\r\n"), hang)},
		fault{name: "closes-at-login", script: login(closed)},
		fault{name: "resets-at-login", script: login(backendtest.Reset())},
		fault{name: "half-an-answer", script: login(say("$1 OK [CAPABILITY IMAP4"), closed)},
		fault{name: "garbage-at-login", script: login(say(garbage), hang)},
		fault{name: "endless-at-login", script: login(backendtest.Repeat("* OK still at it\r\n", -1))},
		fault{name: "other-tag", script: login(say("zzz OK done\r\n"), hang)},
		fault{name: "bye-at-login", script: login(say("* BYE going down\r\n"), closed)},
		fault{name: "hangs-at-login", script: login(hang)},
	)
}

// commonFaults are those that have nothing to do with a protocol.
func commonFaults(t *testing.T) []fault {
	say, hang := backendtest.Say, backendtest.Hang(0)
	greet := func(do ...backendtest.Act) backendtest.Script { return backendtest.Script{Greet: do} }
	return []fault{
		{name: "down", server: part{"addresses": []string{fmt.Sprintf("127.0.0.1:%d", backendtest.Port(t))}}},
		{name: "no-socket", server: part{"addresses": []string{"unix:" + filepath.Join(t.TempDir(), "sock")}}},
		{name: "closes", script: greet(backendtest.Close())},
		{name: "resets", script: greet(backendtest.Reset())},
		{name: "silent", script: greet(hang)},
		{name: "garbage", script: greet(say(garbage), hang)},
		{name: "long-line", script: greet(backendtest.Repeat("* OK 220 x", 1<<20), say("\r\n"), hang)},
		{name: "endless", script: greet(backendtest.Repeat("x", -1))},
		{name: "no-tls", script: greet(say("* OK 220 hello\r\n"), hang), server: part{"tls": "implicit"}},
	}
}

// TestEdgeIMAPFaults: whatever is wrong with a server, its users hear in time
// that it is for now, and never that their password was wrong; the log says
// which server and what; and the users of others notice nothing.
func TestEdgeIMAPFaults(t *testing.T) {
	t.Parallel()
	faults := imapFaults(t)
	d := backendtest.StartDovecot(t, backendtest.DovecotOptions{
		Users: map[string]string{alice: alicePassword, "alice@wrong-master.test": alicePassword}, Master: "gateway", MasterPassword: masterPassword, MaxConnections: 100,
	})
	faults = append(faults,
		fault{name: "wrong-master", server: part{
			"addresses": []string{d.Plain}, "master_password_file": secretFile(t, "not the master's")}},
		fault{name: "wrong-authority", server: part{
			"addresses": []string{d.TLS}, "tls": "implicit", "ca": backendtest.NewAuthority(t).File}},
		fault{name: "wrong-name", server: part{
			"addresses": []string{d.TLS}, "tls": "implicit", "ca": d.Authority.File, "server_name": "elsewhere.test"}},
		fault{name: "wrong-pin", server: part{
			"addresses": []string{d.Plain}, "tls": "starttls", "pins": []string{"SHA256:" + strings.Repeat("A", 43)}}},
	)
	systems := []mailSystem{{name: "good", imap: part{"addresses": []string{d.Plain}, "login": "master", "master_user": "gateway"}}}
	domains := "domains: [localhost"
	for _, f := range faults {
		server := part{"login": "master", "master_user": "gateway"}
		if f.server["addresses"] == nil {
			server["addresses"] = []string{backendtest.StartScript(t, f.script).Address}
		}
		systems = append(systems, mailSystem{name: "is-" + f.name, domains: []string{f.name + ".test"}, imap: server.with(f.server)})
		domains += ", " + f.name + ".test"
	}
	g := newGateway(t, behind(t, systems...)+domains+"]\n")
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			user := "alice@" + f.name + ".test"
			g.account(user)
			keys := map[string]string{"key": g.key(user, f.name), "EXTERNAL": g.key(user, f.name+"-slow", "--no-preauth")}
			const sorry = "[UNAVAILABLE] Temporarily unavailable, try again later"
			logins := map[string]func(*gateway){
				"password": func(g *gateway) {
					g.imapOf("").do(fmt.Sprintf("LOGIN %q %q", user, alicePassword), "NO "+sorry)
				},
				"EXTERNAL": func(g *gateway) {
					p := g.secure(g.shared, g.tlsConfig(keys["EXTERNAL"], "imap"))
					p.until("* OK")
					p.do("AUTHENTICATE EXTERNAL =", "NO "+sorry)
					p.do("NOOP", "OK")
				},
				"key": func(g *gateway) {
					if got := g.secure(g.shared, g.tlsConfig(keys["key"], "imap")).line(); got != "* BYE "+sorry {
						g.t.Errorf("greeted with %q", got)
					}
				},
			}
			if f.name == "wrong-master" {
				delete(logins, "password") // which has nothing to do with it
			}
			t.Run("", func(t *testing.T) {
				for name, login := range logins {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						login(g.in(t))
					})
				}
			})
			g.logsFault("is-" + f.name)
		})
	}
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		g.account(alice)
		pemFile := g.key(alice, "laptop")
		for range 20 {
			began := time.Now()
			g.imapOf(pemFile).do("LOGOUT", "OK")
			g.loggedIn(alice, alicePassword).do("LOGOUT", "OK")
			if took := time.Since(began); took > slack {
				t.Errorf("two logins took %v", took)
			}
		}
	})
}

// TestEdgeSlow: a server that takes its time is not one that is down.
func TestEdgeSlow(t *testing.T) {
	t.Parallel()
	const pause = 20 * time.Millisecond
	drip := func(text string) []backendtest.Act { return []backendtest.Act{backendtest.Drip(text, pause)} }
	server := backendtest.StartScript(t, backendtest.Script{
		Greet: drip("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] yes?\r\n"),
		Rules: []backendtest.Rule{
			{Line: `(\S+) (LOGIN|AUTHENTICATE) .*`, Do: append([]backendtest.Act{backendtest.Hang(11 * time.Second)},
				drip("$1 OK [CAPABILITY IMAP4rev1] well\r\n")...)},
			{Line: `(\S+) .*`, Do: drip("$1 OK done\r\n")},
		},
	})
	g := newGateway(t, behind(t, mailSystem{imap: part{"addresses": []string{server.Address}}}))
	g.loggedIn(alice, alicePassword).do("NOOP", "OK")
}

// logsFault waits for a line in the log that names a backend and what is wrong
// with it.
func (g *gateway) logsFault(backend string) {
	g.t.Helper()
	eventually(g.t, "the log says what is wrong with "+backend, func() bool {
		for line := range strings.Lines(g.logged()) {
			if strings.Contains(line, backend) && strings.Contains(line, `"error":"`) {
				return true
			}
		}
		return false
	})
}

// smtpFaults are what can be wrong with a submission server. Those with rules
// are well until a message comes.
func smtpFaults(t *testing.T) []fault {
	say, hang, closed := backendtest.Say, backendtest.Hang(0), backendtest.Close()
	greet := func(do ...backendtest.Act) backendtest.Script { return backendtest.Script{Greet: do} }
	at := func(command string, do ...backendtest.Act) backendtest.Script {
		return backendtest.Script{Greet: []backendtest.Act{say("220 fault.test ESMTP\r\n")}, Rules: []backendtest.Rule{
			{Line: command, Do: do},
			{Line: "EHLO .*", Do: []backendtest.Act{say("250-fault.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n")}},
			{Line: "AUTH PLAIN .*", Do: []backendtest.Act{say("235 2.7.0 welcome\r\n")}},
			{Line: "(MAIL|RCPT|RSET|NOOP).*", Do: []backendtest.Act{say("250 2.0.0 fine\r\n")}},
			{Line: "DATA", Do: []backendtest.Act{say("354 go on\r\n")}},
			{Line: "QUIT", Do: []backendtest.Act{say("221 2.0.0 bye\r\n"), closed}},
			{Line: `\.`, Do: []backendtest.Act{say("250 2.0.0 taken\r\n")}},
			{Line: ".*"},
		}}
	}
	return append(commonFaults(t),
		fault{name: "full", script: greet(say("421 4.3.2 too many connections\r\n"), closed)},
		fault{name: "refuses", script: greet(say("554 5.7.1 not you\r\n"), closed)},
		fault{name: "imap", script: greet(say("* OK IMAP4rev1\r\n"), hang)},
		fault{name: "closes-at-ehlo", script: at("EHLO .*", closed)},
		fault{name: "closes-at-auth", script: at("AUTH .*", closed)},
		fault{name: "closes-at-mail", script: at("MAIL .*", closed)},
		fault{name: "resets-at-rcpt", script: at("RCPT .*", backendtest.Reset())},
		fault{name: "closes-at-data", script: at("DATA", closed)},
		fault{name: "closes-in-message", script: at("Subject: .*", closed)},
		fault{name: "closes-at-end", script: at(`\.`, closed)},
		fault{name: "half-at-end", script: at(`\.`, say("250"), closed)},
		fault{name: "garbage-at-end", script: at(`\.`, say(garbage), hang)},
		fault{name: "goes-at-end", script: at(`\.`, say("421 4.3.2 shutting down\r\n"), closed)},
		fault{name: "endless-at-rcpt", script: at("RCPT .*", backendtest.Repeat("250-still\r\n", -1))},
	)
}

// TestEdgeSubmissionFaults: whatever is wrong with a server, senders hear that
// it is for now (451, and 454 to AUTH), and never that it is for good, or that
// a message was taken.
func TestEdgeSubmissionFaults(t *testing.T) {
	t.Parallel()
	d := backendtest.StartDovecot(t, backendtest.DovecotOptions{Users: map[string]string{alice: alicePassword}, Master: "gateway", MasterPassword: masterPassword})
	p := backendtest.StartPostfix(t, backendtest.PostfixOptions{Dovecot: d, Domain: "localhost"})
	faults := append(smtpFaults(t),
		fault{name: "wrong-master", server: part{"addresses": []string{p.Plain}, "master_password_file": secretFile(t, "not the master's")}},
		fault{name: "wrong-authority", server: part{
			"addresses": []string{p.TLS}, "tls": "implicit", "ca": backendtest.NewAuthority(t).File}},
		fault{name: "wrong-pin", server: part{
			"addresses": []string{p.Plain}, "tls": "starttls", "pins": []string{"SHA256:" + strings.Repeat("A", 43)}}},
	)
	systems := []mailSystem{{name: "good", submission: part{"addresses": []string{p.Plain}, "login": "master", "master_user": "gateway"}}}
	domains := "domains: [localhost"
	for _, f := range faults {
		server := part{"login": "master", "master_user": "gateway"}
		if f.server["addresses"] == nil {
			server["addresses"] = []string{backendtest.StartScript(t, f.script).Address}
		}
		systems = append(systems, mailSystem{name: "is-" + f.name, domains: []string{f.name + ".test"}, submission: server.with(f.server)})
		domains += ", " + f.name + ".test"
	}
	g := newGateway(t, behind(t, systems...)+domains+"]\n")
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			user := "alice@" + f.name + ".test"
			g.account(user)
			g.refusesForNow(g.smtpOf(g.key(user, f.name)), user)
			g.logsFault("is-" + f.name)
		})
	}
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		g.account(alice)
		s := g.smtpOf(g.key(alice, "laptop"))
		for range 20 {
			began := time.Now()
			s.envelope(alice)
			s.data(letter(alice, alice, "hello", "Hello."), "250")
			if took := time.Since(began); took > slack {
				t.Errorf("a message took %v", took)
			}
		}
	})
}

// refusesForNow submits as far as it is let, and wants 451 at the end, or the
// server's own 421.
func (g *gateway) refusesForNow(p *peer, user string) {
	g.t.Helper()
	for _, step := range []struct{ say, hear string }{
		{"MAIL FROM:<" + user + ">", "250"},
		{"RCPT TO:<" + user + ">", "250"},
		{"DATA", "354"},
		{letter(user, user, "hello", "Hello.") + ".", "250"},
	} {
		p.send(step.say + "\r\n")
		got := p.line()
		if strings.HasPrefix(got, step.hear) {
			continue
		}
		if !strings.HasPrefix(got, "451 4.") && !strings.HasPrefix(got, "421 4.") {
			g.t.Errorf("%.20q was answered with %q", step.say, got)
		}
		return
	}
	g.t.Error("the message was taken")
}
