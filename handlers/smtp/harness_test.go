package smtp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/handlers/smtp"
	"posthorn/mux"
	"posthorn/mux/muxtest"
	"posthorn/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	serverName = "mail.example.org"
	password   = "correct horse"
)

// spool is a Backend that keeps the messages it takes. It knows the recipients
// whose local parts say what becomes of them.
type spool struct {
	mu       sync.Mutex
	messages []message
	aborted  int           // messages that failed while they were read
	started  chan struct{} // when not nil, hears of each Data
	sessions int           // that were opened

	can       backend.Submission
	passwords accounts.Passwords
	reply     func(step string) error // to "MAIL" and "."; nil: everything is taken
	hang      bool                    // no message is answered before its context ends
}

type message struct {
	from    string
	to      []string
	text    string
	mail    gosmtp.MailOptions
	rcpt    gosmtp.RcptOptions // of the last recipient
	session int
}

func (s *spool) OpenIMAP(context.Context, *accounts.Login, *backend.Client) (backend.IMAPSession, error) {
	panic("not for IMAP")
}

func (s *spool) OpenSubmission(ctx context.Context, l *accounts.Login, _ *backend.Client) (gosmtp.Session, error) {
	if opened, ok := l.Opened.(*spoolSession); ok {
		opened.ctx = ctx
		return opened, nil
	}
	return s.session(ctx), nil
}

func (s *spool) session(ctx context.Context) *spoolSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions++
	return &spoolSession{spool: s, ctx: ctx, number: s.sessions}
}

func (s *spool) taken() []message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

type spoolSession struct {
	spool  *spool
	ctx    context.Context
	number int
	closed bool
	m      message
}

func (s *spoolSession) Reset()        { s.m = message{} }
func (s *spoolSession) Logout() error { return s.Close() }

func (s *spoolSession) Close() error {
	s.spool.mu.Lock()
	defer s.spool.mu.Unlock()
	s.closed = true
	return nil
}

func (s *spoolSession) Mail(from string, o *gosmtp.MailOptions) error {
	s.m = message{from: from, mail: *o, session: s.number}
	if s.spool.reply != nil {
		return s.spool.reply("MAIL")
	}
	return nil
}

func (s *spoolSession) Rcpt(to string, o *gosmtp.RcptOptions) error {
	s.m.rcpt = *o
	switch {
	case strings.HasPrefix(to, "nobody@"):
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	case strings.HasPrefix(to, "panic@"):
		panic("as asked")
	case strings.HasPrefix(to, "broken@"):
		return errors.New("some detail")
	case strings.HasPrefix(to, "bye@"):
		return &gosmtp.SMTPError{Code: 421, EnhancedCode: gosmtp.EnhancedCode{4, 3, 2}, Message: "going"}
	}
	s.m.to = append(s.m.to, to)
	return nil
}

func (s *spoolSession) Data(r io.Reader) error {
	if s.spool.started != nil {
		s.spool.started <- struct{}{}
	}
	text, err := io.ReadAll(r)
	if s.spool.hang {
		<-s.ctx.Done()
		return context.Cause(s.ctx)
	}
	switch {
	case err != nil:
		err = errors.New("cannot be read") // the handler knows better
	case s.ctx.Err() != nil:
		err = context.Cause(s.ctx)
	case s.spool.reply != nil:
		err = s.spool.reply(".")
	}
	s.spool.mu.Lock()
	defer s.spool.mu.Unlock()
	if err != nil {
		s.spool.aborted++
		return err
	}
	if slices.Contains(s.m.to, "full@localhost") {
		return &gosmtp.SMTPError{Code: 452, EnhancedCode: gosmtp.EnhancedCode{4, 3, 1}, Message: "full"}
	}
	s.m.text = string(text)
	s.spool.messages = append(s.spool.messages, s.m)
	return nil
}

// gateway is a running server with the accounts alice (also al@) and bob.
type gateway struct {
	*mux.Server
	t        testing.TB
	store    store.KV
	accounts *accounts.Store
	keys     *authkeys.Store
	spool    *spool
	alice    *accounts.Account
	key      tls.Certificate // alice's
	addr     string          // submission with implicit TLS
	clear    string          // submission with STARTTLS
	serve    sync.WaitGroup
	log      *muxtest.Log
}

// start runs a gateway; edit, when not nil, changes its handler and limits.
func start(t testing.TB, edit func(*smtp.Handler, *mux.Config)) *gateway {
	t.Helper()
	house := accountstest.New(t, accounts.Options{})
	g := &gateway{t: t, store: house.KV, accounts: house.Accounts, keys: house.Keys, spool: newSpool(), key: muxtest.KeyPair(t), log: new(muxtest.Log)}
	g.alice = g.addAccount("alice@localhost")
	if err := g.accounts.AddAddress(t.Context(), g.alice.ID, "al@localhost"); err != nil {
		t.Fatal(err)
	}
	g.addAccount("bob@localhost")
	g.addKey(authkeys.Key{Account: g.alice.ID}, g.key)

	log := zerolog.New(g.log)
	h := &smtp.Handler{Accounts: g.accounts, Backend: g.spool, Hostname: serverName, Log: log, ReceivedFrom: true}
	c := mux.Config{Router: new(alpn.Router), Certs: muxtest.NewCertificates(t, serverName), Log: log}
	if edit != nil {
		edit(h, &c)
	}
	c.Handlers = map[alpn.Protocol]mux.Handler{alpn.SMTP: h}
	g.Server = mux.New(c)
	g.addr, g.clear = g.listen(alpn.Submissions), g.listen(alpn.SubmissionStartTLS)
	t.Cleanup(g.stop)
	return g
}

func (g *gateway) addAccount(address string) *accounts.Account {
	g.t.Helper()
	a, err := g.accounts.Add(context.Background(), address, password)
	if err != nil {
		g.t.Fatal(err)
	}
	return a
}

func (g *gateway) addKey(k authkeys.Key, cert tls.Certificate) authkeys.Fingerprint {
	g.t.Helper()
	k.Fingerprint, k.Type = muxtest.Fingerprint(g.t, cert), "ECDSA P-256"
	if err := g.keys.Add(context.Background(), k); err != nil {
		g.t.Fatal(err)
	}
	return k.Fingerprint
}

func (g *gateway) listen(p alpn.Port) string {
	g.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.serve.Go(func() {
		if err := g.Serve(context.Background(), ln, p); err != nil {
			g.t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func (g *gateway) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := g.Shutdown(ctx); err != nil {
		g.t.Errorf("Shutdown: %v", err)
	}
	g.serve.Wait()
}

func clientConfig(key ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: serverName, Certificates: key}
}

// client is a client that speaks raw lines.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{c, t, bufio.NewReader(c)}
}

// dial connects with implicit TLS and reads the greeting.
func (g *gateway) dial(key ...tls.Certificate) *client {
	g.t.Helper()
	nc, err := tls.Dial("tcp", g.addr, clientConfig(key...))
	if err != nil {
		g.t.Fatal(err)
	}
	c := newClient(g.t, nc)
	c.want("220")
	return c
}

// login is dial with alice's key, and EHLO.
func (g *gateway) login() *client {
	g.t.Helper()
	c := g.dial(g.key)
	c.cmd("EHLO client.example.org", "250")
	return c
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// want reads a reply, whose beginning must be prefix, and returns all of it.
func (c *client) want(prefix string) string {
	c.t.Helper()
	var reply strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("got %q, %v; want %q", reply.String()+line, err, prefix)
		}
		reply.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	if !strings.HasPrefix(reply.String(), prefix) {
		c.t.Fatalf("got %q, want %q", reply.String(), prefix)
	}
	return reply.String()
}

func (c *client) cmd(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.want(prefix)
}

// wantEnd wants the connection to have ended properly.
func (c *client) wantEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Fatalf("read %q, %v; want the end", rest, err)
	}
}

// envelope begins a message from alice to bob.
func (c *client) envelope() {
	c.t.Helper()
	c.cmd("MAIL FROM:<alice@localhost>", "250")
	c.cmd("RCPT TO:<bob@localhost>", "250")
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Submission implements backend.Backend.
func (s *spool) Submission(*accounts.Login) backend.Submission { return s.can }

// Passwords implements backend.Backend.
func (s *spool) Passwords(backend.Service, *backend.Client) accounts.Passwords { return s.passwords }

func newSpool() *spool {
	return &spool{can: backend.Submission{EightBitMIME: true, UTF8: true}}
}
