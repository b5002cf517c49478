package backend_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-smtp"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/backend"
	"posthorn/mailbox"
)

const text = "From: alice@localhost\r\nSubject: hi\r\n\r\nHello\r\n"

// bench is a backend with the accounts alice (also al@) and bob.
type bench struct {
	*backend.Embedded
	t          testing.TB
	alice, bob *accounts.Account
}

func start(t testing.TB, o mailbox.Options) *bench {
	t.Helper()
	people := accountstest.New(t, accounts.Options{}).Accounts
	mail, err := mailbox.Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mail.Close() })
	b := &bench{t: t, Embedded: &backend.Embedded{Mail: mail, Accounts: people, Domains: []string{"localhost"}}}
	b.alice, b.bob = b.add("alice@localhost"), b.add("bob@localhost")
	if err := people.AddAddress(t.Context(), b.alice.ID, "al@localhost"); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) add(address string) *accounts.Account {
	b.t.Helper()
	a, err := b.Accounts.Add(context.Background(), address, "")
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// submit sends a message from alice; its error is that of the first step that
// fails.
func (b *bench) submit(r io.Reader, to ...string) error {
	b.t.Helper()
	s, err := b.OpenSubmission(context.Background(), &accounts.Login{Account: b.alice, Address: "alice@localhost"}, new(backend.Client))
	if err != nil {
		return err
	}
	defer s.Logout()
	if err := s.Mail("alice@localhost", new(smtp.MailOptions)); err != nil {
		return err
	}
	for _, address := range to {
		if err := s.Rcpt(address, new(smtp.RcptOptions)); err != nil {
			return err
		}
	}
	return s.Data(r)
}

// messages is how many an account has.
func (b *bench) messages(a *accounts.Account) int {
	b.t.Helper()
	_, n, err := b.Mail.Usage(context.Background(), a.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// reply is the beginning of what a client would hear of err.
func reply(err error) string {
	var s *smtp.SMTPError
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &s):
		return "no reply: " + err.Error()
	}
	return fmt.Sprintf("%d %d.%d.%d", s.Code, s.EnhancedCode[0], s.EnhancedCode[1], s.EnhancedCode[2])
}

func TestDeliversOnceToEach(t *testing.T) {
	b := start(t, mailbox.Options{})
	err := b.submit(strings.NewReader(text), "alice@localhost", "Bob@LOCALHOST", "al@localhost", "bob@localhost")
	if err != nil {
		t.Fatal(err)
	}
	if a, c := b.messages(b.alice), b.messages(b.bob); a != 1 || c != 1 {
		t.Errorf("alice has %d messages, bob %d", a, c)
	}
}

func TestRecipients(t *testing.T) {
	b := start(t, mailbox.Options{})
	for address, want := range map[string]string{
		"carol@localhost":     "550 5.1.1",
		"bob@example.org":     "550 5.7.1",
		"bob@sub.localhost":   "550 5.7.1",
		"bob":                 "553 5.1.3",
		"a b@localhost":       "553 5.1.3",
		"bob@localhost\r\nX:": "553 5.1.3",
	} {
		if got := reply(b.submit(strings.NewReader(text), "bob@localhost", address)); got != want {
			t.Errorf("%q: got %q, want %q", address, got, want)
		}
	}
	if n := b.messages(b.bob); n != 0 {
		t.Errorf("bob has %d messages", n)
	}
}

func TestReceivesWhileDisabled(t *testing.T) {
	b := start(t, mailbox.Options{})
	if err := b.Accounts.SetDisabled(context.Background(), b.bob.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := b.submit(strings.NewReader(text), "bob@localhost"); err != nil || b.messages(b.bob) != 1 {
		t.Errorf("got %v", err)
	}
}

// Mail for an account whose mailbox is elsewhere would have to be relayed.
func TestNoMailForAccountsElsewhere(t *testing.T) {
	b := start(t, mailbox.Options{})
	b.Has = func(a *accounts.Account) bool { return a.ID != b.bob.ID }
	var refused *smtp.SMTPError
	if err := b.submit(strings.NewReader(text), "bob@localhost"); !errors.As(err, &refused) || refused.Code != 550 || b.messages(b.bob) != 0 {
		t.Errorf("got %v", err)
	}
	if err := b.submit(strings.NewReader(text), "alice@localhost"); err != nil || b.messages(b.alice) != 1 {
		t.Errorf("got %v", err)
	}
}

func TestTransactionsAreApart(t *testing.T) {
	b := start(t, mailbox.Options{})
	s, err := b.OpenSubmission(context.Background(), &accounts.Login{Account: b.alice}, new(backend.Client))
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"alice@localhost", "bob@localhost"} {
		if err := errors.Join(s.Mail("alice@localhost", nil), s.Rcpt(to, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Data(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if a, c := b.messages(b.alice), b.messages(b.bob); a != 0 || c != 1 {
		t.Errorf("alice has %d messages, bob %d", a, c)
	}
}

// Whatever goes wrong, no recipient has the message, and the client hears
// whether to try again.
func TestFailures(t *testing.T) {
	small := mailbox.Options{MaxMessageSize: 1000}
	for _, c := range []struct {
		name    string
		options mailbox.Options
		r       io.Reader
		want    string
	}{
		{"too big", small, strings.NewReader(text + strings.Repeat("a line\r\n", 1000)), "552 5.3.4"},
		{"over quota", mailbox.Options{Quota: 10}, strings.NewReader(text), "552 5.2.2"},
		{"cut off", mailbox.Options{}, io.MultiReader(strings.NewReader(text), iotest.ErrReader(io.ErrUnexpectedEOF)), "451 4.3.0"},
	} {
		b := start(t, c.options)
		if got := reply(b.submit(c.r, "alice@localhost", "bob@localhost")); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if b.messages(b.alice)+b.messages(b.bob) != 0 {
			t.Errorf("%s: somebody has the message", c.name)
		}
	}
}

func TestUnavailable(t *testing.T) {
	b := start(t, mailbox.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s, err := b.OpenSubmission(ctx, &accounts.Login{Account: b.alice}, new(backend.Client))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Mail.Close(); err != nil {
		t.Fatal(err)
	}
	if got := reply(s.Data(strings.NewReader(text))); got != "451 4.3.0" {
		t.Errorf("got %q", got)
	}
}

func TestIMAP(t *testing.T) {
	b := start(t, mailbox.Options{})
	if err := b.submit(strings.NewReader(text), "bob@localhost"); err != nil {
		t.Fatal(err)
	}
	s, err := b.OpenIMAP(context.Background(), &accounts.Login{Account: b.bob}, new(backend.Client))
	if err != nil {
		t.Fatal(err)
	}
	if got := " " + s.Capabilities() + " "; !strings.Contains(got, " IMAP4rev1 ") {
		t.Errorf("capabilities %q", got)
	}
	client, server := net.Pipe()
	served := make(chan error)
	go func() {
		err := s.Serve(context.Background(), server)
		server.Close()
		served <- err
	}()
	go io.WriteString(client, "a SELECT INBOX\r\nb LOGOUT\r\n")
	r := bufio.NewReader(client)
	all, err := io.ReadAll(r)
	if !strings.Contains(string(all), "* 1 EXISTS\r\n") || !strings.Contains(string(all), "\r\nb OK") {
		t.Errorf("got %q, %v", all, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
