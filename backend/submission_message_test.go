package backend_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-smtp"

	"posthorn/await"
	"posthorn/backend"
)

// What a client did not send to its end, a server does not get to see the end
// of, whatever else is said on the connection.
func TestSubmissionCutOff(t *testing.T) {
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		message io.Reader
		want    string
	}{
		"at once":       {iotest.ErrReader(gone), "451 4.3.0"},
		"in a line":     {io.MultiReader(strings.NewReader(text+"half"), iotest.ErrReader(gone)), "451 4.3.0"},
		"after a line":  {io.MultiReader(strings.NewReader(text), iotest.ErrReader(gone)), "451 4.3.0"},
		"after a CR":    {io.MultiReader(strings.NewReader(text+"\r"), iotest.ErrReader(gone)), "451 4.3.0"},
		"after a dot":   {io.MultiReader(strings.NewReader(text+"."), iotest.ErrReader(gone)), "451 4.3.0"},
		"much later":    {io.MultiReader(io.LimitReader(endless{}, 1<<20), iotest.ErrReader(gone)), "451 4.3.0"},
		"by a refusal":  {io.MultiReader(strings.NewReader(text), iotest.ErrReader(&smtp.SMTPError{Code: 552, Message: "big"})), "552 big"},
		"unexpectedly":  {io.MultiReader(strings.NewReader(text), iotest.ErrReader(io.ErrUnexpectedEOF)), "451 4.3.0"},
		"with a 250 of": {io.MultiReader(strings.NewReader(text), iotest.ErrReader(&smtp.SMTPError{Code: 250})), "451 4.3.0"},
	} {
		f := newSubmissionFake(t, nil)
		p := f.proxy()
		run(t, p)
		s := submitter(t, p, alice, here)
		if got := beginning(send(s, c.message, bob)); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		await.Until(t, name, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.cut == 1 })
		s.Reset()
		if err := send(s, strings.NewReader(text), bob); err != nil { // on another connection
			t.Errorf("%s: %v", name, err)
		}
		s.Logout()
		if got := f.taken(); len(got) != 1 || got[0] != text {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// Nor does it when reading panics, which the handler survives.
func TestSubmissionPanic(t *testing.T) {
	f := newSubmissionFake(t, nil)
	p := f.proxy()
	f.checked(p)
	s := submitter(t, p, alice, here)
	func() {
		defer func() { _ = recover() }()
		_ = send(s, io.MultiReader(strings.NewReader(text), readerFunc(func([]byte) (int, error) { panic("as asked") })), bob)
	}()
	s.Logout()
	await.Until(t, "the message is cut", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.cut == 1 })
	if err := send(submitter(t, p, alice, here), strings.NewReader(text), bob); err != nil || len(f.taken()) != 1 {
		t.Errorf("%v; %d messages", err, len(f.taken()))
	}
}

// What a server says before the end of a message is no answer to it, unless it
// is a refusal.
func TestSubmissionEarly(t *testing.T) {
	for said, want := range map[string]string{
		"250 2.0.0 queued\r\n":              "451 4.4.2",
		"354 go on\r\n":                     "451 4.4.2",
		"552 5.3.4 too big\r\n" + thenClose: "552 5.3.4",
		"421 4.3.2 going\r\n" + thenClose:   "421 4.3.2",
		"552 5.3.4 too big\r\n" + thenHang:  "552 5.3.4",
		"552 5.3" + thenHang:                "451 4.4.2",
		thenClose:                           "451 4.4.2",
	} {
		for _, at := range []string{"DATA", "body"} {
			once := false
			f := newSubmissionFake(t, func(_ int, step string) string {
				switch {
				case step != at || once:
					return ""
				case at == "DATA":
					return "354 go on\r\n" + said
				}
				once = true
				return said
			}, func(f *submissionFake) { f.discard = true }) // an endless message
			s := submitter(t, f.proxy(impatient), alice, here)
			if got := beginning(send(s, endless{}, bob)); got != want {
				t.Errorf("%q at %s: got %q, want %q", said, at, got, want)
			}
			s.Reset()
			s.Logout()
			f.stop()
			if n := len(f.taken()); n != 0 {
				t.Errorf("%q at %s: %d messages", said, at, n)
			}
		}
	}
}

// Two replies to one command are one too many.
func TestSubmissionOutOfTurn(t *testing.T) {
	for _, at := range []string{"connect", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "."} {
		f := newSubmissionFake(t, func(_ int, step string) string {
			usual := map[string]string{"connect": "220 hi", "EHLO": "250-hi\r\n250 AUTH PLAIN", "AUTH": "235 ok", "DATA": "354 go on"}[at]
			if usual == "" {
				usual = "250 2.0.0 ok"
			}
			if strings.HasPrefix(step, at) {
				return usual + "\r\n250 2.0.0 ok\r\n"
			}
			return ""
		})
		p := f.proxy(impatient, method(backend.Master), func(c *backend.ProxyConfig) {
			c.Submission.User, c.Submission.Password = "gateway", "secret"
		})
		s, err := p.OpenSubmission(context.Background(), loginOf(alice), here)
		if err == nil {
			err = send(s, strings.NewReader(text), bob)
			if at == "." && err == nil { // its first reply was the one to the message
				s.Reset()
				err = s.Mail(alice, nil) // on a new connection
			} else if err == nil || err != nil && !strings.HasPrefix(heard(err), "451") {
				t.Errorf("%s: got %v", at, err)
			}
			s.Logout()
		}
		f.stop()
		if n := len(f.taken()); at != "." && n != 0 || at == "." && (n != 1 || err != nil || f.opened() != 2) {
			t.Errorf("%s: %v; %d messages on %d connections", at, err, n, f.opened())
		}
	}
}

// A server may send its replies a byte at a time.
func TestSubmissionBytewise(t *testing.T) {
	f := newSubmissionFake(t, func(_ int, step string) string {
		if strings.HasPrefix(step, "RCPT TO:<no") {
			return "550-5.1.1 a\r\n550 5.1.1 b\r\n"
		}
		return ""
	}, func(f *submissionFake) { f.bytewise = true })
	s := submitter(t, f.proxy(method(backend.XClient)), alice, here)
	if err := s.Mail(alice, nil); err != nil {
		t.Fatal(err)
	}
	if got := heard(s.Rcpt("no@x", nil)); got != "550 5.1.1 a\nb" {
		t.Errorf("got %q", got)
	}
	if err := errors.Join(s.Rcpt(bob, nil), s.Data(strings.NewReader(text))); err != nil {
		t.Error(err)
	}
}

// What a server cannot take, it does not get: a client may know better only
// after its login, or not say what it sends.
func TestSubmissionNarrow(t *testing.T) {
	const (
		u8      = "\u00e9"
		plain   = "Subject: x\r\n\r\nbody\r\n"
		header  = "Subject: " + u8 + "\r\n\r\nbody\r\n"
		content = "Subject: x\r\n\r\n" + u8 + "\r\n"
	)
	all := []string{"SMTPUTF8", "8BITMIME", "DSN", "SIZE 1000"}
	for _, c := range []struct {
		name     string
		lacks    string
		from, to string
		mail     smtp.MailOptions
		rcpt     smtp.RcptOptions
		message  string
		want     string
		said     string // MAIL
	}{
		{"everything", "", u8 + "@x", u8 + "@y", smtp.MailOptions{UTF8: true, Size: 9, Return: "FULL", EnvelopeID: "a b"},
			smtp.RcptOptions{Notify: []smtp.DSNNotify{"NEVER"}}, header, "", "MAIL FROM:<" + u8 + "@x> BODY=8BITMIME SIZE=9 SMTPUTF8 RET=FULL ENVID=a+20b"},
		{"UTF-8 sender", "SMTPUTF8", u8 + "@x", bob, smtp.MailOptions{UTF8: true}, smtp.RcptOptions{}, plain, "553 5.6.7", ""},
		{"UTF-8 recipient", "SMTPUTF8", alice, u8 + "@x", smtp.MailOptions{UTF8: true}, smtp.RcptOptions{}, plain, "553 5.6.7", "MAIL FROM:<" + alice + "> BODY=8BITMIME"},
		{"UTF-8 header", "SMTPUTF8", alice, bob, smtp.MailOptions{UTF8: true}, smtp.RcptOptions{}, header, "550 5.6.7", "MAIL FROM:<" + alice + "> BODY=8BITMIME"},
		{"needlessly SMTPUTF8", "SMTPUTF8", alice, bob, smtp.MailOptions{UTF8: true}, smtp.RcptOptions{}, content, "", "MAIL FROM:<" + alice + "> BODY=8BITMIME"},
		{"sloppy header", "SMTPUTF8", alice, bob, smtp.MailOptions{}, smtp.RcptOptions{}, header, "", "MAIL FROM:<" + alice + "> BODY=8BITMIME"},
		{"8-bit content", "8BITMIME", alice, bob, smtp.MailOptions{Body: smtp.Body8BitMIME}, smtp.RcptOptions{}, content, "554 5.6.3", "MAIL FROM:<" + alice + ">"},
		{"8-bit content, unsaid", "8BITMIME", alice, bob, smtp.MailOptions{}, smtp.RcptOptions{}, content, "554 5.6.3", "MAIL FROM:<" + alice + ">"},
		{"needlessly 8BITMIME", "8BITMIME", alice, bob, smtp.MailOptions{Body: smtp.Body8BitMIME}, smtp.RcptOptions{}, plain, "", "MAIL FROM:<" + alice + ">"},
		{"RET", "DSN", alice, bob, smtp.MailOptions{Return: "FULL"}, smtp.RcptOptions{}, plain, "555 5.5.4", ""},
		{"NOTIFY", "DSN", alice, bob, smtp.MailOptions{}, smtp.RcptOptions{Notify: []smtp.DSNNotify{"NEVER"}}, plain, "555 5.5.4", "MAIL FROM:<" + alice + "> BODY=8BITMIME"},
		{"SIZE", "SIZE", alice, bob, smtp.MailOptions{Size: 9}, smtp.RcptOptions{}, plain, "", "MAIL FROM:<" + alice + "> BODY=8BITMIME"},
		{"AUTH", "", alice, bob, smtp.MailOptions{Auth: new(string)}, smtp.RcptOptions{}, plain, "", "MAIL FROM:<" + alice + "> BODY=8BITMIME"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newSubmissionFake(t, nil, func(f *submissionFake) {
				f.offers = []string{"AUTH PLAIN"}
				for _, offer := range all {
					if c.lacks == "" || !strings.HasPrefix(offer, c.lacks) {
						f.offers = append(f.offers, strings.ToLower(offer)) // keywords have no case
					}
				}
			})
			s := submitter(t, f.proxy(), alice, here)
			err := s.Mail(c.from, &c.mail)
			if err == nil {
				err = s.Rcpt(c.to, &c.rcpt)
			}
			if err == nil {
				err = s.Data(iotest.OneByteReader(strings.NewReader(c.message)))
			}
			if got := beginning(err); got != c.want {
				t.Errorf("got %q, want %q", heard(err), c.want)
			}
			s.Logout()
			f.stop()
			if n := len(f.taken()); (n == 1) != (c.want == "") {
				t.Errorf("%d messages", n)
			}
			if got := strings.TrimPrefix(strings.Join(f.said("MAIL"), ""), "0 "); got != c.said {
				t.Errorf("got %q, want %q", got, c.said)
			}
		})
	}
}

// What is offered is what all addresses can do that were heard of.
func TestSubmissionOffer(t *testing.T) {
	most := backend.Submission{MaxSize: 10240000, EightBitMIME: true, UTF8: true, DSN: true}
	f := newSubmissionFake(t, nil)
	g := newSubmissionFake(t, nil, func(g *submissionFake) { g.offers = []string{"SIZE 999", "8BITMIME"} })
	p := f.proxy(func(c *backend.ProxyConfig) {
		c.AnySender = true
		c.Submission.Upstream.Addresses = append(c.Submission.Upstream.Addresses, g.ln.Addr().String())
	})
	if got := p.Submission(nil); got != (backend.Submission{EightBitMIME: true, UTF8: true, AnySender: true}) {
		t.Errorf("unseen: got %+v", got)
	}
	run(t, p)
	await.Until(t, "both are known", func() bool {
		return p.Submission(nil) == backend.Submission{MaxSize: 999, EightBitMIME: true, AnySender: true}
	})

	p = f.proxy()
	run(t, p)
	await.Until(t, "it is known", func() bool { return p.Submission(loginOf(alice)) == most })

	// Who cannot send at all is no reason to offer others less.
	none, err := backend.NewProxy(backend.ProxyConfig{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if got := none.Submission(nil); got != (backend.Submission{EightBitMIME: true, UTF8: true, DSN: true, AnySender: true}) {
		t.Errorf("got %+v", got)
	}
}

// Whatever a session is waiting for, it ends with its context.
func TestSubmissionCancelled(t *testing.T) {
	for _, at := range []string{"connect", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "body", "."} {
		ctx, cancel := context.WithCancel(context.Background())
		f := newSubmissionFake(t, func(_ int, step string) string {
			if strings.HasPrefix(step, at) {
				cancel()
				return thenHang
			}
			return ""
		})
		p := f.proxy(method(backend.Master), func(c *backend.ProxyConfig) {
			c.Submission.User, c.Submission.Password = "gateway", "secret"
			c.Submission.Upstream.Timeout = time.Minute
		})
		began := time.Now()
		s, err := p.OpenSubmission(ctx, loginOf(alice), here)
		if err == nil {
			var message io.Reader = strings.NewReader(text)
			if at == "body" {
				message = endless{}
			}
			err = send(s, message, bob)
			s.Logout()
		}
		if got := beginning(err); got[:3] != "451" || time.Since(began) > 5*time.Second {
			t.Errorf("%s: got %v after %s", at, err, time.Since(began))
		}
		cancel()
		f.stop()
	}
}

// A message is never in memory as a whole, even when the server is slower than
// the client.
func TestSubmissionMemory(t *testing.T) {
	const size = 100 << 20
	f := newSubmissionFake(t, nil, func(f *submissionFake) { f.discard = true })
	s := submitter(t, f.proxy(), alice, here)
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := uint64(0)
	seen := 0
	message := readerFunc(func(p []byte) (int, error) {
		if seen += len(p); seen > size/8 {
			seen = 0
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
		return endless{}.Read(p)
	})
	if err := send(s, io.LimitReader(message, size), bob); err != nil {
		t.Fatal(err)
	}
	if grown := int64(peak) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap has grown by %d octets", grown)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
