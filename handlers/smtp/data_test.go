package smtp_test

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"posthorn/handlers/smtp"
	"posthorn/mux"
)

// data sends a message and reads the reply to it.
func (c *client) data(message, prefix string) string {
	c.t.Helper()
	c.cmd("DATA", "354")
	c.send(message + "\r\n.\r\n")
	return c.want(prefix)
}

func TestAddedFields(t *testing.T) {
	g := start(t, func(h *smtp.Handler, _ *mux.Config) {
		h.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	})
	c := g.login()
	c.envelope()
	c.data("Subject: x\r\n\r\nbody", "250")
	want := regexp.MustCompile(`^Received: from client\.example\.org \(\[127\.0\.0\.1\]\)\r\n` +
		`\tby mail\.example\.org with ESMTPSA id [A-Z0-9]{26}\r\n` +
		`\ttls TLS_[A-Z0-9_]+;\r\n` +
		`\tFri, 2 Jan 2026 03:04:05 \+0000\r\n` +
		`Date: Fri, 2 Jan 2026 03:04:05 \+0000\r\n` +
		`Message-ID: <[A-Z0-9]{26}@localhost>\r\n` +
		`From: <alice@localhost>\r\n` +
		`Subject: x\r\n\r\nbody\r\n$`)
	if got := g.one().text; !want.MatchString(got) {
		t.Errorf("got %q", got)
	}
}

// What MAIL FROM:<> and a name outside ASCII say nothing of.
func TestAddedFieldsOfNobody(t *testing.T) {
	g := start(t, nil)
	c := g.dial(g.key)
	c.cmd("EHLO jürgens-pc", "250")
	c.cmd("MAIL FROM:<>", "250")
	c.cmd("RCPT TO:<bob@localhost>", "250")
	c.data("Subject: x\r\n\r\nbody", "250")
	want := regexp.MustCompile(`^Received: from unknown \(\[127\.0\.0\.1\]\)\r\n(?s:.*)` +
		`Message-ID: <[A-Z0-9]{26}@localhost>\r\nFrom: <alice@localhost>\r\nSubject: x\r\n`)
	if m := g.one(); m.from != "" || !want.MatchString(m.text) {
		t.Errorf("got %+v", m)
	}
}

func TestFieldsKept(t *testing.T) {
	g := start(t, func(h *smtp.Handler, _ *mux.Config) { h.ReceivedFrom = false })
	c := g.login()
	c.cmd("MAIL FROM:<> SMTPUTF8", "250")
	c.cmd("RCPT TO:<bob@localhost>", "250")
	c.data("DATE: then\r\nmessage-id: <x@y>\r\nFrom: al@localhost\r\n\r\nbody", "250")
	want := regexp.MustCompile(`^Received: by mail\.example\.org with UTF8SMTPSA id [^\r]*\r\n\ttls [^\r]*\r\n\t[^\r]*\r\n` +
		`DATE: then\r\nmessage-id: <x@y>\r\nFrom: al@localhost\r\n\r\nbody\r\n$`)
	if got := g.one().text; !want.MatchString(got) {
		t.Errorf("got %q", got)
	}
}

func TestFromPolicies(t *testing.T) {
	const foreign = "Received: x\r\nFrom: \"Boss\" <boss@example.org>\r\nSender: s@example.org\r\nSubject: x\r\n\r\nbody"
	for _, c := range []struct {
		policy smtp.FromPolicy
		reply  string
		header string
	}{
		{"", "550 5.7.1", ""},
		{smtp.FromRefuse, "550 5.7.1", ""},
		{smtp.FromReplace, "250", "From: \"Boss\" <alice@localhost>\r\nReceived: x\r\nSubject: x\r\n\r\n"},
		{smtp.FromAllow, "250", "Received: x\r\nFrom: \"Boss\" <boss@example.org>\r\nSender: s@example.org\r\nSubject: x\r\n\r\n"},
	} {
		g := start(t, func(h *smtp.Handler, _ *mux.Config) { h.From = c.policy })
		cl := g.login()
		cl.envelope()
		cl.data(foreign, c.reply)
		if c.header != "" && !strings.Contains(g.one().text, c.header) {
			t.Errorf("%s: got %q", c.policy, g.one().text)
		}
		cl.cmd("RCPT TO:<bob@localhost>", "503") // the transaction is over either way
	}
}

// No field behind a line that ends the header for some readers comes to be
// taken for one by others.
func TestHiddenFrom(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.envelope()
	c.data("From: alice@localhost\r\nrubbish\r\nFrom: boss@example.org", "250")
	if got := g.one().text; !strings.HasSuffix(got, "From: alice@localhost\r\n\r\nrubbish\r\nFrom: boss@example.org\r\n") {
		t.Errorf("got %q", got)
	}
}

func TestSmuggling(t *testing.T) {
	g := start(t, nil)
	const next = "MAIL FROM:<alice@localhost>\r\nRCPT TO:<bob@localhost>\r\nDATA\r\nsmuggled\r\n"
	for _, end := range []string{
		"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\r\r\n",
	} {
		c := g.login()
		c.envelope()
		c.data("Subject: x\r\n\r\na"+end+next, "550 5.6.0")
		c.cmd("NOOP", "250") // nothing else was executed
	}
	if n := len(g.spool.taken()); n != 0 {
		t.Errorf("%d messages were taken", n)
	}
	for _, end := range []string{"\r\n.\v\r\n", "\r\n.\u0085\r\n", "\r\n..\r\n"} { // content
		c := g.login()
		c.envelope()
		c.data("Subject: x\r\n\r\na"+end+next, "250")
		c.cmd("NOOP", "250")
	}
}

// Lines that do not end in CRLF are not executed, and nor is what follows.
func TestBareLineFeeds(t *testing.T) {
	g := start(t, nil)
	for name, input := range map[string]string{
		"LF":      "NOOP\nNOOP\r\n",
		"CR":      "NOOP\rNOOP\r\nNOOP\r\n",
		"NUL":     "NO\x00OP\r\nNOOP\r\n",
		"long":    "NOOP " + strings.Repeat("x", 9000) + "\r\nNOOP\r\n",
		"endless": strings.Repeat("x", 100000),
		"ESC":     "NOOP \x1b[2J\r\nNOOP\r\n",
	} {
		c := g.login()
		go io.WriteString(c, input)
		got, err := io.ReadAll(c.r)
		if err != nil || !strings.HasPrefix(string(got), "500 5.5.2 ") || strings.Count(string(got), "\n") != 1 {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestOtherProtocols(t *testing.T) {
	g := start(t, nil)
	for _, input := range []string{
		"GET /secret HTTP/1.1\r\nHost: secret\r\n\r\n", "secret LOGIN alice secret\r\n", "POST /secret HTTP/1.0\r\n\r\nMAIL FROM:<x>\r\n",
	} {
		c := g.dial(g.key)
		c.send(input)
		if got, err := io.ReadAll(c.r); string(got) != "554 5.5.1 This is a submission server\r\n" || err != nil {
			t.Errorf("%q: got %q, %v", input, got, err)
		}
	}
}

func TestBadCommands(t *testing.T) {
	g := start(t, nil)
	for _, logged := range []bool{false, true} {
		c := g.dial()
		n := 10
		if logged {
			c, n = g.login(), 50
		}
		c.send(strings.Repeat("XYZZY\r\n", 200))
		got, err := io.ReadAll(c.r)
		if lines := strings.Split(strings.TrimSpace(string(got)), "\r\n"); err != nil || len(lines) != n+1 ||
			!strings.HasPrefix(lines[n], "421 ") || strings.Contains(string(got), "XYZZY") {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// So do refusals of go-smtp and of the Session, as long as they are the client's
// fault.
func TestRefusalsAreCounted(t *testing.T) {
	g := start(t, nil)
	for _, l := range []struct {
		key  bool
		line string
		n    int
	}{
		{false, "MAIL FROM:<alice@localhost>", 10}, {false, "AUTH NTLM", 10}, {true, "AUTH EXTERNAL " + b64("bob@localhost"), 50},
	} {
		c := g.dial()
		if l.key {
			c = g.dial(g.key)
		}
		c.cmd("EHLO x", "250")
		for range l.n {
			c.cmd(l.line, "5")
		}
		c.want("421 4.7.0 Too many errors")
		c.wantEnd()
	}
	c := g.login()
	c.cmd("MAIL FROM:<alice@localhost>", "250")
	for range 60 {
		c.cmd("RCPT TO:<nobody@localhost>", "550")
	}
}

func TestSizes(t *testing.T) {
	const limit = 100_000
	g := start(t, func(h *smtp.Handler, _ *mux.Config) { h.MaxMessageSize = limit })
	c := g.login()
	exact := "Subject: x\r\n\r\n" + strings.Repeat("x", limit-16)
	c.envelope()
	c.data(exact, "250")
	c.envelope()
	c.data(exact+"x", "552 5.3.4")
	c.envelope()
	c.data("Subject: x\r\n\r\n"+strings.Repeat("a line\r\n", 25000), "552 5.3.4")
	c.cmd("NOOP", "250")
	c.envelope()
	c.cmd("DATA", "354")
	if _, err := io.Copy(c, endless{}); err == nil {
		t.Error("an endless message is read for ever")
	}
	if n := len(g.spool.taken()); n != 1 {
		t.Errorf("%d messages were taken", n)
	}
}

// endless is an endless message.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, strings.Repeat("0123456789\r\n", 100)), nil
}

func TestHeaderBombs(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for _, message := range []string{
		strings.Repeat("X-A: b\r\n", 500_000),
		"X-A: " + strings.Repeat("b", 5_000_000),
		"From: " + strings.Repeat("(", 500_000) + "\r\n\r\n",
		"From: " + strings.Repeat("alice@localhost, ", 50_000) + "\r\n\r\n",
	} {
		c.envelope()
		c.data(message, "55")
	}
}

func TestChunks(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.envelope()
	c.send("BDAT 10\r\nSubject: xBDAT 4\r\n\r\n\r\nBDAT 7\r\n.\r\nQUITNOOP\r\nBDAT 0 LAST\r\n")
	for range 5 {
		c.want("250")
	}
	if got := g.one().text; !strings.HasSuffix(got, "Subject: x\r\n\r\n.\r\nQUIT\r\n") {
		t.Errorf("got %q", got)
	}
	c.envelope()
	c.cmd("BDAT 0 LAST", "250")
}

func TestChunksBetween(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for _, abort := range []struct{ line, want string }{
		{"RSET", "250"}, {"EHLO again", "250"}, {"QUIT", "221"},
	} {
		c.envelope()
		c.cmd("BDAT 3\r\na", "250")
		for _, line := range []string{"DATA", "MAIL FROM:<alice@localhost>", "RCPT TO:<bob@localhost>", "AUTH PLAIN ="} {
			c.cmd(line, "503")
		}
		c.cmd(abort.line, abort.want)
	}
	c.wantEnd()
	if n := len(g.spool.taken()); n != 0 {
		t.Errorf("%d messages were taken", n)
	}
}

// Octets of a chunk are never commands, whatever becomes of the chunk.
func TestChunksRefused(t *testing.T) {
	g := start(t, func(h *smtp.Handler, _ *mux.Config) { h.MaxMessageSize = 1000 })
	const octets = "NOOP\r\nNOOP\r\n" // 12 of them
	c := g.login()
	c.cmd("BDAT 12 LAST\r\n"+octets+"RSET", "503")
	c.want("250")
	c.envelope()
	c.cmd("BDAT 12\r\nNOOP\nNOOP\r\nxBDAT 12\r\n"+octets+"NOOP", "550 5.6.0")
	c.want("503")
	c.want("250")
	c.envelope()
	c.cmd("BDAT 2 LAST\r\nx\rNOOP", "550 5.6.0")
	c.want("250")
	c.envelope()
	c.cmd("BDAT 600\r\n"+strings.Repeat("NOOP\r\n", 100)+"BDAT 600 LAST\r\n"+strings.Repeat("NOOP\r\n", 100)+"RSET", "250")
	c.want("552 5.3.4")
	c.want("250")
}

func TestBadChunkSizes(t *testing.T) {
	g := start(t, func(h *smtp.Handler, _ *mux.Config) { h.MaxMessageSize = 1000 })
	for size, want := range map[string]string{
		"-1": "501", "+1": "501", "x": "501", "": "501", "1 LAST x": "501", "18446744073709551617": "501", "9223372036854775808": "501",
		"4294967296": "552", "9223372036854775807 LAST": "552", "5000000 LAST": "552",
	} {
		for _, before := range []string{"", "BDAT 1\r\nx"} {
			c := g.login()
			c.envelope()
			if before != "" {
				c.send(before)
				c.want("250")
			}
			c.send("BDAT " + size + "\r\nNOOP\r\nMAIL FROM:<alice@localhost>\r\n")
			c.want(want)
			c.wantEnd()
		}
	}
}

// What was cut off is not delivered, wherever the cut is.
func TestCutOff(t *testing.T) {
	g := start(t, nil)
	for _, input := range []string{
		"DATA\r\n", "DATA\r\nSubject: x", "DATA\r\nSubject: x\r\n\r\nbody\r\n", "DATA\r\nx\r\n.", "DATA\r\nx\r\n.\r", "DATA\r\nx\r\n.\n",
		"BDAT 10\r\n", "BDAT 10\r\n123", "BDAT 3\r\n123", "BDAT 3\r\n123BDAT 0 LAS", "BDAT 10 LAST\r\n123456789",
	} {
		c := g.login()
		c.envelope()
		c.send(input)
		c.Close()
	}
	g.stop()
	if n := len(g.spool.taken()); n != 0 {
		t.Errorf("%d messages were taken", n)
	}
}

func TestDrain(t *testing.T) {
	g := start(t, nil)
	g.spool.started = make(chan struct{}, 1)
	idle, busy, body := g.login(), g.login(), g.login()
	busy.envelope()
	body.envelope()
	body.cmd("DATA", "354")
	body.send("Subject: x\r\n\r\n")
	<-g.spool.started
	down := make(chan error)
	go func() { down <- g.Shutdown(context.Background()) }()
	for _, c := range []*client{idle, busy} {
		c.want("421 4.3.2 ")
		c.wantEnd()
	}
	body.send("body\r\n.\r\n") // may finish
	body.want("250")
	body.want("421 4.3.2 ")
	body.wantEnd()
	if err := <-down; err != nil {
		t.Error(err)
	}
	g.one()
}

func TestRevoked(t *testing.T) {
	g := start(t, nil)
	g.spool.started = make(chan struct{}, 1)
	idle, body := g.login(), g.login()
	body.envelope()
	body.cmd("DATA", "354")
	body.send("Subject: x\r\n\r\n")
	<-g.spool.started
	if n := g.CloseAccount(g.alice.ID, func(mux.Info) bool { return true }, mux.ErrRevoked); n != 2 {
		t.Errorf("%d connections", n)
	}
	for _, c := range []*client{idle, body} {
		c.want("421 4.7.0 ")
		c.wantEnd()
	}
	g.stop()
	if n := len(g.spool.taken()); n != 0 {
		t.Errorf("%d messages were taken", n)
	}
}

func TestPreLoginDeadline(t *testing.T) {
	// They have to be greeted in this time, and one to log in, on a busy machine too.
	g := start(t, func(_ *smtp.Handler, c *mux.Config) { c.Limits.PreLogin = 2 * time.Second })
	logged, stranger := g.login(), g.dial()
	stranger.cmd("EHLO x", "250")
	stranger.want("421 4.4.2 ")
	stranger.wantEnd()
	logged.cmd("NOOP", "250")
}

func TestManyAtOnce(t *testing.T) {
	g := start(t, nil)
	done := make(chan error)
	const conns, each = 8, 20
	for range conns {
		go func() { done <- submit(g, each) }()
	}
	for range conns {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := len(g.spool.taken()); n != conns*each {
		t.Errorf("%d messages were taken", n)
	}
}

func submit(g *gateway, n int) error {
	cl, err := gosmtp.DialTLS(g.addr, clientConfig(g.key))
	if err != nil {
		return err
	}
	defer cl.Close()
	for range n {
		if err := cl.SendMail("alice@localhost", []string{"bob@localhost"}, strings.NewReader(text)); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
	}
	return cl.Quit()
}
