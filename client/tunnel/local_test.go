package tunnel_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/client/clienttest"
	"posthorn/client/gatewaytest"
	"posthorn/client/tunnel"
)

// TestBeforeSignIn: bad commands are refused, in bounds, and none of it reaches the
// gateway.
func TestBeforeSignIn(t *testing.T) {
	g := gatewaytest.Start(t)
	n := clienttest.New(t, g.Ports, clienttest.Rules{})
	r := startTunnel(t, g, n)
	await.Until(t, "the first look is over", func() bool { return r.state(alpn.SMTP) != nil && r.state(alpn.IMAP) != nil })
	before := len(n.Seen())
	long := strings.Repeat("x", 20_000)
	for name, tt := range map[string]struct {
		send string
		want []string
	}{
		"not before login":     {"a SELECT INBOX\r\nb STARTTLS\r\nc XYZZY\r\n", []string{"a BAD", "b BAD", "c BAD"}},
		"chatter":              {"a CAPABILITY\r\nb noop\r\nc ID NIL\r\nd LOGOUT\r\n", []string{"* CAPABILITY", "a OK", "b OK", "* ID", "c OK", "* BYE", "d OK", "EOF"}},
		"malformed":            {"a LOGIN\r\nb LOGIN x\r\nc LOGIN x y z\r\nd LOGIN \"x y\r\n", []string{"a BAD", "b BAD", "c BAD", "d BAD"}},
		"tags":                 {"+ NOOP\r\n* NOOP\r\n NOOP\r\n\r\n", []string{"* BAD", "* BAD", "* BAD", "* BAD"}},
		"a long line":          {"a LOGIN x " + long + "\r\n", []string{"* BYE Line too long", "EOF"}},
		"a long response":      {"a AUTHENTICATE PLAIN\r\n" + long + "\r\n", []string{"+ ", "* BYE", "EOF"}},
		"a literal":            {"a LOGIN {4097}\r\nb NOOP\r\n", []string{"a BAD", "b OK"}},
		"literals":             {"a LOGIN {-1}\r\nb LOGIN {5\r\nc LOGIN {99999999999999999999}\r\n", []string{"a BAD", "b BAD", "c BAD"}},
		"a literal on its way": {"a LOGIN {4097+}\r\n", []string{"a BAD", "* BYE", "EOF"}},
		"ten bad":              {strings.Repeat("a XYZZY\r\n", 10), append(times(10, "a BAD"), "* BYE", "EOF")},
		"too many":             {strings.Repeat("a NOOP\r\n", 201), append(times(200, "a OK"), "* BYE", "EOF")},
		"bare line feeds":      {"a NOOP\nb NOOP\r\n", []string{"* BYE", "EOF"}},
		"NUL":                  {"a LOGIN x\x00 y\r\n", []string{"* BYE", "EOF"}},
		"HTTP":                 {"POST / HTTP/1.1\r\nHost: x\r\n\r\na NOOP\r\n", []string{"* BYE This is an IMAP server", "EOF"}},
		"base64":               {"a AUTHENTICATE PLAIN !\r\nb AUTHENTICATE PLAIN eA==\r\nc AUTHENTICATE PLAIN\r\n*\r\n", []string{"a BAD", "b BAD", "+", "c BAD"}},
		"mechanisms":           {"a AUTHENTICATE EXTERNAL =\r\nb AUTHENTICATE SCRAM-SHA-256 eA==\r\n", []string{"a NO [CANNOT]", "b NO [CANNOT]"}},
		"somebody else":        {"a AUTHENTICATE PLAIN YgBhAHg=\r\n", []string{"a BAD"}}, // b, a, x
		"smtp/not before":      {"MAIL FROM:<x@x>\r\nRCPT TO:<x>\r\nDATA\r\nVRFY x\r\nXCLIENT a\r\nSTARTTLS\r\n", []string{"530 ", "530 ", "530 ", "530 ", "500 ", "502 "}},
		"smtp/MAIL unknown":    {"EHLO x\r\nMAIL FROM:<x@x>\r\n", []string{"250-localhost", "250-", "250-", "250-", "250-", "250-", "250-", "250-", "250 AUTH", "530 "}},
		"smtp/chatter":         {"NOOP\r\nRSET\r\nHELO x\r\nQUIT\r\n", []string{"250 ", "250 ", "250 ", "221 ", "EOF"}},
		"smtp/order":           {"AUTH PLAIN AHgAeA==\r\nEHLO\r\nAUTH\r\n", []string{"503 ", "501 ", "501 "}},
		"smtp/base64":          {"HELO x\r\nAUTH PLAIN !\r\nAUTH PLAIN eA==\r\nAUTH EXTERNAL =\r\nAUTH PLAIN\r\n*\r\n", []string{"250 ", "501 ", "501 ", "504 ", "334 ", "501 "}},
		"smtp/long":            {"NOOP " + long[:10_000] + "\r\nNOOP\r\nNOOP " + long + "\r\n", []string{"500 ", "250 ", "421 ", "EOF"}},
		"smtp/controls":        {"NOOP \x01\r\nNOOP\nNOOP\r\n", []string{"500 ", "421 ", "EOF"}},
		"smtp/ten bad":         {strings.Repeat("XYZZY\r\n", 10), append(times(10, "500 "), "421 ", "EOF")},
		"smtp/HTTP":            {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", []string{"421 4.3.2 This is a submission server", "EOF"}},
	} {
		t.Run(name, func(t *testing.T) {
			address, greeting := r.imap, "* OK"
			if strings.HasPrefix(name, "smtp/") {
				address, greeting = r.smtp, "220 "
			}
			p := dial(t, address)
			p.expect(greeting)
			go func() { _, _ = p.Write([]byte(tt.send)) }()
			p.expect(tt.want...)
		})
	}
	if got := n.Seen()[before:]; len(got) > 0 {
		t.Errorf("the gateway was dialled: %v", got)
	}
}

func times(n int, s string) (all []string) {
	for range n {
		all = append(all, s)
	}
	return all
}

// untilEnd is a gateway's part that says nothing more.
func untilEnd(c *tls.Conn) { _, _ = io.Copy(io.Discard, c) }

// TestWrongPassword: all wrong passwords are answered alike, three end the
// connection, floods do not slow the right one, and the gateway hears of none.
func TestWrongPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startInMemory(t, untilEnd)
		before := m.dials.Load()
		answers := make(map[string]bool)
		for _, wrong := range []string{"x", strings.ToUpper(m.password), m.password + "x", m.password[:25], `""`, `"` + strings.Repeat("y", 3000) + `"`} {
			p := m.dial(alpn.IMAP)
			p.expect("* OK")
			began := time.Now()
			p.say("a LOGIN alice " + wrong + "\r\n")
			answers[p.expect("a NO [AUTHENTICATIONFAILED]")] = true
			if took := time.Since(began); took != 500*time.Millisecond {
				t.Errorf("a wrong password is answered after %v", took)
			}
			p.Close()
		}
		if len(answers) != 1 {
			t.Errorf("the answers differ: %v", answers)
		}
		began := time.Now()
		var flood sync.WaitGroup
		for range 60 {
			p := m.dial(alpn.IMAP)
			flood.Go(func() {
				go func() { _, _ = io.WriteString(p, strings.Repeat("a LOGIN x y\r\n", 100)) }()
				all, _ := io.ReadAll(p)
				if bytes.Count(all, []byte("a NO")) > 3 {
					t.Errorf("a connection has more than three guesses: %q", all)
				}
			})
		}
		synctest.Wait()
		if n := m.dials.Load() - before; n > 0 {
			t.Errorf("the gateway was dialled %d times", n)
		}
		p := m.dial(alpn.IMAP)
		p.expect("* OK")
		p.say("a LOGIN x " + m.password + "\r\n")
		p.expect("a OK")
		if took := time.Since(began); took != 0 {
			t.Errorf("during a flood: %v", took)
		}
		flood.Wait()
		if took := time.Since(began); took > 9*time.Second { // three guesses, three seconds each
			t.Errorf("the flood took %v", took)
		}
		if n := m.dials.Load() - before; n != 1 {
			t.Errorf("the gateway was dialled %d times", n)
		}
		time.Sleep(time.Minute) // it is forgotten
		began = time.Now()
		p = m.dial(alpn.SMTP)
		p.expect("220 ")
		p.say("HELO x\r\n" + strings.Repeat("AUTH PLAIN AHgAeA==\r\n", 4))
		p.expect("250 ", "535 5.7.8 ", "535 5.7.8 ", "535 5.7.8 ", "421 ", "EOF")
		if took := time.Since(began); took != 3*time.Second { // half a second, one, one and a half
			t.Errorf("three guesses took %v", took)
		}
		if log := m.log.String(); strings.Contains(log, m.password) || strings.Contains(log, "AHgAeA==") || !strings.Contains(log, "wrong local password") {
			t.Error("passwords are in the log, or it does not tell of wrong ones")
		}
	})
}

// TestCrowd: those who do not sign in make place for others, and do not stay.
func TestCrowd(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t)
	r := startTunnel(t, g, clienttest.New(t, g.Ports, clienttest.Rules{}), func(c *tunnel.Config) {
		c.MaxWaiting, c.MaxConns, c.SignInTime = 3, 5, 2*time.Second
	})
	in := dial(t, r.unix)
	in.expect("* PREAUTH")
	first := dial(t, r.imap)
	first.expect("* OK")
	for range 3 {
		dial(t, r.imap).expect("* OK")
	}
	first.expect("* BYE too many", "EOF")
	if err := useIMAP(r); err != nil {
		t.Error(err)
	}
	last := dial(t, r.smtp)
	last.expect("220 ")
	last.expect("421 4.3.2 signing in took too long", "EOF")
	for range 4 {
		dial(t, r.unix).expect("* PREAUTH")
	}
	dial(t, r.unix).expect("* BYE too many connections", "EOF")
	in.say("a NOOP\r\n")
	in.until("a OK")
}

// TestListen: nobody but this machine can come.
func TestListen(t *testing.T) {
	for _, address := range []string{
		"0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0", "example.org:0", "127.0.0.1", "", "[fe80::1%lo]:0", "[::ffff:192.0.2.1]:0", "localhost.example.org:0",
	} {
		if ls, err := tunnel.Listen(alpn.IMAP, address); !errors.Is(err, tunnel.ErrNotLoopback) {
			t.Errorf("%q: %v, %v", address, ls, err)
		}
	}
	for _, address := range []string{"127.0.0.1:0", "127.0.0.2:0", "localhost:0", "LOCALHOST:0"} {
		ls, err := tunnel.Listen(alpn.IMAP, address)
		if err != nil {
			t.Errorf("%q: %v", address, err)
		}
		for _, l := range ls {
			if _, err := tunnel.Listen(alpn.IMAP, l.Addr().String()); !errors.Is(err, tunnel.ErrInUse) {
				t.Errorf("twice: %v", err)
			}
			l.Close()
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tunnel.Listen(alpn.IMAP, file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("on a file: %v", err)
	}
	stale := filepath.Join(t.TempDir(), "new", "stale")
	for range 2 { // the second time there is a socket of somebody who has gone
		ls := must(tunnel.Listen(alpn.IMAP, stale))
		if err := ls[0].Listener.(interface{ File() (*os.File, error) }); err == nil {
			t.Fatal("no socket")
		}
		if must(os.Stat(filepath.Dir(stale))).Mode().Perm() != 0o700 {
			t.Error("others can enter the socket's directory")
		}
		ls[0].Close()
		dead := must(net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"}))
		dead.SetUnlinkOnClose(false)
		dead.Close()
	}
}

// A socket on which somebody listens is not replaced, even if he is too busy to
// take a connection.
func TestBusySocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd := must(syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0))
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		nc, err := net.Dial("unix", path)
		if err != nil { // its queue is full
			break
		}
		defer nc.Close()
	}
	if ls, err := tunnel.Listen(alpn.IMAP, path); !errors.Is(err, tunnel.ErrInUse) {
		t.Errorf("%v, %v", ls, err)
	}
}

// What is at the path when a listener is closed may be another one's by then.
func TestCloseLeavesOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first := must(tunnel.Listen(alpn.IMAP, path))[0]
	if err := os.Remove(path); err != nil { // somebody tidies up
		t.Fatal(err)
	}
	second := must(tunnel.Listen(alpn.IMAP, path))[0]
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

// TestPassword: it is told once, and kept as a hash.
func TestPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "tunnel.json")
	p, text, err := tunnel.OpenPassword(file, false)
	if err != nil || len(text) != 26 || !p.Verify(text) || p.Verify("") || p.Verify(strings.ToUpper(text)) {
		t.Fatalf("%q, %v", text, err)
	}
	if data := must(os.ReadFile(file)); strings.Contains(string(data), text) || must(os.Stat(file)).Mode().Perm() != 0o600 ||
		must(os.Stat(filepath.Dir(file))).Mode().Perm() != 0o700 {
		t.Errorf("%s", data)
	}
	again, told, err := tunnel.OpenPassword(file, false)
	if err != nil || told != "" || !again.Verify(text) {
		t.Errorf("%q, %v", told, err)
	}
	other, told, err := tunnel.OpenPassword(file, true)
	if err != nil || told == text || other.Verify(text) || !other.Verify(told) {
		t.Errorf("%q, %v", told, err)
	}
	for _, content := range []string{"", "{}", `{"password_sha256":"eA=="}`, strings.Repeat("x", 5000)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tunnel.OpenPassword(file, false); !errors.Is(err, tunnel.ErrState) {
			t.Errorf("%.20q: %v", content, err)
		}
	}
	_, _, _ = tunnel.OpenPassword(file, true)
	if err := os.Chmod(file, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tunnel.OpenPassword(file, false); !errors.Is(err, tunnel.ErrState) {
		t.Errorf("a file that others can write: %v", err)
	}
}

// Whoever has closed a unix socket's listener finds the path free, also when
// somebody else was at it.
func TestListenerClosedTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 200 {
		l := must(tunnel.Listen(alpn.IMAP, path))[0]
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				l.Close()
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("after Close: %v", err)
				}
			})
		}
		both.Wait()
	}
}
