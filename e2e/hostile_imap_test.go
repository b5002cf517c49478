package e2e

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestHostileIMAPBeforeLogin(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(alice)

	for _, literal := range []string{
		"{4097}", "{5000}", "{4294967296}", "{18446744073709551616}", "{99999999999999999999999999}", "{-1}", "{-0}", "{+5}", "{0x10}", "{1e3}",
		"{5++}", "{5+ }", "{ 5}", "{5 }", "{}", "{+}", "{5-}", "{٣}", "{5", "~{5}", "~{5+}", "{{5}}", "{5}{5}", "{5}x", `"{5}`, "{\"5\"}",
	} {
		t.Run("no literal "+literal+" is asked for", func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			for _, command := range []string{"t LOGIN %s", "t LOGIN alice %s", "t ID (%s", "%s LOGIN alice x", "t%s NOOP", "t NOOP %s", "t AUTHENTICATE %s", "t SELECT %s", "t APPEND INBOX %s"} {
				p := g.imapOf("")
				p.send(fmt.Sprintf(command, literal) + "\r\nz LOGOUT\r\n")
				out, _ := p.rest()
				if strings.Contains(out, "+ ") || strings.Contains(out, "t OK") || !strings.Contains(out, "BAD") && !strings.Contains(out, "BYE") && !strings.Contains(out, " NO ") {
					t.Errorf(command+": %q", literal, out)
				}
			}
		})
	}

	t.Run("a good literal is", func(t *testing.T) {
		t.Parallel()
		p := g.in(t).imapOf("")
		p.send(fmt.Sprintf("t LOGIN {%d}\r\n", len(alice)))
		p.until("+")
		p.send(fmt.Sprintf("%s {%d+}\r\n%s\r\n", alice, len(password), password))
		p.until("t OK")
	})

	for name, input := range map[string]struct {
		head, body string
		times      int
	}{
		"a line without end":               {"a LOGIN ", strings.Repeat("x", 1<<16), 10000},
		"a tag without end":                {"", strings.Repeat("x", 1<<16), 10000},
		"a quoted string without end":      {`a LOGIN "`, strings.Repeat(`\"`, 1<<15), 10000},
		"a non-synchronizing 10 GB":        {"a LOGIN {10000000000+}\r\n", strings.Repeat("x", 1<<16), 10000},
		"a non-synchronizing 5 kB":         {"a LOGIN {5000+}\r\n", strings.Repeat("x", 1<<16), 10000},
		"10,000 small literals":            {"a LOGIN ", "{1+}\r\na ", 10000},
		"10,000 small literals in ID":      {"a ID (", "{1+}\r\na {1+}\r\nb ", 10000},
		"a SASL response without end":      {"a AUTHENTICATE PLAIN\r\n", strings.Repeat("A", 1<<16), 10000},
		"an initial response without end":  {"a AUTHENTICATE PLAIN ", strings.Repeat("A", 1<<16), 10000},
		"an ID without end":                {"a ID (", `"a" "b" `, 100000},
		"parentheses without end":          {"a ID ", strings.Repeat("(", 1<<16), 10000},
		"commands without end":             {"", strings.Repeat("a NOOP\r\n", 1000), 10000},
		"bad commands without end":         {"", strings.Repeat("a BOGUS\r\n", 1000), 10000},
		"a NUL":                            {"a NOOP\x00\r\n", "a NOOP\r\n", 10},
		"a bare LF":                        {"a NOOP\n", "a NOOP\r\n", 10},
		"a bare CR":                        {"a NOOP\rb NOOP\r\n", "a NOOP\r\n", 10},
		"HTTP":                             {"GET /ECHO HTTP/1.1\r\n", "Host: ECHO\r\n", 10},
		"SMTP":                             {"EHLO ECHO\r\n", "MAIL FROM:<ECHO>\r\n", 10},
		"garbage":                          {"\xff\xfe\xfd\x00\x01", "\xff\r\n", 10},
		"a literal that is refused, of it": {"a LOGIN {4097+}\r\n", "b LOGIN " + alice + " " + password + "\r\n", 200},
	} {
		t.Run("ends the connection early: "+name, func(t *testing.T) {
			t.Parallel()
			p := g.in(t).imapOf("")
			sent := make(chan int)
			go func() {
				defer close(sent)
				n, _ := io.WriteString(p.Conn, input.head)
				for range input.times {
					m, err := io.WriteString(p.Conn, input.body)
					if n += m; err != nil {
						break
					}
				}
				sent <- n
			}()
			out := p.over(8*time.Second + slack)
			p.Close()
			if n := <-sent; n > 20<<20 {
				t.Errorf("%d bytes were taken", n)
			}
			if strings.Contains(out, "b OK") || strings.Contains(out, "ECHO") || strings.Count(out, " OK ") > 2000 {
				t.Errorf("%.300q", out)
			}
		})
	}
	t.Cleanup(func() {
		if rss := g.proc("VmHWM"); rss > 300<<10 {
			t.Errorf("the gateway grew to %d kB", rss)
		}
	})
}

func TestHostileIMAP(t *testing.T) {
	g := newGateway(t, "max_message_size: 1 MiB\n")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	g.submit(pemFile, alice, alice, letter(alice, alice, "one", "First."))

	for name, command := range map[string]string{
		"no tag":               " NOOP",
		"a tag with +":         "+ NOOP",
		"a tag with *":         "* NOOP",
		"a tag with %":         "%s NOOP",
		"a tag with a brace":   "t{ NOOP",
		"a tag with a quote":   `"t" NOOP`,
		"a long tag":           strings.Repeat("t", 5000) + " NOOP",
		"a tag with 8 bits":    "t\xff NOOP",
		"a tag alone":          "t",
		"two spaces":           "t  NOOP",
		"arguments":            "t NOOP x",
		"an open quote":        `t SELECT "INBOX`,
		"an open parenthesis":  "t FETCH 1 (FLAGS",
		"a closed parenthesis": "t FETCH 1 FLAGS)",
		"format verbs":         "t %s%n%x %d",
		"format verbs, quoted": `t SELECT "%s%n%x"`,
		"8 bits":               "t SELECT \xff\xfe",
		"a NUL":                "t NOOP\x00",
		"a NUL, quoted":        "t SELECT \"INBOX\x00\"",
		"a bare CR":            "t CREATE cr\rt CREATE cr2",
		"a bare LF":            "t CREATE lf\nt CREATE lf2",
		"set 0":                "t FETCH 0 FLAGS",
		"set 0:1":              "t FETCH 0:1 FLAGS",
		"set -1":               "t FETCH -1 FLAGS",
		"set 2^32":             "t FETCH 4294967296 FLAGS",
		"set 1:":               "t FETCH 1: FLAGS",
		"set ,":                "t FETCH , FLAGS",
		"set 1,,2":             "t FETCH 1,,2 FLAGS",
		"set *:*:*":            "t FETCH *:*:* FLAGS",
		"an unknown item":      "t FETCH 1 NONSENSE",
		"an open section":      "t FETCH 1 BODY[",
		"a section -1":         "t FETCH 1 BODY[-1]",
		"a negative partial":   "t FETCH 1 BODY[]<-1.5>",
		"an empty partial":     "t FETCH 1 BODY[]<0.0>",
		"a partial of 2^64":    "t FETCH 1 BODY[]<0.18446744073709551616>",
		"a bad flag":           `t STORE 1 FLAGS (\\\Seen)`,
		"a bad store":          "t STORE 1 NONSENSE (x)",
		"a bad search":         "t SEARCH NONSENSE",
		"a bad date":           "t SEARCH SINCE 99-Foo-0000",
		"a bad charset":        "t SEARCH CHARSET NONSENSE ALL",
		"a bad number":         "t SEARCH LARGER 99999999999999999999",
		"a bad APPEND":         "t APPEND",
		"a bad date in APPEND": `t APPEND INBOX "nonsense" {1+}` + "\r\nx",
		"APPEND to nowhere":    "t APPEND nowhere {1+}\r\nx",
		"APPEND of nothing":    "t APPEND INBOX {0+}\r\n",
		"a literal in the tag": "{1+}\r\nt NOOP",
		"a bad literal":        "t SELECT {5x}",
		"a negative literal":   "t SELECT {-5}",
		"a literal of 2^64":    "t SELECT {18446744073709551616}",
		"a literal of 2^64+":   "t SELECT {18446744073709551616+}",
		"literal8":             "t SELECT ~{5+}\r\nINBOX",
		"a literal with a NUL": "t SELECT {5+}\r\nIN\x00BX",
		"a literal with CRLF":  "t SELECT {7+}\r\nIN\r\nBOX",
		"LOGIN":                "t LOGIN alice x",
		"STARTTLS":             "t STARTTLS",
		"COMPRESS":             "t COMPRESS DEFLATE",
		"nonsense":             "t NONSENSE",
		"UID alone":            "t UID",
		"UID NOOP":             "t UID NOOP",
		"DONE":                 "DONE",
		"50 kB":                "t SELECT " + strings.Repeat("x", 50000),
		"100 kB, quoted":       `t SELECT "` + strings.Repeat("x", 100000) + `"`,
		"5,000 parentheses":    "t SEARCH " + strings.Repeat("(", 5000) + "ALL" + strings.Repeat(")", 5000),
		"5,000 times NOT":      "t SEARCH " + strings.Repeat("NOT ", 5000) + "NONSENSE",
	} {
		t.Run("BAD or closed, without effect: "+name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			p := g.imapOf(pemFile)
			p.do("SELECT INBOX", "OK")
			start := time.Now()
			p.send(command + "\r\nz LOGOUT\r\n")
			out := p.over(10 * time.Second)
			if strings.Contains(out, "t OK") || strings.Contains(out, "\x00") {
				t.Errorf("%.300q", out)
			}
			if !strings.Contains(out, "BAD") && !strings.Contains(out, "NO ") && !strings.Contains(out, "* BYE") {
				t.Errorf("not refused: %.300q", out)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}

	for name, command := range map[string]string{
		"60 deep":                   "SEARCH " + strings.Repeat("(", 60) + "ALL" + strings.Repeat(")", 60),
		"3,000 times NOT":           "SEARCH " + strings.Repeat("NOT ", 3000) + "ALL",
		"2,000 times OR":            "SEARCH " + strings.Repeat("OR ALL ", 2000) + "ALL",
		"2,000 times TEXT":          "SEARCH" + strings.Repeat(" TEXT xyzzy", 2000),
		"2,000 times BODY":          "SEARCH" + strings.Repeat(" NOT BODY xyzzy", 2000),
		"2,000 headers":             "SEARCH" + strings.Repeat(" HEADER x y", 2000),
		"sets":                      "SEARCH " + strings.Repeat("1:4294967295,", 3000) + "1",
		"UID sets":                  "SEARCH UID " + strings.Repeat("*:1,", 8000) + "1",
		"numbers":                   "FETCH " + strings.Repeat("1,", 20000) + "1 FLAGS",
		"ranges":                    "FETCH " + strings.Repeat("1:4294967295,", 3000) + "1 FLAGS",
		"UID ranges":                "UID FETCH " + strings.Repeat("1:4294967295,", 3000) + "1 UID",
		"sections":                  "FETCH 1 (" + strings.Repeat("BODY.PEEK[] ", 3000) + "FLAGS)",
		"deep sections":             "FETCH 1 BODY.PEEK[" + strings.Repeat("1.", 10000) + "1]",
		"header fields":             "FETCH 1 BODY.PEEK[HEADER.FIELDS (" + strings.Repeat("x ", 10000) + "y)]",
		"envelopes":                 "FETCH 1 (" + strings.Repeat("ENVELOPE BODYSTRUCTURE ", 1500) + "FLAGS)",
		"a partial that overflows":  "FETCH 1 BODY.PEEK[]<1.9223372036854775807>",
		"a partial behind the end":  "FETCH 1 BODY.PEEK[]<9223372036854775807.1>",
		"both":                      "FETCH 1 BODY.PEEK[]<9223372036854775807.9223372036854775807>",
		"a partial of 2^32":         "FETCH 1 BODY.PEEK[]<4294967295.4294967295>",
		"flags":                     "STORE 1 +FLAGS (" + strings.Repeat("flag ", 5000) + "x)",
		"many flags":                "STORE 1 +FLAGS (" + manyWords("flag", 4000) + ")",
		"patterns":                  `LIST "" "` + strings.Repeat("*a", 5000) + `"`,
		"wild cards":                `LIST "" "` + strings.Repeat("*%", 10000) + `"`,
		"a list of patterns":        `LIST "" (` + strings.Repeat("* ", 5000) + "*)",
		"deep mailboxes":            "CREATE " + strings.Repeat("a/", 500) + "a",
		"copies of what is not":     "COPY 2:4294967295 Sent",
		"moves of what is not":      "UID MOVE 4000000000:4000000001 Trash",
		"copies to itself":          "COPY 1 INBOX",
		"expunges of all":           "UID EXPUNGE 2:4294967295",
		"a rename into itself":      "RENAME Archive Archive/x/y",
		"a STATUS of much":          "STATUS INBOX (" + strings.Repeat("MESSAGES ", 4000) + "UNSEEN)",
		"an ID of much":             "ID (" + strings.Repeat(`"a" "b" `, 3000) + `"a" "b")`,
		"an ENABLE of much":         "ENABLE " + strings.Repeat("X ", 10000) + "Y",
		"a date in the year 9999":   "SEARCH SINCE 31-Dec-9999",
		"a search for a huge text":  `SEARCH TEXT "` + strings.Repeat("x", 40000) + `"`,
		"a regular expression bomb": `SEARCH TEXT "(x+x+)+y"`,
	} {
		t.Run("answered or refused in 10 s: "+name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			p := g.imapOf(pemFile)
			p.do("SELECT INBOX", "OK")
			start := time.Now()
			p.send("t " + command + "\r\nz LOGOUT\r\n")
			n, answered := 0, false
			for {
				line, err := p.r.ReadString('\n')
				n += len(line)
				if strings.HasPrefix(line, "t ") || strings.HasPrefix(line, "* BYE") {
					answered = true
				}
				if err != nil {
					break
				}
			}
			if took := time.Since(start); !answered || took > 10*time.Second || n > 10<<20 {
				t.Errorf("answered: %v, after %v with %d bytes", answered, took, n)
			}
		})
	}

	for _, name := range []string{
		`"a&AAA-b"`, "\"tab\there\"", "{3+}\r\na\x01b", "{3+}\r\na\x7fb", "{4+}\r\na\r\nb", "{3+}\r\na\x00b", `".."`, `"../../etc/passwd"`, `"a/../b"`, `"a/./b"`, `"."`,
		`"a//b"`, `"/a"`, `"//"`, `""`, `"` + strings.Repeat("x", 10000) + `"`, `"` + strings.Repeat("x/", 5000) + `x"`, `"*"`, `"a%"`, `"&"`, `"&ACA"`, `"&AGE-"`, `"&2AA-"`,
		"\"\xc0\xaf\"", "\"\xff\"", `"\u202e"`[:1] + "\u202e" + `"`, "\"\u0085\"", "\"a\u2028b\"",
	} {
		t.Run(fmt.Sprintf("no mailbox %.40q", name), func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			for _, command := range []string{"CREATE %s", "RENAME Archive %s", "SUBSCRIBE %s", "SELECT %s", "APPEND %s {1+}\r\nx", "COPY 1 %s"} {
				p := g.imapOf(pemFile)
				p.do("EXAMINE INBOX", "OK")
				p.send("t " + fmt.Sprintf(command, name) + "\r\nz LOGOUT\r\n")
				out, _ := p.rest()
				if strings.Contains(out, "t OK") {
					t.Errorf(command+": %.200q", name, out)
				}
			}
		})
	}

	t.Run("APPEND above the limit is not asked for", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		_, limit, _ := strings.Cut(g.imapOf(pemFile).do("CAPABILITY", "OK"), " APPENDLIMIT=")
		most, err := strconv.Atoi(strings.Fields(limit)[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []string{fmt.Sprint(most + 1), "10000000000", "4294967296", "4294967297", "9223372036854775808", "18446744073709551617", "-1"} {
			p := g.imapOf(pemFile)
			p.send("t APPEND INBOX {" + size + "}\r\n")
			if answer := p.line(); !strings.HasPrefix(answer, "t NO") && !strings.HasPrefix(answer, "t BAD") {
				t.Errorf("{%s}: %q", size, answer)
			}
			p.do("NOOP", "OK")
			p = g.imapOf(pemFile)
			p.send("t APPEND INBOX {" + size + "+}\r\n" + strings.Repeat("z CREATE injected\r\n", 10000) + "z LOGOUT\r\n")
			if out, _ := p.rest(); strings.Contains(out, "OK") {
				t.Errorf("{%s+}: %.200q", size, out)
			}
		}
		if out := g.imapOf(pemFile).do(`LIST "" injected`, "OK"); strings.Contains(out, "* LIST") {
			t.Error("octets of a refused message were executed")
		}
	})

	t.Run("an APPEND that is cut off adds nothing", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		g.account(bob)
		bobs := g.key(bob, "bob")
		for _, part := range []int{0, 1, 100, 99999, 100000} {
			p := g.imapOf(bobs)
			p.send("t APPEND INBOX {100000}\r\n")
			p.until("+")
			p.send(strings.Repeat("x\r\n", 40000)[:part])
			p.Close()
		}
		p := g.imapOf(bobs)
		p.send("t APPEND INBOX {5}\r\n")
		p.until("+")
		p.send("x\r\ny\r z NOOP\r\n") // more than announced
		if out := p.until("t "); strings.HasPrefix(out, "t OK") {
			t.Errorf("APPEND with more behind it: %q", out)
		}
		if out := g.imapOf(bobs).do("STATUS INBOX (MESSAGES)", "OK"); !strings.Contains(out, "MESSAGES 0") {
			t.Errorf("%s", out)
		}
	})

	t.Cleanup(func() {
		g := g.in(t)
		if out := g.imapOf(pemFile).do("STATUS INBOX (MESSAGES)", "OK"); !strings.Contains(out, "MESSAGES 1") && !strings.Contains(out, "MESSAGES 2") {
			t.Errorf("the INBOX has %s", out)
		}
		if out := g.imapOf(pemFile).do(`LIST "" *`, "OK"); strings.Contains(out, "cr2") || strings.Contains(out, "lf") || strings.Contains(out, "..") {
			t.Errorf("mailboxes: %s", out)
		}
		g.alive(pemFile)
		if rss := g.proc("VmHWM"); rss > 400<<10 {
			t.Errorf("the gateway grew to %d kB", rss)
		}
	})
}

func manyWords(word string, n int) string {
	var all strings.Builder
	for i := range n {
		fmt.Fprint(&all, word, i, " ")
	}
	return strings.TrimSuffix(all.String(), " ")
}

func TestHostileFloodOfCommands(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	g.imapOf(pemFile).do("NOOP", "OK")
	before := g.proc("VmRSS")
	for name, command := range map[string]string{"NOOP": "t NOOP\r\n", "LIST": "t LIST \"\" *\r\n", "CAPABILITY": "t CAPABILITY\r\n", "bad": "t\r\n"} {
		t.Run("300,000 times "+name+", unread", func(t *testing.T) {
			g := g.in(t)
			p := g.imapOf(pemFile)
			_ = p.SetDeadline(time.Now().Add(3 * time.Second)) // it may take none of it
			block := strings.Repeat(command, 1000)
			for range 300 {
				if _, err := io.WriteString(p.Conn, block); err != nil {
					break
				}
			}
			if after := g.proc("VmRSS"); after > before+64<<10 {
				t.Errorf("the gateway grew from %d to %d kB", before, after)
			}
			g.imapOf(pemFile).do("NOOP", "OK")
		})
	}
}

// TestHostileMail: no message blocks the mailbox that it is in.
func TestHostileMail(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	head := "From: " + alice + "\r\nSubject: hostile\r\nMIME-Version: 1.0\r\n"

	nested := func(depth int, typ string) string {
		var b strings.Builder
		for i := range depth {
			fmt.Fprintf(&b, "Content-Type: %s; boundary=b%d\r\n\r\n--b%d\r\n", typ, i, i)
		}
		return b.String() + "\r\nx\r\n"
	}
	mails := map[string]string{
		"a multipart with no parts":         "Content-Type: multipart/mixed; boundary=b\r\n\r\nx\r\n",
		"a multipart with no boundary":      "Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nx\r\n",
		"an empty boundary":                 "Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\nx\r\n--\r\n",
		"an empty multipart":                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n",
		"5,000 nested multiparts":           nested(5000, "multipart/mixed"),
		"230 kB of nested multiparts":       strings.Repeat("Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\n", 230000/47),
		"nested multipart/digest":           nested(1000, "multipart/digest"),
		"20,000 parts":                      "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n", 20000) + "--b--\r\n",
		"5,000 nested messages":             strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 5000) + "\r\nx\r\n",
		"230 kB of nested messages":         strings.Repeat("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n", 230000/46) + "\r\n",
		"messages in multiparts":            strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n", 2000) + "\r\n",
		"1 MB of encoded words":             "Subject: " + strings.Repeat("=?utf-8?b?eHl6?=\r\n ", 50000) + "\r\n\r\nx\r\n",
		"50,000 addresses":                  "To: " + strings.Repeat("a@b, ", 10000) + "a@b\r\nCc: " + strings.Repeat("\"x\" <a@b>,\r\n ", 40000) + "a@b\r\n\r\n",
		"nested comments":                   "To: " + strings.Repeat("(", 50000) + "\r\n\r\n",
		"open quotes":                       "To: " + strings.Repeat(`"\`, 50000) + "\r\n\r\n",
		"nested groups":                     "To: " + strings.Repeat("a:", 50000) + ";\r\n\r\n",
		"30,000 parameters":                 "Content-Type: text/plain" + strings.Repeat("; a=b", 30000) + "\r\n\r\nx\r\n",
		"30,000 continuations":              "Content-Type: text/plain" + strings.Repeat(";\r\n a*1*=utf-8''%41", 20000) + "\r\n\r\nx\r\n",
		"a boundary of 100 kB":              "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 100000) + "\r\n\r\n--" + strings.Repeat("b", 100000) + "\r\n\r\nx\r\n",
		"control characters in the header":  "Subject: a\x01\x1b[2Jb\x7f\r\nTo: \x01\x02 <\x03@\x04>\r\n\r\nx\r\n",
		"8 bits in the header":              "Subject: \xff\xfe\r\nContent-Type: text/\xff; name=\"\xff\"\r\n\r\n\xff\r\n",
		"a message-id with quotes":          "Message-ID: <\"\\\"@x>\r\nIn-Reply-To: \"\r\nContent-ID: \\\"\r\nContent-Description: \"\\\r\n\r\nx\r\n",
		"a broken transfer encoding":        "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("!", 100000) + "\r\n",
		"an unknown character set":          "Content-Type: text/plain; charset=\"%s\\\"\"\r\n\r\n" + strings.Repeat("x", 100000) + "\r\n",
		"dates that are none":               "Date: 99 Foo 99999 99:99:99 +9999\r\n\r\nx\r\n",
		"no header at all":                  "\r\n\r\n\r\n",
		"a line of 1 MB":                    "\r\n" + strings.Repeat("x", 1<<20) + "\r\n",
		"a boundary that ends its own part": "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n--b--\r\n",
	}
	p, q := g.smtpOf(pemFile), g.imapOf(pemFile)
	stored := 0
	for name, mail := range mails {
		start := time.Now()
		p.envelope(alice)
		p.ask("DATA", "354")
		p.send(head + mail + ".\r\n")
		if strings.HasPrefix(p.hear(name, ""), "250") {
			stored++
		}
		q.send(fmt.Sprintf("t APPEND Archive {%d}\r\n", len(head+mail)))
		if strings.HasPrefix(q.line(), "+") {
			q.send(head + mail + "\r\n")
			q.until("t ")
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: storing it took %v", name, took)
		}
	}
	if stored < len(mails)/2 {
		t.Errorf("only %d of %d were taken by submission", stored, len(mails))
	}
	for _, mailbox := range []string{"INBOX", "Archive"} {
		for _, command := range []string{
			"FETCH 1:* BODYSTRUCTURE", "FETCH 1:* ENVELOPE", "FETCH 1:* FULL", "FETCH 1:* BODY.PEEK[]", "FETCH 1:* BODY.PEEK[1.1.1.1.1.1.1.1]",
			"FETCH 1:* (BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[TEXT] BODY.PEEK[2])", "FETCH 1:* BODY.PEEK[" + strings.Repeat("1.", 200) + "1]",
			"FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT TO DATE)]", "FETCH 1:* (BINARY.PEEK[1] BINARY.SIZE[1])",
			"SEARCH TEXT xyzzy", "SEARCH BODY x", "SEARCH SUBJECT xyz", "SEARCH OR FROM a HEADER To b", "SEARCH SENTSINCE 1-Jan-2020",
		} {
			p := g.imapOf(pemFile)
			p.do("EXAMINE "+mailbox, "OK")
			start := time.Now()
			out := p.do(command, "")
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("%.60s in %s took %v", command, mailbox, took)
			}
			if !strings.Contains(out, "\nt OK") && !strings.HasPrefix(out, "t OK") && !strings.Contains(out, "t NO [UNKNOWN-CTE]") {
				t.Errorf("%.60s in %s: %.300q", command, mailbox, out[max(0, len(out)-300):])
			}
		}
	}
	g.alive(pemFile)
	if rss := g.proc("VmHWM"); rss > 600<<10 {
		t.Errorf("the gateway grew to %d kB", rss)
	}
}
