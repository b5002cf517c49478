package backend_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/backend"
	"posthorn/backend/upstream"
)

const (
	alice    = "alice@example.org"
	password = `pass "word\`
)

// What a Dovecot says.
const (
	greeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN AUTH=EXTERNAL] ready\r\n"
	loggedIn = "p2 OK [CAPABILITY IMAP4rev1 SASL-IR IDLE STARTTLS AUTH=PLAIN LOGINDISABLED XDELTAPUSH] Logged in\r\n"
	offered  = "IMAP4rev1 IDLE XDELTAPUSH" // what the client hears of that
)

func b64(parts ...string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(parts, "\x00")))
}

// script is what a server does on a connection: texts are sent, wants are read
// before that.
type script []any

// want is what a client must send.
type want string

// hang is silence until the client closes, and hangUp the end.
type (
	hang   struct{}
	hangUp struct{}
)

// scripted is a server that follows scripts, one for each connection; the last
// one again for all others.
type scripted struct {
	t       testing.TB
	ln      net.Listener
	scripts []script

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newScripted(t testing.TB, scripts ...script) *scripted {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{t: t, ln: ln, scripts: scripts}
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		ln.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *scripted) accept() {
	for i := 0; ; i++ {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		steps := s.scripts[min(i, len(s.scripts)-1)]
		s.wg.Go(func() { s.follow(c, steps) })
	}
}

// follow does what a script says, and then echoes.
func (s *scripted) follow(c net.Conn, steps script) {
	defer c.Close()
	r := bufio.NewReader(c)
	for _, step := range steps {
		switch step := step.(type) {
		case string:
			if _, err := io.WriteString(c, step); err != nil {
				return
			}
		case want:
			got := make([]byte, len(step))
			if n, err := io.ReadFull(r, got); err != nil || string(got) != string(step) {
				s.t.Errorf("the server got %q, %v; want %q", got[:n], err, string(step))
				return
			}
		case hang:
			_, _ = io.Copy(io.Discard, r)
			return
		case hangUp:
			return
		}
	}
	_, _ = io.Copy(c, r)
}

// proxy returns a Proxy for s as its IMAP server.
func (s *scripted) proxy(edit ...func(*backend.ProxyConfig)) *backend.Proxy {
	s.t.Helper()
	c := backend.ProxyConfig{
		Name: "mail", KeepsPasswords: true, Log: zerolog.Nop(),
		IMAP: &backend.Server{Upstream: upstream.Config{Addresses: []string{s.ln.Addr().String()}}},
	}
	for _, e := range edit {
		e(&c)
	}
	p, err := backend.NewProxy(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func master(c *backend.ProxyConfig) {
	c.IMAP.Method, c.IMAP.User, c.IMAP.Password = backend.Master, "gateway", "secret"
}

func clientOf(names ...string) *backend.Client {
	return &backend.Client{
		ID: 7, Names: names,
		Remote: netip.MustParseAddrPort("192.0.2.7:4711"), Local: netip.MustParseAddrPort("192.0.2.1:443"),
	}
}

func loginOf(address string) *accounts.Login {
	return &accounts.Login{Account: &accounts.Account{ID: "1", Addresses: []string{address}}, Address: address}
}

// byPassword logs in with a password that the server keeps, as handlers do.
func byPassword(p backend.Backend, address, password string) (backend.IMAPSession, error) {
	c := clientOf()
	opened, err := p.Passwords(backend.IMAP, c).Login(context.Background(), address, nil, password)
	if err != nil {
		return nil, err
	}
	l := loginOf(address)
	l.Opened = opened
	return p.OpenIMAP(context.Background(), l, c)
}

// verify exchanges a few octets with the echo at the end of a script.
func verify(t testing.TB, s backend.IMAPSession, head string) {
	t.Helper()
	if got := s.Capabilities(); got != offered {
		t.Errorf("capabilities %q, want %q", got, offered)
	}
	client, gateway := net.Pipe()
	client.SetDeadline(time.Now().Add(5 * time.Second))
	var served sync.WaitGroup
	served.Go(func() {
		_ = s.Serve(context.Background(), gateway)
		gateway.Close()
	})
	go io.WriteString(client, "a NOOP\r\n")
	got := make([]byte, len(head)+len("a NOOP\r\n"))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != head+"a NOOP\r\n" {
		t.Errorf("the client got %q, %v; want %q first", got, err, head)
	}
	client.Close()
	served.Wait()
}

func TestIMAPLogins(t *testing.T) {
	const noIR = "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=EXTERNAL] ready\r\n"
	const old = "* OK ready\r\n"
	const ask = "* CAPABILITY IMAP4rev1\r\np3 OK done\r\n"
	withCode := func(code string) string { return "* OK [CAPABILITY " + code + "] ready\r\n" }
	for _, tt := range []struct {
		name   string
		edit   func(*backend.ProxyConfig) // nil: by password
		script script
		head   string
	}{
		{name: "password", script: script{greeting, want("p2 AUTHENTICATE PLAIN " + b64("", alice, password) + "\r\n"), loggedIn}},
		{name: "password, asked for", script: script{noIR, want("p2 AUTHENTICATE PLAIN\r\n"), "+ \r\n", want(b64("", alice, password) + "\r\n"), loggedIn}},
		{name: "password, bare plus", script: script{noIR, want("p2 AUTHENTICATE PLAIN\r\n"), "+\r\n", want(b64("", alice, password) + "\r\n"), loggedIn}},
		{name: "LOGIN", script: script{old, want("p3 CAPABILITY\r\n"), ask, want(`p2 LOGIN "alice@example.org" "pass \"word\\"` + "\r\n"), loggedIn}},
		{name: "local part", edit: nil, script: script{greeting, want("p2 AUTHENTICATE PLAIN " + b64("", alice, password) + "\r\n"), loggedIn}},
		{name: "master", edit: master, script: script{greeting, want("p2 AUTHENTICATE PLAIN " + b64(alice, "gateway", "secret") + "\r\n"), loggedIn}},
		{name: "master-separator", edit: func(c *backend.ProxyConfig) { master(c); c.IMAP.Method = backend.MasterSeparator },
			script: script{greeting, want("p2 AUTHENTICATE PLAIN " + b64("", alice+"*gateway", "secret") + "\r\n"), loggedIn}},
		{name: "local part", edit: func(c *backend.ProxyConfig) { master(c); c.LocalPart = true },
			script: script{greeting, want("p2 AUTHENTICATE PLAIN " + b64("alice", "gateway", "secret") + "\r\n"), loggedIn}},
		{name: "capabilities before the answer", edit: master, script: script{greeting, want("p2"), "* CAPABILITY IMAP4rev1 IDLE XDELTAPUSH\r\np2 OK in\r\n"}},
		{name: "capabilities asked for", edit: master, script: script{greeting, want("p2 AUTHENTICATE PLAIN " + b64(alice, "gateway", "secret") + "\r\n"),
			"p2 OK in\r\n", want("p3 CAPABILITY\r\n"), "* OK [ALERT] hi\r\n* CAPABILITY IMAP4rev1 IDLE XDELTAPUSH\r\np3 OK\r\n* BYE\r\n"}, head: "* OK [ALERT] hi\r\n* BYE\r\n"},
		{name: "lower case", edit: master, script: script{withCode("imap4rev1 sasl-ir auth=plain"), want("p2 "), "p2 ok [capability IMAP4rev1 IDLE auth=x starttls XDELTAPUSH]\r\n"}},
		{name: "more behind the answer", edit: master, script: script{greeting, want("p2 "), loggedIn + "* OK more\r\n* 1 EX"}, head: "* OK more\r\n* 1 EX"},
		{name: "literals before the answer", edit: master, script: script{greeting, want("p2 "), "* ID (\"x\" {7}\r\np2 NO\r\n \"y\" {3}\r\nabc)\r\n" + loggedIn}},
		{name: "untagged before the answer", edit: master, script: script{greeting, want("p2 "), "* OK {100}\r\n* FLAGS ()\r\n* NO [ALERT] full\r\n" + loggedIn}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScripted(t, tt.script)
			var session backend.IMAPSession
			var err error
			if tt.edit == nil {
				session, err = byPassword(s.proxy(), alice, password)
			} else {
				session, err = s.proxy(tt.edit).OpenIMAP(t.Context(), loginOf(alice), clientOf())
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(tt.script) > 2 && !strings.HasSuffix(string(tt.script[len(tt.script)-2].(want)), "\r\n") {
				// The rest of the command is still to be echoed.
				session.Close()
				return
			}
			verify(t, session, tt.head)
		})
	}
}

func TestIMAPRefusals(t *testing.T) {
	wrong := func(err error) bool { return errors.Is(err, accounts.ErrWrongPassword) }
	refused := func(err error) bool { return errors.Is(err, backend.ErrRefused) && !wrong(err) }
	unavailable := func(err error) bool {
		return err != nil && !wrong(err) && !errors.Is(err, backend.ErrRefused) && !errors.As(err, new(*goimap.Error))
	}
	answer := func(code, text string) func(error) bool {
		return func(err error) bool {
			var e *goimap.Error
			return errors.As(err, &e) && string(e.Code) == code && e.Text == text && !wrong(err)
		}
	}
	for _, tt := range []struct {
		answer           string
		password, master func(error) bool
	}{
		{"p2 NO [AUTHENTICATIONFAILED] Authentication failed.", wrong, refused},
		{"p2 no [authenticationfailed] no", wrong, refused},
		{"p2 NO [AUTHORIZATIONFAILED] no", wrong, refused},
		{"p2 NO no", wrong, refused},
		{"p2 NO [UNAVAILABLE] later", answer("UNAVAILABLE", "later"), answer("UNAVAILABLE", "later")},
		{"p2 NO [LIMIT] too many", answer("LIMIT", "too many"), answer("LIMIT", "too many")},
		{"p2 NO [EXPIRED] old", answer("EXPIRED", "old"), refused},
		{"p2 NO [PRIVACYREQUIRED] TLS", answer("PRIVACYREQUIRED", "TLS"), refused},
		{"p2 NO [CONTACTADMIN] call", answer("CONTACTADMIN", "call"), answer("CONTACTADMIN", "call")},
		{"p2 NO [INUSE] wait", answer("INUSE", "wait"), answer("INUSE", "wait")},
		{"* BYE [UNAVAILABLE] later", answer("UNAVAILABLE", "later"), answer("UNAVAILABLE", "later")},
		{"* BYE [AUTHENTICATIONFAILED] no", unavailable, unavailable},
		{"* BYE no", unavailable, unavailable},
		{"p2 BAD what?", unavailable, unavailable},
		{"p2 NO [OPEN", unavailable, unavailable},
		{"p2 PREAUTH hm", unavailable, unavailable},
		{"+ more?", unavailable, unavailable},
		{"p9 OK who?", unavailable, unavailable},
		{"", unavailable, unavailable},
		{"*", unavailable, unavailable},
		{"* OK a\x00b", unavailable, unavailable},
		{"* ID (\"a\" {5000}", unavailable, unavailable},
		{"* ID (\"a\" {-1}", unavailable, unavailable},
	} {
		for method, is := range map[string]func(error) bool{"password": tt.password, "master": tt.master} {
			s := newScripted(t, script{greeting, want("p2 "), tt.answer + "\r\n", hang{}})
			var err error
			if method == "password" {
				_, err = byPassword(s.proxy(), alice, password)
			} else {
				_, err = s.proxy(master).OpenIMAP(t.Context(), loginOf(alice), clientOf())
			}
			if !is(err) {
				t.Errorf("%q, %s: got %v", tt.answer, method, err)
			}
		}
	}
}
