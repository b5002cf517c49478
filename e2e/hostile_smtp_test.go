package e2e

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// messages returns the messages in the INBOX of the account whose key is in
// pemFile, whole.
func (g *gateway) messages(pemFile string) []string {
	g.t.Helper()
	c := imapClient(g.dial(pemFile, "imap"))
	defer c.Close()
	if err := c.WaitGreeting(); err != nil {
		g.t.Fatal(err)
	}
	selected, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		g.t.Fatal(err)
	}
	if selected.NumMessages == 0 {
		return nil
	}
	var all imap.SeqSet
	all.AddRange(1, 0)
	options := &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}
	fetched, err := c.Fetch(all, options).Collect()
	if err != nil {
		g.t.Fatal(err)
	}
	var out []string
	for _, m := range fetched {
		out = append(out, body(m))
	}
	return out
}

// envelope begins a message from alice.
func (p *peer) envelope(to ...string) {
	p.t.Helper()
	p.ask("MAIL FROM:<"+alice+">", "250")
	for _, r := range to {
		p.ask("RCPT TO:<"+r+">", "250")
	}
}

// data sends a message, as it is, and wants a reply that begins with code.
func (p *peer) data(message, code string) string {
	p.t.Helper()
	p.ask("DATA", "354")
	p.send(message + ".\r\n")
	return p.hear(message, code)
}

func TestHostileSubmission(t *testing.T) {
	g := newGateway(t, "max_message_size: 8 MiB\n")
	g.account(alice)
	g.account(bob)
	pemFile, bobs := g.key(alice, "laptop"), g.key(bob, "bob")

	t.Run("nothing and nobody before login", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.smtpOf("")
		p.ask("MAIL FROM:<"+alice+">", "530")
		p.ask("RCPT TO:<"+bob+">", "503")
		p.ask("DATA", "503")
		p.ask("BDAT 0 LAST", "503")
		known, unknown := p.ask("VRFY "+alice, "2"), p.ask("VRFY nobody@localhost", "2")
		if known != unknown || strings.Contains(known, "alice") {
			t.Errorf("VRFY: %q and %q", known, unknown)
		}
		p.ask("EXPN all", "502")
		if out := p.ask("HELP", "214"); strings.Contains(out, "@") {
			t.Errorf("HELP: %q", out)
		}
	})

	t.Run("XCLIENT and XFORWARD: neither offered nor taken", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, key := range []string{"", pemFile} {
			p := g.secure(g.shared, g.tlsConfig(key, "smtp"))
			p.until("220 ")
			out := p.ask("EHLO client.example", "250")
			for _, word := range []string{"XCLIENT", "XFORWARD", "ETRN", "TURN", "VRFY", "EXPN", "XEXCH"} {
				if strings.Contains(out, word) {
					t.Errorf("%s offered: %s", word, out)
				}
			}
			p.ask("XCLIENT ADDR=1.2.3.4 LOGIN="+bob, "50")
			p.ask("XFORWARD ADDR=1.2.3.4", "50")
			p.ask("PROXY TCP4 1.2.3.4 5.6.7.8 1 2", "50")
		}
	})

	t.Run("MAIL FROM must be the account's own, and well made", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.smtpOf(pemFile)
		for argument, code := range map[string]string{
			"<" + bob + ">":                                 "550",
			"<nobody@localhost>":                            "550",
			"<alice@elsewhere.example>":                     "550",
			"<alice>":                                       "5",
			"<@localhost>":                                  "5",
			"<alice@>":                                      "5",
			"<alice@localhost@elsewhere>":                   "55",
			`<"alice"@localhost>`:                           "553",
			`<"bob@localhost> x"@localhost>`:                "5",
			`<al\ice@localhost>`:                            "553",
			"<alice @localhost>":                            "501",
			"<al ice@localhost>":                            "501",
			"<@relay.example:bob@localhost>":                "550",
			"alice@localhost":                               "501",
			"<alice@localhost":                              "501",
			"alice@localhost>":                              "501",
			"<<alice@localhost>>":                           "501",
			"<alice@localhost>x":                            "501",
			"<alice@localhost> NONSENSE=1":                  "555",
			"<alice@localhost> SIZE=-1":                     "5",
			"<alice@localhost> SIZE=x":                      "5",
			"<alice@localhost> BODY=x":                      "5",
			"<alice@localhost> SIZE=8388609":                "552",
			"<alice@localhost> SIZE=4294967297":             "552",
			"<alice@localhost> SIZE=99999999999":            "552",
			"<älice@localhost>":                             "55",
			"<alice@localhöst>":                             "55",
			"<\xff@localhost>":                              "55",
			"<\xff@localhost> SMTPUTF8":                     "55",
			"<" + strings.Repeat("a", 2000) + "@localhost>": "5",
		} {
			p.ask("MAIL FROM:"+argument, code)
			if p.ask("RSET", "250"); strings.HasPrefix(code, "5") {
				p = p.renewed(g, pemFile)
			}
		}
		p.ask("MAIL FROM:<"+alice+"> SIZE=1000 BODY=8BITMIME SMTPUTF8", "250")
		for argument, code := range map[string]string{
			"<nobody@localhost>":                 "550",
			"<bob@elsewhere.example>":            "550",
			`<"bob"@localhost>`:                  "553",
			"<bob@localhost\x00>":                "500",
			"<bob localhost>":                    "501",
			"<>":                                 "5",
			"<bob@localhost> NOTIFY=NEVER":       "555",
			"<bob@localhost@elsewhere.example>":  "55",
			"<bob%elsewhere.example@localhost>":  "550",
			"<@localhost:bob@elsewhere.example>": "550",
		} {
			p := g.smtpOf(pemFile)
			p.envelope()
			p.ask("RCPT TO:"+argument, code)
		}
	})

	t.Run("control characters in commands", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, bad := range []string{"\x00", "\x01", "\x08", "\x0b", "\x1b[2J", "\x7f", "\r", "\n"} {
			for _, line := range []string{"EHLO a%sb", "MAIL FROM:<al%sice@localhost>", "RCPT TO:<bob@localhost>%s", "NOOP %s", "VRFY %s", "%s"} {
				p := g.smtpOf(pemFile)
				p.send(fmt.Sprintf(line, bad) + "\r\nQUIT\r\n")
				if out, _ := p.rest(); !strings.HasPrefix(out, "5") {
					t.Errorf("%q: %q", fmt.Sprintf(line, bad), out)
				}
			}
		}
	})

	t.Run("commands ended by a bare LF or CR are not executed", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.smtpOf(pemFile)
		p.send("MAIL FROM:<" + alice + ">\nRCPT TO:<" + bob + ">\nDATA\n")
		if out, _ := p.rest(); strings.Contains(out, "250") || strings.Contains(out, "354") {
			t.Errorf("%q", out)
		}
		p = g.smtpOf(pemFile)
		p.send("NOOP\rMAIL FROM:<" + alice + ">\rRCPT TO:<" + bob + ">\r\n")
		if out, _ := p.rest(); strings.Contains(out, "250") {
			t.Errorf("%q", out)
		}
	})

	t.Run("EHLO names are validated, and cannot inject lines", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, name := range []string{
			"", " ", "a b", "[", "[]", "[1.2.3]", "[1.2.3.4", "1.2.3.4]", "[IPv6:x]", "[1.2.3.4]x", "a(b", "a)", "<a>", `"a"`, `a\b`,
			"a;b", "a,b", "a@b", "a=b", "\xff", "a\tb", strings.Repeat("a", 256), strings.Repeat("a.", 200), "%s%n",
		} {
			p := g.secure(g.shared, g.tlsConfig(pemFile, "smtp"))
			p.until("220 ")
			p.ask("EHLO "+name, "501")
			p.ask("MAIL FROM:<"+alice+">", "503")
		}
	})

	t.Run("wrong order is 503", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.secure(g.shared, g.tlsConfig(pemFile, "smtp"))
		p.until("220 ")
		p.ask("MAIL FROM:<"+alice+">", "503")
		p.ask("AUTH EXTERNAL =", "503")
		p.ask("EHLO client.example", "250")
		p.ask("RCPT TO:<"+bob+">", "503")
		p.ask("DATA", "503")
		p.envelope()
		p.ask("DATA", "503")
		p.ask("MAIL FROM:<"+alice+">", "503")
		p.ask("AUTH EXTERNAL =", "503")
		p.ask("RCPT TO:<"+bob+">", "250")
		p.ask("EHLO again.example", "250")
		p.ask("RCPT TO:<"+bob+">", "503")
		p.envelope(bob)
		p.ask("RSET", "250")
		p.ask("DATA", "503")
	})

	t.Run("From must be the account's own", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for name, header := range map[string]string{
			"another":             "From: " + bob + "\r\n",
			"two":                 "From: " + alice + ", " + bob + "\r\n",
			"twice":               "From: " + alice + "\r\nFrom: " + bob + "\r\n",
			"twice the same":      "From: " + alice + "\r\nFrom: " + alice + "\r\n",
			"another sender":      "From: " + alice + "\r\nSender: " + bob + "\r\n",
			"upper case":          "FROM: " + bob + "\r\n",
			"folded":              "From:\r\n " + bob + "\r\n",
			"folded name":         "From:\r\n \"" + alice + "\"\r\n <" + bob + ">\r\n",
			"a name that looks":   "From: \"" + alice + "\" <" + bob + ">\r\n",
			"a comment":           "From: (" + alice + ") " + bob + "\r\n",
			"an encoded name":     "From: =?utf-8?q?" + alice + "?= <" + bob + ">\r\n",
			"a group":             "From: friends: " + bob + ";\r\n",
			"a route":             "From: <@relay.example:" + bob + ">\r\n",
			"a quoted local part": "From: \"" + alice + ">, <x\"@elsewhere.example\r\n",
			"garbage":             "From: \x01\x02\r\n",
			"a NUL":               "From: " + alice + "\x00" + bob + "\r\n",
		} {
			p := g.smtpOf(pemFile)
			p.envelope(bob)
			if out := p.data(header+"Subject: forged "+name+"\r\n\r\nx\r\n", "55"); strings.Contains(out, "250") {
				t.Errorf("%s: %s", name, out)
			}
			p.ask("NOOP", "250")
		}
		// Names that a reader might take for From: what follows is content.
		for _, header := range []string{"From : " + bob, "From\t: " + bob, " From: " + bob, "\r\nFrom: " + bob, "Fr\xf6m: " + bob} {
			p := g.smtpOf(pemFile)
			p.envelope(bob)
			p.ask("DATA", "354")
			p.send("From: " + alice + "\r\n" + header + "\r\nSubject: borderline\r\n\r\nx\r\n.\r\n")
			p.hear(header, "")
		}
		for _, m := range g.messages(bobs) {
			head, _, _ := strings.Cut(m, "\r\n\r\n")
			if strings.Contains(m, "Subject: forged") || strings.Contains(head, "From : "+bob) || strings.Contains(head, "From\t: "+bob) {
				t.Errorf("delivered: %q", m)
			}
		}
	})

	t.Run("one Received field, ESMTPSA", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.smtpOf(pemFile)
		p.envelope(bob)
		p.data("From: "+alice+"\r\nSubject: received\r\n\r\nx\r\n", "250")
		for _, m := range g.messages(bobs) {
			if !strings.Contains(m, "Subject: received\r\n") {
				continue
			}
			head, _, _ := strings.Cut(m, "\r\n\r\n")
			if strings.Count(head, "Received:") != 1 || !strings.Contains(head, "ESMTPSA") || strings.Contains(head, "127.") {
				t.Errorf("header %q", head)
			}
			return
		}
		t.Error("not delivered")
	})

	for name, end := range map[string]string{
		"LF.LF": "\n.\n", "CRLF.LF": "\r\n.\n", "LF.CRLF": "\n.\r\n", "CR.CR": "\r.\r", "CRLF.CR": "\r\n.\r", "CR.CRLF": "\r.\r\n",
		"LF.CR": "\n.\r", "CR.LF": "\r.\n", "CRLF.NUL": "\r\n.\x00\r\n", "CRLF NUL.": "\r\n\x00.\r\n", "NUL.NUL": "\x00.\x00",
		"VT": "\r\n\x0b.\r\n", ".VT": "\r\n.\x0b\r\n", "NEL": "\r\n\u0085.\r\n", "NEL.NEL": "\u0085.\u0085", "Latin-1 NEL": "\x85.\x85",
		"CRCRLF": "\r\r\n.\r\r\n", ".CRCRLF": "\r\n.\r\r\n", "LFCR": "\n\r.\r\n", "a space behind": "\r\n. \r\n", "a tab behind": "\r\n.\t\r\n",
		"two dots": "\r\n..\r\n", "LS": "\r\n\u2028.\u2028\r\n", "BOM": "\r\n\ufeff.\r\n",
	} {
		t.Run("does not end DATA: "+name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			p := g.smtpOf(pemFile)
			p.envelope(bob)
			p.ask("DATA", "354")
			p.send("From: " + alice + "\r\nSubject: outer " + name + "\r\n\r\nx" + end +
				"MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\nDATA\r\nFrom: " + alice + "\r\nSubject: smuggled " + name + "\r\n\r\nx\r\n.\r\nNOOP\r\nQUIT\r\n")
			out, _ := p.rest()
			if n := strings.Count(out, "\r\n"); n > 3 || strings.Contains(out, "354") {
				t.Errorf("%d replies: %q", n, out)
			}
		})
	}
	t.Cleanup(func() { // the subtests above are done
		g := g.in(t)
		for _, m := range g.messages(bobs) {
			head, _, _ := strings.Cut(m, "\r\n\r\n")
			if strings.Contains(head, "smuggled") {
				t.Errorf("smuggled: %q", m)
			}
			if rest := strings.ReplaceAll(m, "\r\n", ""); strings.ContainsAny(rest, "\r\n\x00") {
				t.Errorf("stored with a bare CR, a bare LF or a NUL: %q", m)
			}
			if strings.Contains(m, "cut off") || strings.Contains(m, "never whole") {
				t.Errorf("stored though never sent whole: %.200q", m)
			}
		}
		g.alive(pemFile)
	})

	t.Run("a message that is cut off is not delivered", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		message := "From: " + alice + "\r\nSubject: cut off\r\n\r\n" + strings.Repeat("cut off\r\n", 1000)
		for _, end := range []string{"", ".", ".\r", "\r\n.", "\r\n.\r"} {
			p := g.smtpOf(pemFile)
			p.envelope(bob)
			p.ask("DATA", "354")
			p.send(message + end)
			p.Close()
			q := g.smtpOf(pemFile)
			q.envelope(bob)
			q.ask("DATA", "354")
			q.send(message + end)
			q.Conn.(*tls.Conn).NetConn().Close() // without close_notify
		}
	})

	t.Run("recipients: more than 100, at most 1,000", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.smtpOf(pemFile)
		p.envelope()
		p.send(strings.Repeat("RCPT TO:<"+bob+">\r\n", 1001))
		for i := range 1001 {
			want := "250"
			if i == 1000 {
				want = "452"
			}
			p.hear(fmt.Sprint("recipient ", i), want)
		}
	})

	t.Run("long lines and large headers are refused or delivered", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		from := "From: " + alice + "\r\n"
		for name, message := range map[string]string{
			"a line of 2 MB":            from + "\r\n" + strings.Repeat("x", 2<<20) + "\r\n",
			"a field of 5 MB":           from + "X: " + strings.Repeat("x", 5<<20) + "\r\n\r\n",
			"a header of 50,000 lines":  from + strings.Repeat("X: y\r\n", 50000) + "\r\n",
			"a field of 50,000 lines":   from + "X: y\r\n" + strings.Repeat(" y\r\n", 50000) + "\r\n",
			"a From of 1 MB":            "From: " + strings.Repeat("x", 1<<20) + " <" + alice + ">\r\n\r\n",
			"a From of 10,000 comments": "From: " + strings.Repeat("(", 10000) + strings.Repeat(")", 10000) + alice + "\r\n\r\n",
			"a header without end":      from + strings.Repeat("X: y\r\n", 100000),
			"nothing":                   "",
			"an empty line":             "\r\n",
		} {
			p := g.smtpOf(pemFile)
			p.envelope(bob)
			start := time.Now()
			p.ask("DATA", "354")
			p.send(message + ".\r\n")
			p.hear(name, "")
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("%s took %v", name, took)
			}
			p.ask("NOOP", "250")
		}
	})

	t.Run("a message above the limit", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		p := g.smtpOf(pemFile)
		p.envelope(bob)
		p.data("From: "+alice+"\r\nSubject: never whole\r\n\r\n"+strings.Repeat(strings.Repeat("x", 998)+"\r\n", 8600), "552")
		p.ask("NOOP", "250")
		// One without end: its connection ends.
		p.envelope(bob)
		p.ask("DATA", "354")
		go func() {
			for range 100 {
				p.send(strings.Repeat(strings.Repeat("x", 998)+"\r\n", 1000))
			}
		}()
		p.over(patience)
	})

	t.Run("BDAT", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, argument := range []string{"", "-1", "-1 LAST", "+5", "0x5", "5x", " ", "LAST", "18446744073709551616", "9223372036854775808",
			"4294967296 LAST", "99999999999999999999999999999 LAST", "5 LAST LAST", "5 FIRST", "1e3", "٣"} {
			p := g.smtpOf(pemFile)
			p.envelope(bob)
			p.send("BDAT " + argument + "\r\nMAIL FROM:<" + alice + ">\r\nRSET\r\nNOOP\r\n")
			if out := p.over(8 * time.Second); !strings.HasPrefix(out, "5") || strings.Count(out, "\r\n") != 1 {
				t.Errorf("BDAT %s: %q", argument, out)
			}
		}
		p := g.smtpOf(pemFile)
		p.send("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") // no recipients
		p.hear("BDAT", "503")
		p.hear("NOOP", "250")
		p.envelope()
		p.send("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
		p.hear("BDAT", "503")
		p.hear("NOOP", "250")
		p.ask("RSET", "250")
		p.envelope(bob)
		p.send("BDAT 6\r\nQUIT\r\nNOOP\r\n")
		p.hear("BDAT", "250")
		p.hear("NOOP", "250")
		p.ask("DATA", "503")
		p.ask("MAIL FROM:<"+alice+">", "503")
		p.ask("RSET", "250")
		p.envelope(bob)
		chunk := "From: " + alice + "\r\nSubject: in chunks\r\n\r\n.\r\nMAIL FROM:<" + bob + ">\r\n"
		p.send(fmt.Sprintf("BDAT %d\r\n%sBDAT 0\r\nBDAT 0 LAST\r\nNOOP\r\n", len(chunk), chunk))
		for _, about := range []string{"BDAT", "BDAT 0", "BDAT 0 LAST", "NOOP"} {
			p.hear(about, "250")
		}
		found := false
		for _, m := range g.messages(bobs) {
			found = found || strings.Contains(m, "Subject: in chunks\r\n") && strings.HasSuffix(m, "\r\n\r\n.\r\nMAIL FROM:<"+bob+">\r\n")
		}
		if !found {
			t.Error("the message in chunks was not delivered as it is")
		}
		// Bare line ends in chunks, and a CRLF that is split between two.
		p.envelope(bob)
		p.send("BDAT 8 LAST\r\nFrom: x\nNOOP\r\n")
		p.hear("BDAT", "550")
		p.hear("NOOP", "250")
		p.envelope(bob)
		p.send("BDAT 1\r\nxBDAT 1\r\n\rBDAT 1 LAST\r\nxNOOP\r\n")
		p.hear("BDAT", "")
		p.hear("BDAT", "")
		p.hear("BDAT", "5")
		p.hear("NOOP", "250")
		// Chunks that are cut off.
		p.envelope(bob)
		p.send("BDAT 1000 LAST\r\nFrom: " + alice + "\r\nSubject: cut off\r\n\r\n")
		p.Close()
		// Many chunks above the limit.
		p = g.smtpOf(pemFile)
		p.envelope(bob)
		go func() {
			for range 40 {
				p.send("BDAT 1000000\r\n" + strings.Repeat("never whole\n", 83334)[:1000000])
			}
			p.send("QUIT\r\n")
		}()
		if out := p.over(patience); strings.Contains(out, "250 2.0.0 OK: queued") {
			t.Errorf("%q", out)
		}
	})

	t.Run("other protocols", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, first := range []string{"GET /ECHO HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nEHLO ECHO\r\nMAIL FROM:<" + alice + ">\r\n",
			"a1 LOGIN ECHO x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "Host: ECHO\r\nEHLO x\r\n"} {
			p := g.secure(g.shared, g.tlsConfig(pemFile, "smtp"))
			p.until("220 ")
			p.send(first)
			if out := p.over(8 * time.Second); strings.Contains(out, "ECHO") || strings.Count(out, "\r\n") != 1 {
				t.Errorf("%q: %q", first, out)
			}
		}
	})
}

// renewed is another conversation in the place of p.
func (p *peer) renewed(g *gateway, pemFile string) *peer {
	p.t.Helper()
	p.Close()
	return g.smtpOf(pemFile)
}
