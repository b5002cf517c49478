package backend_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/await"
	"posthorn/backend"
	"posthorn/backend/upstream"
)

// Answers of a submissionFake that are not, or not only, sent.
const (
	thenClose = "\x00close"
	thenHang  = "\x00hang"
)

// usual is what Postfix offers.
var usual = []string{"PIPELINING", "SIZE 10240000", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "AUTH PLAIN LOGIN EXTERNAL", "XCLIENT NAME ADDR PORT LOGIN"}

// submissionFake is a submission server that takes everything, but for what
// answer says otherwise.
type submissionFake struct {
	t    testing.TB
	ln   net.Listener
	wg   sync.WaitGroup
	once sync.Once
	done chan struct{}

	// answer is the reply to a step of a connection, which counts from 0, or
	// empty for the usual one. A step is a command line, "connect", "body" for
	// each line of a message, or "." for its end.
	answer func(conn int, step string) string
	offers []string
	before func(*bufio.Reader) // the greeting; nil: nothing
	// bytewise has every octet sent alone, discard messages forgotten.
	bytewise, discard bool

	mu       sync.Mutex
	conns    []net.Conn
	lines    []string // commands, with the number of their connection in front
	messages []string // those that were acknowledged
	cut      int      // messages that had no end
	open     int
}

func newSubmissionFake(t testing.TB, answer func(conn int, step string) string, edit ...func(*submissionFake)) *submissionFake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if answer == nil {
		answer = func(int, string) string { return "" }
	}
	f := &submissionFake{t: t, ln: ln, answer: answer, offers: usual, done: make(chan struct{})}
	for _, e := range edit {
		e(f)
	}
	f.wg.Go(f.accept)
	t.Cleanup(f.stop)
	return f
}

func (f *submissionFake) stop() {
	f.once.Do(func() {
		close(f.done)
		f.ln.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			c.Close()
		}
		f.mu.Unlock()
		f.wg.Wait()
	})
}

func (f *submissionFake) accept() {
	for i := 0; ; i++ {
		c, err := f.ln.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns = append(f.conns, c)
		f.open++
		f.mu.Unlock()
		f.wg.Go(func() {
			f.serve(i, c)
			c.Close()
			f.mu.Lock()
			f.open--
			f.mu.Unlock()
		})
	}
}

// say sends an answer, and reports whether the conversation goes on.
func (f *submissionFake) say(c net.Conn, text string) bool {
	text, end, special := strings.Cut(text, "\x00")
	pieces := []string{text}
	if f.bytewise {
		pieces = strings.Split(text, "")
	}
	for _, piece := range pieces {
		if _, err := io.WriteString(c, piece); err != nil {
			return false
		}
	}
	if special && end == "hang" { // and reads nothing
		<-f.done
	}
	return !special
}

func (f *submissionFake) serve(i int, c net.Conn) {
	reply := func(step, usual string) bool {
		if text := f.answer(i, step); text != "" {
			usual = text
		}
		return f.say(c, usual)
	}
	r := bufio.NewReader(c)
	if f.before != nil {
		f.before(r)
	}
	if !reply("connect", "220 mail.test ESMTP\r\n") {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		f.mu.Lock()
		f.lines = append(f.lines, fmt.Sprint(i, " ", line))
		f.mu.Unlock()
		verb, _, _ := strings.Cut(line, " ")
		usual := "250 2.0.0 OK\r\n"
		switch verb {
		case "EHLO":
			usual = "250-mail.test\r\n250-" + strings.Join(f.offers, "\r\n250-") + "\r\n250 HELP\r\n"
		case "AUTH":
			usual = "235 2.7.0 welcome\r\n"
		case "XCLIENT":
			usual = "220 mail.test ESMTP\r\n"
		case "DATA":
			usual = "354 go on\r\n"
		case "QUIT":
			usual = "221 2.0.0 bye\r\n" + thenClose
		}
		text := f.answer(i, line)
		if text == "" {
			text = usual
		}
		if !f.say(c, text) {
			return
		}
		if verb == "DATA" && strings.HasPrefix(text, "354") && !f.message(i, c, r) {
			return
		}
	}
}

// message reads a message and takes it.
func (f *submissionFake) message(i int, c net.Conn, r *bufio.Reader) bool {
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			f.mu.Lock()
			f.cut++
			f.mu.Unlock()
			return false
		}
		if line == ".\r\n" {
			break
		}
		if said := f.answer(i, "body"); said != "" && !f.say(c, said) {
			return false
		}
		if !f.discard {
			text.WriteString(strings.TrimPrefix(line, "."))
		}
	}
	said := f.answer(i, ".")
	if said == "" {
		said = "250 2.0.0 queued\r\n"
	}
	if strings.HasPrefix(said, "250") {
		f.mu.Lock()
		f.messages = append(f.messages, text.String())
		f.mu.Unlock()
	}
	return f.say(c, said)
}

func (f *submissionFake) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.messages)
}

// said returns the commands that begin with a verb, of all connections.
func (f *submissionFake) said(verb string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []string
	for _, l := range f.lines {
		if _, line, _ := strings.Cut(l, " "); strings.HasPrefix(line, verb) {
			found = append(found, l)
		}
	}
	return found
}

func (f *submissionFake) opened() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

// silence is for how long tests wait for who says nothing. Others have more to
// spare, as a busy machine lets them run late.
const silence = time.Second

// proxy returns a Proxy whose submission server is f, which trusts it.
func (f *submissionFake) proxy(edit ...func(*backend.ProxyConfig)) *backend.Proxy {
	f.t.Helper()
	c := backend.ProxyConfig{
		Name: "mail", Log: zerolog.Nop(),
		Submission: &backend.Server{
			Method: backend.Trusted,
			Upstream: upstream.Config{
				Addresses: []string{f.ln.Addr().String()}, CheckInterval: time.Hour,
			},
		},
	}
	for _, e := range edit {
		e(&c)
	}
	p, err := backend.NewProxy(c)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// run runs p until the test is over, or stop is called.
func run(t testing.TB, p *backend.Proxy) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// checked runs p as run does, and waits for f's only health check, which is
// connection 0.
func (f *submissionFake) checked(p *backend.Proxy) (stop func()) {
	f.t.Helper()
	stop = run(f.t, p)
	await.Until(f.t, "a health check", func() bool { return len(f.said("QUIT")) == 1 })
	return stop
}

// impatient is for servers that fall silent.
func impatient(c *backend.ProxyConfig) {
	c.Submission.Upstream.Timeout = silence
	c.SubmissionTimeouts = backend.SubmissionTimeouts{Login: silence, Command: silence, Block: silence, Final: silence}
}

func method(m backend.Method) func(*backend.ProxyConfig) {
	return func(c *backend.ProxyConfig) { c.Submission.Method = m }
}

// from is a client at an address.
func from(remote string) *backend.Client {
	return &backend.Client{ID: 7, Remote: netip.MustParseAddrPort(remote), Local: netip.MustParseAddrPort("192.0.2.1:443")}
}

var here = from("203.0.113.5:4711")

// submitter opens a session for an address.
func submitter(t testing.TB, p backend.Backend, address string, c *backend.Client) smtp.Session {
	t.Helper()
	s, err := p.OpenSubmission(context.Background(), loginOf(address), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// send sends a message from alice on s; its error is that of the first step
// that fails.
func send(s smtp.Session, message io.Reader, to ...string) error {
	if err := s.Mail(alice, nil); err != nil {
		return err
	}
	for _, address := range to {
		if err := s.Rcpt(address, nil); err != nil {
			return err
		}
	}
	return s.Data(message)
}

// heard is what a client hears of err, whole.
func heard(err error) string {
	var reply *smtp.SMTPError
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &reply):
		return "no reply: " + err.Error()
	case reply.EnhancedCode == smtp.NoEnhancedCode:
		return fmt.Sprintf("%d %s", reply.Code, reply.Message)
	}
	c := reply.EnhancedCode
	return fmt.Sprintf("%d %d.%d.%d %s", reply.Code, c[0], c[1], c[2], reply.Message)
}

// beginning is the code at the beginning of what a client hears, with the
// enhanced one.
func beginning(err error) string {
	words := strings.SplitN(heard(err), " ", 3)
	return strings.Join(words[:min(2, len(words))], " ")
}

// openWith logs in with a password, as accounts does.
func openWith(p *backend.Proxy, address, password string) (*accounts.Login, error) {
	l := loginOf(address)
	opened, err := p.Passwords(backend.SMTP, here).Login(context.Background(), address, l.Account, password)
	l.Opened = opened
	return l, err
}

// sessionWith is the session of a login by openWith.
func sessionWith(t *testing.T, p *backend.Proxy, address, password string) smtp.Session {
	t.Helper()
	l, err := openWith(p, address, password)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.OpenSubmission(context.Background(), l, here)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keepsPasswords(c *backend.ProxyConfig) { c.KeepsPasswords = true }

// endless is a message without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, strings.Repeat("0123456789\r\n", 100)), nil
}
