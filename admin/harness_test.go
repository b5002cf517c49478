package admin_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/handlers/https/httpstest"
	"posthorn/mailbox"
	"posthorn/mux"
	"posthorn/mux/muxtest"
	"posthorn/passkeys"
	"posthorn/sessions"
)

// operator may do everything.
var operator = admin.Actor{Name: "test", Operator: true}

// world is a Service with real parts around it: accounts and keys in a store in
// memory, and a mux that logs clients in by their keys.
type world struct {
	*admin.Service
	addr string                   // of the mux; empty on pipes
	dial func() (net.Conn, error) // to the mux
	mail *mail
	log  *muxtest.Log
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := quietWorld(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	w.dial = func() (net.Conn, error) { return net.Dial("tcp", w.addr) }
	w.serve(t, ln)
	return w
}

// worldOnPipes is newWorld in a bubble of synctest.
func worldOnPipes(t testing.TB) *world {
	t.Helper()
	w := quietWorld(t)
	pipes := httpstest.NewPipes()
	w.dial = pipes.Dial
	w.serve(t, pipes)
	return w
}

// quietWorld is a world without a mux, for bubbles of synctest: no time passes in
// them while somebody waits for the network.
func quietWorld(t testing.TB) *world {
	t.Helper()
	house := accountstest.New(t, accounts.Options{Domains: []string{"example.org"}})
	w := &world{mail: newMail(t), log: new(muxtest.Log)}
	w.Service = &admin.Service{
		Accounts: house.Accounts, Keys: house.Keys,
		Sessions: sessions.New(sessions.Config{Store: house.KV, Accounts: house.Accounts, Keys: house.Keys}),
		Passkeys: passkeys.New(passkeys.Config{Store: house.KV, Accounts: house.Accounts}),
		Mail:     w.mail, Store: house.KV, Log: zerolog.New(w.log),
	}
	return w
}

// serve serves a mux whose handler says who is there.
func (w *world) serve(t testing.TB, ln net.Listener) {
	t.Helper()
	w.Mux = mux.New(mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{alpn.IMAP: greeter{w.Accounts}, alpn.SMTP: greeter{w.Accounts}},
		Certs:    muxtest.NewCertificates(t),
		Log:      zerolog.Nop(),
	})
	httpstest.ServeOn(t, w.Mux, ln, alpn.Shared)
}

// enforce runs an Enforcer until the test ends.
func (w *world) enforce(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	e := &admin.Enforcer{Store: w.Store, Accounts: w.Accounts, Keys: w.Keys, Mux: w.Mux, Log: zerolog.New(w.log)}
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// account creates an account with a password.
func (w *world) account(t *testing.T, address string) *accounts.Account {
	t.Helper()
	a, err := w.AddAccount(t.Context(), operator, admin.NewAccount{Address: address, Password: admin.NewPassword{Chosen: "correct horse"}})
	if err != nil {
		t.Fatal(err)
	}
	return a.Account.Account
}

// key registers a new key for an account.
func (w *world) key(t *testing.T, account string) (tls.Certificate, *admin.Key) {
	t.Helper()
	pair := muxtest.KeyPair(t)
	k, err := w.AddKey(t.Context(), operator, admin.NewKey{Account: account, PublicKey: certPEM(pair)})
	if err != nil {
		t.Fatal(err)
	}
	return pair, k
}

// session is a client that has been greeted as somebody.
type session struct {
	*tls.Conn
	r *bufio.Reader
}

// login connects with a key, or without; then it is the account's by password.
func (w *world) login(t *testing.T, protocol alpn.Protocol, account string, certs ...tls.Certificate) *session {
	t.Helper()
	raw, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	nc := tls.Client(raw, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{string(protocol)}, Certificates: certs,
	})
	fmt.Fprintln(nc, account)
	s := &session{nc, bufio.NewReader(nc)}
	if line := s.line(t); line != "welcome" {
		t.Fatalf("greeted with %q", line)
	}
	return s
}

// line reads a line, or what came before the end.
func (s *session) line(t *testing.T) string {
	t.Helper()
	s.SetReadDeadline(time.Now().Add(10 * time.Second))
	line, err := s.r.ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// greeter logs in who shows a known key, and everybody else as the account
// whose ID is their first line. It says why the connection ends.
type greeter struct{ accounts *accounts.Store }

func (greeter) Busy() []byte { return []byte("busy\n") }

func (g greeter) ServeConn(ctx context.Context, c *mux.Conn) {
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	id := mux.Identity{Account: strings.TrimSpace(line), Address: "password", Mechanism: "PLAIN"}
	if a, err := g.accounts.Get(ctx, id.Account); err == nil {
		id.Backend = a.Backend
	}
	if !c.Key.IsZero() {
		scope := map[alpn.Protocol]authkeys.Scope{alpn.IMAP: authkeys.ScopeIMAP, alpn.SMTP: authkeys.ScopeSMTP}[c.Protocol]
		l, err := g.accounts.NewAuth(accounts.Peer{Key: c.Key, Scope: scope, TLS: c.TLS()}).Key(ctx)
		if err != nil {
			fmt.Fprintln(c, err)
			return
		}
		id = mux.Identity{Account: l.Account.ID, Address: l.Address, Mechanism: l.Mechanism, Key: l.Key, Expires: l.Expires,
			Backend: l.Account.Backend}
	}
	if err := c.SetIdentity(id); err != nil {
		return
	}
	fmt.Fprintln(c, "welcome")
	<-ctx.Done()
	fmt.Fprintln(c, context.Cause(ctx))
}

func certPEM(pair tls.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
}

// mail is the embedded mailboxes. Removals can be made to fail.
type mail struct {
	*mailbox.Store
	fail error // what RemoveUser answers
}

func newMail(t testing.TB) *mail {
	t.Helper()
	s, err := mailbox.Open(t.TempDir(), mailbox.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &mail{Store: s}
}

func (m *mail) RemoveUser(ctx context.Context, user string) error {
	if m.fail != nil {
		return m.fail
	}
	return m.Store.RemoveUser(ctx, user)
}

// letter is a message that takes len(letter) bytes.
const letter = "Subject: Hello\r\n\r\nHello.\r\n"

// deliver brings an account a letter.
func (m *mail) deliver(t *testing.T, account string) {
	t.Helper()
	if err := m.Deliver(t.Context(), []string{account}, strings.NewReader(letter)); err != nil {
		t.Fatal(err)
	}
}

// messages is how many messages an account has.
func (m *mail) messages(t *testing.T, account string) int {
	t.Helper()
	_, n, err := m.Usage(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
