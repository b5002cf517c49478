package smtp

import (
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"posthorn/backend"
)

// pipe is a link whose client says what it has to say and closes.
type pipe struct {
	net.Conn // nil: nothing else is called
	in       io.Reader
	out      bytes.Buffer
}

func (p *pipe) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *pipe) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p *pipe) OwesData(bool)               {}
func (p *pipe) LocalAddr() net.Addr         { return &net.TCPAddr{} }
func (p *pipe) RemoteAddr() net.Addr        { return &net.TCPAddr{} }

// taker is a Session for anybody that takes everything, but for messages to
// no@d, which it does not even read.
type taker struct {
	guard    *guard
	to       string
	messages []string
}

func (t *taker) Reset()                                          {}
func (t *taker) Logout() error                                   { return nil }
func (t *taker) Mail(string, *gosmtp.MailOptions) error          { return nil }
func (t *taker) Rcpt(to string, _ *gosmtp.RcptOptions) error     { t.to = to; return nil }
func (t *taker) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return t, nil }

func (t *taker) Data(io.Reader) error {
	if t.to == "no@d" {
		return errLater
	}
	text, err := io.ReadAll(t.guard.body)
	if err != nil {
		return shown(err)
	}
	t.messages = append(t.messages, string(text))
	return nil
}

// talk runs go-smtp behind a guard.
func talk(t testing.TB, limit int64, in io.Reader) (replies string, messages []string) {
	p := &pipe{in: in}
	messages = converse(t, newWire(context.Background(), p, 200), limit)
	return p.out.String(), messages
}

// converse is talk on a wire of the caller's.
func converse(t testing.TB, w *wire, limit int64) (messages []string) {
	g := &guard{
		wire:     w,
		hostname: "localhost",
		limit:    limit,
		loggedIn: func() bool { return true },
		offer:    func() backend.Submission { return backend.Submission{EightBitMIME: true, UTF8: true, DSN: true} },
		panicked: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) },
		closed:   make(chan struct{}),
	}
	session := &taker{guard: g}
	server := gosmtp.NewServer(session)
	server.MaxLineLength, server.EnableSMTPUTF8, server.EnableDSN = 0, true, true
	server.Serve(&single{conn: g})
	server.Shutdown(context.Background())
	return session.messages
}

var replyLine = regexp.MustCompile(`^[2-5][0-9][0-9][ -][^\r\n\x00]*$`)

// Whatever a client sends and however it is cut up: the replies are the same
// and well formed, and no message has what no line may have.
func FuzzGuard(f *testing.F) {
	const begin = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
	for _, s := range []string{
		"NOOP\r\nQUIT\r\n", "NOOP\n", "GET / HTTP/1.1\r\n", "AUTH PLAIN\r\n*\r\n",
		begin + "DATA\r\n.\r\nNOOP\r\n", begin + "DATA\r\na\n.\r\nb\r\n..c\r\n.\r\nQUIT\r\n",
		begin + "BDAT 2\r\nabBDAT 3 LAST\r\n\r\n.RSET\r\n", begin + "BDAT 3\r\nabcRSET\r\nBDAT 5\r\nNOOP\n",
		"EHLO x\r\nMAIL FROM:<a@b> RET=FULL ENVID=a+2Bb SIZE=9\r\nRCPT TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;a+20b\r\n",
		"EHLO x\r\nMAIL FROM:<a@b> SMTPUTF8 ENVID=+\r\nRCPT TO:<c@d> ORCPT=utf-8;\\x{85}\u00e9\r\n",
		"EHLO x\r\nMAIL FROM:<a@b> SIZE=x BODY=9BIT RET=ALL ENVID=+0A AUTH=+ SMTPUTF8=x\r\nMAIL FROM:<a@b> AUTH=<> ENVID=+0A RET=HDRS\r\n",
		"EHLO x\r\nMAIL FROM:<a@b> SMTPUTF8=\u00a0RET=ALL\u00a0ENVID=+0A\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d> ORCPT=utf-8;x\tNOTIFY=x\tBY=x\r\n",
		"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d> ORCPT=x;y NOTIFY=NEVER,DELAY\r\nRCPT TO:<c@d> ORCPT=x;y NOTIFY=DELAY\r\n",
		begin + "BDAT 2000\r\n" + strings.Repeat("a", 2000) + "NOOP\r\n", begin + "BDAT 2000\r\n" + strings.Repeat("a", 1003) + "\x00" + strings.Repeat("a", 996),
		begin + "BDAT 2000\r\n" + strings.Repeat("a", 999) + "\n" + strings.Repeat("a", 1000), begin + "DATA\r\n" + strings.Repeat("a", 1000) + "\r\n.\r\n", begin + "BDAT 1\r\n\nBDAT 1 LAST\r\nxQUIT\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		replies, messages := talk(t, 1000, bytes.NewReader(in))
		for line := range strings.SplitSeq(strings.TrimSuffix(replies, "\r\n"), "\r\n") {
			if !replyLine.MatchString(line) {
				t.Errorf("%q: reply %q", in, line)
			}
		}
		for _, m := range messages {
			if m != "" && !strings.HasSuffix(m, "\r\n") || strings.ContainsAny(strings.ReplaceAll(m, "\r\n", ""), "\r\n\x00") {
				t.Errorf("%q: message %q", in, m)
			}
		}
		bytewise, again := talk(t, 1000, iotest.OneByteReader(bytes.NewReader(in)))
		if bytewise != replies || strings.Join(again, "|") != strings.Join(messages, "|") {
			t.Errorf("%q: %q and %q, byte by byte %q and %q", in, replies, messages, bytewise, again)
		}
	})
}

// A client is not blamed for the time that a backend takes.
func TestUnhurried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		excuses := 0
		u := &unhurried{in: strings.NewReader(strings.Repeat("x", 10)), excuse: func() { excuses++ }}
		for _, pause := range []time.Duration{time.Hour, 0, time.Second, 2 * time.Second, time.Minute} {
			time.Sleep(pause)
			if n, err := u.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if excuses != 2 {
			t.Errorf("%d excuses", excuses)
		}
	})
}

func TestGuardTellsCommandsFromContent(t *testing.T) {
	replies, messages := talk(t, 1000, strings.NewReader("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"+
		"BDAT 6\r\nQUIT\r\nBDAT 7 LAST\r\nRSET\r\n.NOOP\r\n"))
	if len(messages) != 1 || messages[0] != "QUIT\r\nRSET\r\n.\r\n" {
		t.Errorf("got %q", messages)
	}
	if !strings.HasSuffix(replies, "\r\n250 2.0.0 Continue\r\n250 2.0.0 OK: queued\r\n250 2.0.0 OK\r\n") {
		t.Errorf("got %q", replies)
	}
}

// A chunk that is refused and too long to be skipped ends the conversation, and
// so do too many wrong commands between two chunks: nothing behind them counts.
func TestChunksEnd(t *testing.T) {
	const begin = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
	for _, c := range []struct{ name, in, reply string }{
		{"refused", begin + "BDAT 1050576\r\n\x00\r\n" + strings.Repeat("NOOP\r\n", 1050573/6), replyTooBig},
		{"errors", begin + "BDAT 1\r\nx" + strings.Repeat("MAIL\r\n", maxBad) + "BDAT 0 LAST\r\n", replyErrors},
	} {
		replies, messages := talk(t, 1000, strings.NewReader(c.in))
		if !strings.HasSuffix(replies, c.reply) || strings.Contains(replies, replyNoop) || len(messages) != 0 {
			t.Errorf("%s: %d messages, %q", c.name, len(messages), replies[max(0, len(replies)-100):])
		}
	}
}

// BenchmarkGuard takes messages of 10 kB on one connection, without TLS and
// without keeping them.
func BenchmarkGuard(b *testing.B) {
	message := "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" +
		strings.Repeat(strings.Repeat("x", 78)+"\r\n", 128) + ".\r\n"
	b.SetBytes(int64(len(message)))
	in := &again{text: message, times: b.N}
	_, messages := talk(b, 20_000, io.MultiReader(strings.NewReader("EHLO x\r\n"), in))
	if len(messages) != b.N {
		b.Errorf("%d of %d messages", len(messages), b.N)
	}
}

// again reads a text some times over.
type again struct {
	text  string
	at    int
	times int
}

func (a *again) Read(p []byte) (int, error) {
	if a.times == 0 {
		return 0, io.EOF
	}
	n := copy(p, a.text[a.at:])
	if a.at += n; a.at == len(a.text) {
		a.at, a.times = 0, a.times-1
	}
	return n, nil
}
