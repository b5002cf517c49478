package sendmail_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"posthorn/client"
	"posthorn/client/clienttest"
	"posthorn/client/sendmail"
)

// delivery is a message that the server took.
type delivery struct {
	from string
	opts smtp.MailOptions
	to   []string
	rcpt smtp.RcptOptions // of the last
	text string
}

// server is a submission server, go-smtp's, that refuses what it is told to.
type server struct {
	t   testing.TB
	ca  *clienttest.Authority
	key *client.Identity

	mu    sync.Mutex
	mail  []delivery // guarded by mu, as the rest
	conns int
	// refuse answers for a recipient; most is how many of them a transaction has.
	refuse map[string]error
	most   int
	// begin is called before a message is read; end answers for it, when it has come;
	// taken is called when it was taken.
	begin func()
	end   func(*delivery) error
	taken func()

	address string
	live    map[net.Conn]bool
	open    sync.WaitGroup // connections that are not done with
}

func serve(t testing.TB, edit ...func(*smtp.Server)) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, ln, edit...)
}

func serveOn(t testing.TB, plain net.Listener, edit ...func(*smtp.Server)) *server {
	t.Helper()
	s := &server{t: t, ca: clienttest.NewAuthority(t, "the server's"), refuse: map[string]error{}, live: map[net.Conn]bool{}}
	var err error
	if s.key, err = client.NewIdentity(client.ECDSA, alice); err != nil {
		t.Fatal(err)
	}
	s.address = plain.Addr().String()
	be := smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{server: s}, nil })
	srv := smtp.NewServer(be)
	srv.Domain, srv.EnableSMTPUTF8, srv.EnableDSN, srv.MaxLineLength = "localhost", true, true, 4000
	srv.ErrorLog = discard{}
	for _, e := range edit {
		e(srv)
	}
	ln := tls.NewListener(&counting{plain, s}, &tls.Config{
		Certificates: []tls.Certificate{s.ca.Issue("localhost")}, NextProtos: []string{"smtp"}, ClientAuth: tls.RequestClientCert,
	})
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		plain.Close() // go-smtp closes what it serves already
		srv.Close()
		serving.Wait()
	})
	return s
}

// at makes a client come to a listener, whatever address it dials.
func at(ln *clienttest.Pipes) func(*client.Config) {
	return func(c *client.Config) { c.DialContext = ln.DialContext }
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}

// counting counts connections.
type counting struct {
	net.Listener
	server *server
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.server.mu.Lock()
		c.server.conns++
		c.server.live[conn] = true
		c.server.mu.Unlock()
		c.server.open.Add(1)
		conn = &counted{conn, sync.OnceFunc(c.server.open.Done)}
	}
	return conn, err
}

// counted tells when the server is done with it.
type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}

// cut ends all connections without a word.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.live {
		c.Close()
	}
	clear(s.live)
}

// got returns what was taken.
func (s *server) got() []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mail)
}

// copies counts how often a recipient got a message that has a text in it.
func (s *server) copies(recipient, text string) (n int) {
	for _, d := range s.got() {
		if slices.Contains(d.to, recipient) && strings.Contains(d.text, text) {
			n++
		}
	}
	return n
}

func (s *server) set(edit func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit()
}

// session is a conversation with the server.
type session struct {
	server *server
	now    delivery
}

func (c *session) Reset()        { c.now = delivery{} }
func (c *session) Logout() error { return nil }

func (c *session) Mail(from string, o *smtp.MailOptions) error {
	c.now = delivery{from: from, opts: *o}
	return nil
}

func (c *session) Rcpt(to string, o *smtp.RcptOptions) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if err := c.server.refuse[to]; err != nil {
		return err
	}
	if c.server.most > 0 && len(c.now.to) == c.server.most {
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 5, 3}, Message: "Too many recipients"}
	}
	c.now.to, c.now.rcpt = append(c.now.to, to), *o
	return nil
}

func (c *session) Data(r io.Reader) error {
	c.server.mu.Lock()
	begin := c.server.begin
	c.server.mu.Unlock()
	if begin != nil {
		begin()
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.now.text = string(b)
	c.server.mu.Lock()
	end, taken := c.server.end, c.server.taken
	c.server.mu.Unlock()
	if end != nil {
		if err := end(&c.now); err != nil {
			return err
		}
	}
	c.server.mu.Lock()
	c.server.mail = append(c.server.mail, c.now)
	c.server.mu.Unlock()
	if taken != nil {
		taken()
	}
	return nil
}

func answer(code, class, subject, detail int) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, detail}, Message: "as the test wants"}
}

// dialer leads to the server.
func (s *server) dialer(edit ...func(*client.Config)) *client.Dialer {
	s.t.Helper()
	c := client.Config{
		Host: "localhost", Identity: s.key, Routes: []client.Kind{client.ALPN}, RootCAs: clienttest.Pool(s.ca), Proxy: client.FixedProxy(nil), Timeout: 10 * time.Second,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, s.address)
		},
	}
	for _, e := range edit {
		e(&c)
	}
	d, err := client.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *server) sender() *sendmail.Sender {
	s.t.Helper()
	sender := &sendmail.Sender{Dialer: s.dialer()}
	s.t.Cleanup(sender.Close)
	return sender
}

// message makes a message to some recipients.
func message(t testing.TB, body string, to ...string) *sendmail.Message {
	t.Helper()
	r := sendmail.Rules{Address: alice, Recipients: to, WholeInput: true}
	m, err := r.Prepare(strings.NewReader("Subject: test\n\n" + body + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// unreachable is a connection that cannot be made.
func unreachable(c *client.Config) {
	c.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }
}

func failed(all []sendmail.Failure) (list []string) {
	for _, f := range all {
		list = append(list, f.Recipient)
	}
	return list
}
