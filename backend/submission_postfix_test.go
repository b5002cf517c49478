package backend_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/await"
	"posthorn/backend"
	"posthorn/backend/backendtest"
	"posthorn/backend/upstream"
)

// postfixProxy returns a running Proxy for a Postfix that limits messages to
// 100,000 octets, and has more lines at the end of its configuration.
func postfixProxy(t *testing.T, edit func(*backend.Server, *backendtest.Postfix), more ...string) (*backend.Proxy, *backendtest.Postfix) {
	t.Helper()
	d := backendtest.StartDovecot(t, backendtest.DovecotOptions{Users: map[string]string{alice: "wonderland"}})
	p := backendtest.StartPostfix(t, backendtest.PostfixOptions{Dovecot: d, MaxSize: 100_000, More: strings.Join(more, "\n")})
	s := &backend.Server{}
	edit(s, p)
	proxy, err := backend.NewProxy(backend.ProxyConfig{
		Name: "mail", KeepsPasswords: true, AnySender: true, Submission: s, Log: zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, proxy)
	await.Until(t, "the server is known", func() bool { return proxy.Submission(nil).MaxSize == 100_000 })
	return proxy, p
}

func xclient(s *backend.Server, p *backendtest.Postfix) {
	s.Method, s.Upstream.Addresses = backend.XClient, []string{p.XClient}
}

// Postfix takes who the gateway says for who it is, on a connection that is used
// again too, and says no to what is not theirs.
func TestSubmissionPostfix(t *testing.T) {
	t.Parallel()
	proxy, p := postfixProxy(t, xclient)
	if got := proxy.Submission(nil); got != (backend.Submission{MaxSize: 100_000, EightBitMIME: true, UTF8: true, DSN: true, AnySender: true}) {
		t.Errorf("it can do %+v", got)
	}
	for range 3 {
		s := submitter(t, proxy, alice, here)
		if err := send(s, strings.NewReader(text), alice); err != nil {
			t.Fatal(err)
		}
		if err := s.Mail(bob, nil); err != nil { // refused later, by smtpd_delay_reject
			t.Fatal(err)
		}
		if got := beginning(s.Rcpt(alice, nil)); got != "553 5.7.1" {
			t.Errorf("got %q", got)
		}
		s.Logout()
	}
	const login = "client=unknown[203.0.113.5], sasl_method=XCLIENT, sasl_username=" + alice
	await.Until(t, login, func() bool { return strings.Count(p.Log(), login) == 3 })
	// Checks of its health come before the first message, or late enough.
	log := p.Log()
	if between := log[strings.Index(log, login):strings.LastIndex(log, login)]; strings.Contains(between, ": connect from ") {
		t.Errorf("a connection was opened between the messages:\n%s", between)
	}
}

// Postfix is told of clients with every kind of address, and of strange users.
func TestSubmissionPostfixClients(t *testing.T) {
	t.Parallel()
	proxy, p := postfixProxy(t, xclient)
	for _, c := range []struct {
		user   string
		client *backend.Client
		want   string
	}{
		{alice, from("[2001:db8::7]:4711"), "client=unknown[unknown], sasl_method=XCLIENT, sasl_username=" + alice},
		{alice, from("[::ffff:203.0.113.9]:4711"), "client=unknown[203.0.113.9], sasl_method=XCLIENT, sasl_username=" + alice},
		{alice, new(backend.Client), "client=unknown[unknown], sasl_method=XCLIENT, sasl_username=" + alice},
		{"a+b=c@example.org", here, "client=unknown[203.0.113.5], sasl_method=XCLIENT, sasl_username=a+b=c@example.org"},
		{"\u00e9@example.org", here, "client=unknown[203.0.113.5], sasl_method=XCLIENT, sasl_username="},
	} {
		s := submitter(t, proxy, c.user, c.client)
		err := s.Mail(c.user, &smtp.MailOptions{UTF8: true})
		if err == nil {
			err = s.Rcpt(alice, nil)
		}
		if err == nil {
			err = s.Data(strings.NewReader(text))
		}
		if err != nil {
			t.Errorf("%s: got %v", c.user, err)
			continue
		}
		p.Await(t, c.want)
		s.Logout()
	}
}

func TestSubmissionPostfixIPv6(t *testing.T) {
	t.Parallel()
	proxy, p := postfixProxy(t, xclient, "inet_protocols = all")
	if err := send(submitter(t, proxy, alice, from("[2001:db8::7]:4711")), strings.NewReader(text), alice); err != nil {
		t.Fatal(err)
	}
	p.Await(t, "client=unknown[2001:db8::7], sasl_method=XCLIENT, sasl_username="+alice)
}

// What Postfix says to one message has nothing to do with the next.
func TestSubmissionPostfixReplies(t *testing.T) {
	t.Parallel()
	proxy, _ := postfixProxy(t, xclient)
	s := submitter(t, proxy, alice, here)
	big := io.MultiReader(strings.NewReader(text), io.LimitReader(endless{}, 120_000))
	for _, c := range []struct {
		mail    smtp.MailOptions
		to      string
		rcpt    smtp.RcptOptions
		message io.Reader
		want    string
	}{
		{smtp.MailOptions{}, "refuse-450-4.7.1@example.org", smtp.RcptOptions{}, nil, "450 4.7.1"},
		{smtp.MailOptions{}, "refuse-523-5.7.10@example.org", smtp.RcptOptions{}, nil, "523 5.7.10"},
		{smtp.MailOptions{}, "data-523-5.7.10@example.org", smtp.RcptOptions{}, strings.NewReader(text), "523 5.7.10"},
		{smtp.MailOptions{}, "alice@elsewhere.example", smtp.RcptOptions{}, nil, "550 5.1.2"},
		{smtp.MailOptions{Size: 100_001}, alice, smtp.RcptOptions{}, nil, "552 5.3.4"},
		{smtp.MailOptions{}, alice, smtp.RcptOptions{}, big, "552 5.3.4"},
		{smtp.MailOptions{Size: 99_999}, alice, smtp.RcptOptions{}, strings.NewReader(text), ""},
		{smtp.MailOptions{UTF8: true, Body: smtp.Body8BitMIME}, "\u00e9@example.org", smtp.RcptOptions{},
			strings.NewReader("Subject: \u00e9\r\n\r\n\u00e9\r\n"), ""},
		{smtp.MailOptions{Return: smtp.DSNReturnHeaders, EnvelopeID: "a+b c"}, alice, smtp.RcptOptions{
			Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess}, OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "a=b@x",
		}, strings.NewReader(text), ""},
	} {
		err := s.Mail(alice, &c.mail)
		if err == nil {
			err = s.Rcpt(c.to, &c.rcpt)
		}
		if err == nil && c.message != nil {
			err = s.Data(c.message)
		}
		if got := beginning(err); got != c.want {
			t.Errorf("%+v to %s: got %q, want %q", c.mail, c.to, heard(err), c.want)
		}
		s.Reset()
	}
	s.Logout()
}

// The user's own password, over TLS, once.
func TestSubmissionPostfixPassword(t *testing.T) {
	t.Parallel()
	proxy, p := postfixProxy(t, func(s *backend.Server, p *backendtest.Postfix) {
		var err error
		s.Upstream.Addresses, s.Upstream.Security = []string{p.Plain}, upstream.StartTLS
		if s.Upstream.TLS, err = upstream.TrustConfig(p.Authority.File, nil, "mail.test"); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := openWith(proxy, alice, "wrong"); !errors.Is(err, accounts.ErrWrongPassword) {
		t.Errorf("got %v", err)
	}
	l, err := openWith(proxy, alice, "wonderland")
	if err != nil {
		t.Fatal(err)
	}
	s, err := proxy.OpenSubmission(context.Background(), l, here)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := send(s, strings.NewReader(text), alice); err != nil {
			t.Error(err)
		}
	}
	s.Logout()
	p.AwaitTimes(t, "SASL PLAIN authentication failed", 1)

	// Postfix ends, and says so, before the next message.
	if l, err = openWith(proxy, alice, "wonderland"); err != nil {
		t.Fatal(err)
	}
	if s, err = proxy.OpenSubmission(context.Background(), l, here); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	if got := beginning(send(s, strings.NewReader(text), alice)); got[:1] != "4" {
		t.Errorf("got %q", got)
	}
	s.Logout()
	p.Start()
}
