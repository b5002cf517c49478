package sendmail_test

import (
	"bytes"
	"errors"
	"io"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"mime/quotedprintable"

	"posthorn/client/sendmail"
)

const alice = "alice@example.org"

// text returns the whole of a message.
func text(t testing.TB, m *sendmail.Message) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(m.Text, 0, m.Size+1))
	if err != nil || int64(len(b)) != m.Size {
		t.Fatalf("%d octets of %d, %v", len(b), m.Size, err)
	}
	return string(b)
}

// parts prepares an input and returns the message with its header, parsed, and its
// body.
func parts(t testing.TB, r sendmail.Rules, in string) (*sendmail.Message, mail.Header, string) {
	t.Helper()
	m, err := r.Prepare(strings.NewReader(in))
	if err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	parsed, err := mail.ReadMessage(strings.NewReader(text(t, m)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(parsed.Body)
	if err != nil {
		t.Fatal(err)
	}
	return m, parsed.Header, string(body)
}

func TestBody(t *testing.T) {
	for name, c := range map[string]struct {
		in, body string
		whole    bool
	}{
		"LF":                {"A: b\n\n1\n2\n", "1\r\n2\r\n", true},
		"CRLF":              {"A: b\r\n\r\n1\r\n2\r\n", "1\r\n2\r\n", true},
		"mixed":             {"A: b\n\r\n1\n2\r\n", "1\r\n2\r\n", true},
		"no end":            {"A: b\n\n1\n2", "1\r\n2\r\n", true},
		"a dot":             {"A: b\n\n1\n.\n2\n", "1\r\n", false},
		"a dot and CRLF":    {"A: b\r\n\r\n1\r\n.\r\n2\r\n", "1\r\n", false},
		"a dot in the text": {"A: b\n\n1\n.\n2\n", "1\r\n.\r\n2\r\n", true},
		"more than a dot":   {"A: b\n\n..\n. \n.x\n", "..\r\n. \r\n.x\r\n", false},
		"bare CR and NUL":   {"A: b\n\n1\r2\x003\r\r\n", "1 2 3 \r\n", true},
		"no header":         {"just text\nA: b\n", "just text\r\nA: b\r\n", true},
		"mbox":              {"From me Mon\nA: b\n\nFrom you\n", "From you\r\n", true},
		"no empty line":     {"A: b\nno field\n", "no field\r\n", true},
		"nothing":           {"", "", true},
		"no body":           {"A: b", "", true},
		"two empty lines":   {"A: b\n\n\n1\n", "\r\n1\r\n", true},
		"a blank line":      {"A: b\n \n\n1\n", "1\r\n", true},
		"smuggling":         {"A: b\n\n1\r\n\r.\r\r\n.\n2\n", "1\r\n . \r\n.\r\n2\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			m, _, body := parts(t, sendmail.Rules{Address: alice, Recipients: []string{"bob@x.org"}, WholeInput: c.whole}, c.in)
			if body != c.body || m.EightBit || m.UTF8 {
				t.Errorf("%q, %+v", body, m.Envelope)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	_, h, _ := parts(t, sendmail.Rules{Address: alice, HeaderRecipients: true},
		"to: bob@x.org\nBcc : c@x.org,\n d@x.org\nResent-Bcc: e@x.org\nReturn-Path: <f@x.org>\nBCC: g@x.org\nSubject: s\n\tt\n\n")
	if h.Get("From") != alice || h.Get("Date") == "" || !strings.HasSuffix(h.Get("Message-ID"), "@example.org>") || h.Get("Subject") != "s t" {
		t.Errorf("%v", h)
	}
	for _, name := range []string{"Bcc", "Resent-Bcc", "Return-Path"} {
		if h.Get(name) != "" {
			t.Errorf("%s is there", name)
		}
	}
	_, h, _ = parts(t, sendmail.Rules{Address: alice, Recipients: []string{"bob@x.org"}}, "Date: d\nMessage-Id: <m@x>\nFrom: b@x.org\n\n")
	if h.Get("Date") != "d" || len(h["Date"]) != 1 || h.Get("Message-ID") != "<m@x>" || h.Get("From") != "b@x.org" {
		t.Errorf("%v", h)
	}
}

func TestSender(t *testing.T) {
	for name, c := range map[string]struct {
		rules        sendmail.Rules
		in           string
		sender, from string
	}{
		"the user's":      {sendmail.Rules{Address: alice}, "", alice, alice},
		"-f":              {sendmail.Rules{Address: alice, Sender: "al@x.org"}, "", "al@x.org", "al@x.org"},
		"-f with a name":  {sendmail.Rules{Address: alice, Sender: "Al <al@x.org>"}, "", "al@x.org", "al@x.org"},
		"-f root":         {sendmail.Rules{Address: alice, Sender: "root"}, "", alice, alice},
		"-f <>":           {sendmail.Rules{Address: alice, Sender: "<>"}, "", "", alice},
		"-F":              {sendmail.Rules{Address: alice, FullName: `A "x", Z`}, "", alice, `"A \"x\", Z" <` + alice + ">"},
		"-F beyond ASCII": {sendmail.Rules{Address: alice, FullName: "Älis"}, "", alice, "=?utf-8?q?=C3=84lis?= <" + alice + ">"},
		"-F injects":      {sendmail.Rules{Address: alice, FullName: "x\nBcc: y@z"}, "", alice, "=?utf-8?q?x=0ABcc:_y@z?= <" + alice + ">"},
		"cron's":          {sendmail.Rules{Address: alice}, "From: root (Cron Daemon)\n", alice, `"Cron Daemon" <` + alice + ">"},
		"cronie's":        {sendmail.Rules{Address: alice}, "From: \"(Cron Daemon)\" <root>\n", alice, `"(Cron Daemon)" <` + alice + ">"},
		"from the header": {sendmail.Rules{}, "From: Bob <b@x.org>\n", "b@x.org", "Bob <b@x.org>"},
		"another's":       {sendmail.Rules{Address: alice}, "From: www@localhost\n", alice, "www@localhost"},
		"another's, no":   {sendmail.Rules{Address: alice, ReplaceSender: true, Sender: "www@localhost"}, "From: Web <www@localhost>\n", alice, "Web <" + alice + ">"},
	} {
		t.Run(name, func(t *testing.T) {
			c.rules.Recipients = []string{"bob@x.org"}
			m, h, _ := parts(t, c.rules, c.in+"\n")
			if m.Sender != c.sender || h.Get("From") != c.from || len(h["From"]) != 1 {
				t.Errorf("%q, %q", m.Sender, h["From"])
			}
		})
	}
	if _, err := (&sendmail.Rules{Recipients: []string{"bob@x.org"}}).Prepare(strings.NewReader("\n")); sendmail.Code(err) != sendmail.Config {
		t.Errorf("nobody sends: %v", err)
	}
}

func TestRecipients(t *testing.T) {
	aliases := map[string][]string{"root": {"a@x.org", "b@x.org"}, "*": {"all@x.org"}}
	for name, c := range map[string]struct {
		rules sendmail.Rules
		in    string
		want  string
	}{
		"arguments":        {sendmail.Rules{Recipients: []string{"a@x.org", "Bob <b@X.org>, b@x.org", "a@x.org"}}, "To: c@x.org\n", "a@x.org b@X.org"},
		"header":           {sendmail.Rules{HeaderRecipients: true}, "To: a@x.org,\n \"x, y\" <b@x.org>\ncc: c@x.org (see, d@x.org)\nBcc: John Q. Public <e@x.org>\n", "a@x.org b@x.org c@x.org e@x.org"},
		"both":             {sendmail.Rules{HeaderRecipients: true, Recipients: []string{"z@x.org"}}, "To: a@x.org\n", "z@x.org a@x.org"},
		"groups":           {sendmail.Rules{HeaderRecipients: true}, "To: undisclosed-recipients:;\nCc: us: a@x.org, b@x.org;, c@x.org\n", "a@x.org b@x.org c@x.org"},
		"sent on":          {sendmail.Rules{HeaderRecipients: true}, "Resent-To: n@x.org\nResent-From: a@x.org\nResent-From: z@x.org\nResent-To: o@x.org\nTo: a@x.org\n", "n@x.org"},
		"routes":           {sendmail.Rules{HeaderRecipients: true}, "To: <@a,@b:c@x.org>\n", "c@x.org"},
		"names":            {sendmail.Rules{Address: alice, Recipients: []string{"bob"}}, "", "bob@example.org"},
		"aliases":          {sendmail.Rules{Aliases: aliases, Recipients: []string{"Root", "nobody"}}, "", "a@x.org b@x.org all@x.org"},
		"literals":         {sendmail.Rules{Recipients: []string{"a@[IPv6:::1]", "b@[192.0.2.1]"}}, "", "a@[IPv6:::1] b@[192.0.2.1]"},
		"quotes not to be": {sendmail.Rules{Recipients: []string{`"a.b"@x.org`}}, "", "a.b@x.org"},
		"IDN":              {sendmail.Rules{Recipients: []string{"a@bücher.example"}}, "", "a@xn--bcher-kva.example"},
		"UTF-8":            {sendmail.Rules{Recipients: []string{"jürgen@bücher.example"}}, "", "jürgen@bücher.example"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.rules.Address == "" {
				c.rules.Sender = alice
			}
			m, _, _ := parts(t, c.rules, c.in+"\n")
			if got := strings.Join(m.Recipients, " "); got != c.want || m.UTF8 != (name == "UTF-8") {
				t.Errorf("%s, %v", got, m.UTF8)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		recipients string
		in         string
		code       sendmail.Exit
	}{
		"nobody":              {"", "To: a@x.org\n\n", sendmail.Usage},
		"parameters":          {"a@x.org> NOTIFY=NEVER", "\n", sendmail.DataErr},
		"parameters inside":   {"<a@x.org NOTIFY=NEVER>", "\n", sendmail.DataErr},
		"a line":              {"a@x.org\r\nRCPT TO:<b@x.org>", "\n", sendmail.DataErr},
		"a line inside":       {"<a@x.org\r\nDATA>", "\n", sendmail.DataErr},
		"NEL":                 {"a\u0085b@x.org", "\n", sendmail.DataErr},
		"bad UTF-8":           {"\xff@x.org", "\n", sendmail.DataErr},
		"two at":              {"a@b@x.org", "\n", sendmail.DataErr},
		"quoted at":           {`"a@b"@x.org`, "\n", sendmail.DataErr},
		"no domain":           {"a@", "\n", sendmail.DataErr},
		"no local part":       {"@x.org", "\n", sendmail.DataErr},
		"long":                {strings.Repeat("a", 300) + "@x.org", "\n", sendmail.DataErr},
		"open quote":          {`"a@x.org`, "\n", sendmail.DataErr},
		"open bracket":        {`<a@x.org`, "\n", sendmail.DataErr},
		"open comment":        {`a@x.org (`, "\n", sendmail.DataErr},
		"Latin-1":             {"a@x.org", "Subject: \xe9\n\n", sendmail.DataErr},
		"an endless header":   {"a@x.org", "A: b\n" + strings.Repeat(" "+strings.Repeat("x", 900)+"\n", 1200), sendmail.DataErr},
		"of one line as well": {"a@x.org", "A: " + strings.Repeat("x", 1<<21), sendmail.DataErr},
	} {
		t.Run(name, func(t *testing.T) {
			r := sendmail.Rules{Address: alice}
			if c.recipients != "" {
				r.Recipients = []string{c.recipients}
			}
			if m, err := r.Prepare(strings.NewReader(c.in)); sendmail.Code(err) != c.code {
				t.Errorf("%v, %+v", err, m)
			}
		})
	}
	r := sendmail.Rules{Address: alice, Recipients: []string{"b@x.org"}}
	if _, err := r.Prepare(io.MultiReader(strings.NewReader("A: b\n\nc"), iotest.ErrReader(io.ErrClosedPipe))); !errors.Is(err, io.ErrClosedPipe) || sendmail.Code(err) != sendmail.IOErr {
		t.Errorf("%v", err)
	}
}

func TestEightBit(t *testing.T) {
	m, _, body := parts(t, sendmail.Rules{Address: alice, Recipients: []string{"b@x.org"}}, "Subject: s\n\nGr\xfc\xdfe\n")
	if !m.EightBit || m.UTF8 || body != "Gr\xfc\xdfe\r\n" {
		t.Errorf("%q, %+v", body, m.Envelope)
	}
	if m, _, _ := parts(t, sendmail.Rules{Address: alice, Recipients: []string{"b@x.org"}}, "Subject: ü\n\n"); !m.UTF8 || !m.EightBit {
		t.Errorf("%+v", m.Envelope)
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("word ", 400) + "ü"
	m, h, body := parts(t, sendmail.Rules{Address: alice, Recipients: []string{"b@x.org"}}, "References: "+strings.Repeat("<a@b> ", 400)+"\n\n"+long+"\nx=y\n")
	decoded, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if err != nil || string(decoded) != long+"\r\nx=y\r\n" || h.Get("Content-Type") != "text/plain; charset=utf-8" ||
		h.Get("Content-Transfer-Encoding") != "quoted-printable" || h.Get("MIME-Version") != "1.0" || m.EightBit || strings.Count(h.Get("References"), "<a@b>") != 400 {
		t.Errorf("%v, %v, %q", err, h, decoded)
	}
	for line := range strings.SplitSeq(text(t, m), "\r\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d", len(line))
		}
	}
	for _, kind := range []string{"Content-Type: multipart/mixed; boundary=x\n", "Content-Transfer-Encoding: base64\n", "Content-Type: application/x\n"} {
		if _, _, body := parts(t, sendmail.Rules{Address: alice, Recipients: []string{"b@x.org"}}, kind+"\n"+long+"\n"); body != long+"\r\n" {
			t.Errorf("%s: the body has changed", kind)
		}
	}
}

// Whatever comes in, what goes out is fit for SMTP, and Bcc is not in it.
func FuzzPrepare(f *testing.F) {
	for _, in := range []string{
		"To: a@x.org\nBcc: b@x.org\n\nhello\n.\nx", "Bcc: secret@x.org\r\n \r\n\tb@x.org\r\n\r\nx\r.\r\ny", "From me\n>From you\nBcc\t: x@y.org\nTo: g:a@x.org;\n\n",
		"To: a@x.org\n\n" + strings.Repeat("x", 2000), "\x00\r\r\n\r", "Resent-To: a@x.org\nResent-Bcc: b@x.org\nX: \xff\n", "To: a@x.org\nFrom: root (x\\)\n y)\n\n\n",
	} {
		f.Add([]byte(in), true)
		f.Add([]byte(in), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, whole bool) {
		r := sendmail.Rules{Address: alice, Recipients: []string{"bob@x.org"}, HeaderRecipients: true, WholeInput: whole, FullName: string(in)}
		m, err := r.Prepare(bytes.NewReader(in))
		if err != nil {
			if sendmail.Code(err) != sendmail.DataErr {
				t.Fatalf("%v", err)
			}
			return
		}
		out := text(t, m)
		lines := strings.Split(out, "\r\n")
		if strings.ContainsAny(strings.Join(lines, ""), "\r\n\x00") || !strings.HasSuffix(out, "\r\n") {
			t.Fatalf("bare CR, LF or NUL: %q", out)
		}
		checkHeader(t, lines[:slices.Index(lines, "")])
		for _, a := range append(m.Recipients, m.Sender) {
			if strings.ContainsAny(a, " <>\r\n\x00\t") || strings.Count(a, "@") != 1 {
				t.Fatalf("the address %q", a)
			}
		}
		_, body, _ := strings.Cut(out, "\r\n\r\n")
		if again := bodyOf(in, whole); again != body && !strings.Contains(strings.ToLower(out), "quoted-printable") {
			t.Fatalf("the body %q is %q", again, body)
		}
	})
}

// checkHeader checks the lines of a header: no Bcc, each required field there.
func checkHeader(t *testing.T, lines []string) {
	t.Helper()
	count := make(map[string]int)
	for i, line := range lines {
		name, _, ok := strings.Cut(line, ":")
		folded := line[0] == ' ' || line[0] == '\t'
		if !folded && !ok || i == 0 && folded || strings.TrimSpace(line) == "" {
			t.Fatalf("%q is no field", line)
		}
		if !folded {
			count[strings.ToLower(strings.TrimSpace(name))]++
		}
	}
	if count["bcc"]+count["resent-bcc"] != 0 || count["from"] == 0 || count["date"] == 0 || count["message-id"] == 0 {
		t.Fatalf("%v", count)
	}
}

// bodyOf finds the body of an input in another way than Prepare does.
func bodyOf(in []byte, whole bool) string {
	s := strings.ReplaceAll(string(in), "\r\n", "\n")
	if strings.HasSuffix(string(in), "\r") { // the end of the last line as well
		s = strings.TrimSuffix(s, "\r")
		if s == "" || strings.HasSuffix(s, "\n") {
			s += "\n"
		}
	}
	s = strings.NewReplacer("\r", " ", "\x00", " ").Replace(strings.TrimSuffix(s, "\n"))
	lines := strings.Split(s, "\n")
	if len(in) == 0 {
		return ""
	}
	if i := slices.Index(lines, "."); i >= 0 && !whole {
		lines = lines[:i]
	}
	i, fields := 0, 0
	for ; i < len(lines); i++ {
		line := lines[i]
		name, _, colon := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		field := colon && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f })
		switch {
		case line == "":
			return join(lines[i+1:])
		case i == 0 && (strings.HasPrefix(line, "From ") || strings.HasPrefix(line, ">From ")):
		case field:
			fields++
		case fields > 0 && (line[0] == ' ' || line[0] == '\t'):
		default:
			return join(lines[i:])
		}
	}
	return ""
}

func join(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}
