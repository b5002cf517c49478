package sendmail_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"posthorn/client"
	"posthorn/client/clienttest"
	"posthorn/client/sendmail"
)

func TestSend(t *testing.T) {
	s := serve(t)
	sender := s.sender()
	for i := range 3 {
		o := sender.Send(t.Context(), message(t, fmt.Sprintf("%d\n.\n..\n", i), "a@x.org", "b@x.org"))
		if o.Exit() != sendmail.OK || !slices.Equal(o.Sent, []string{"a@x.org", "b@x.org"}) {
			t.Fatalf("%+v", o)
		}
	}
	got := s.got()
	if len(got) != 3 || s.conns != 1 || got[0].from != alice || !strings.HasSuffix(got[2].text, "\r\n\r\n2\r\n.\r\n..\r\n\r\n") {
		t.Errorf("%d connections, %+v", s.conns, got)
	}
}

func TestRefusedRecipients(t *testing.T) {
	for name, c := range map[string]struct {
		a, b              error
		end               error
		sent, later, gone string
		exit              sendmail.Exit
	}{
		"one for good":       {a: answer(550, 5, 1, 1), sent: "b", gone: "a", exit: sendmail.NoUser},
		"one for now":        {a: answer(450, 4, 2, 0), sent: "b", later: "a", exit: sendmail.Unavailable},
		"both for good":      {a: answer(550, 5, 1, 1), b: answer(550, 5, 7, 1), gone: "ab", exit: sendmail.Unavailable},
		"both for now":       {a: answer(450, 4, 2, 0), b: answer(451, 4, 3, 0), later: "ab", exit: sendmail.TempFail},
		"one of each":        {a: answer(550, 5, 1, 1), b: answer(451, 4, 3, 0), gone: "a", later: "b", exit: sendmail.TempFail},
		"good bye":           {b: answer(421, 4, 3, 0), later: "ab", exit: sendmail.TempFail},
		"content":            {end: answer(554, 5, 6, 0), gone: "ab", exit: sendmail.DataErr},
		"content, not now":   {end: answer(451, 4, 3, 0), later: "ab", exit: sendmail.TempFail},
		"policy":             {end: answer(550, 5, 7, 1), gone: "ab", exit: sendmail.NoPerm},
		"not logged in":      {a: answer(530, 5, 7, 0), b: answer(530, 5, 7, 0), later: "ab", exit: sendmail.NoPerm},
		"without other code": {a: &smtp.SMTPError{Code: 550, EnhancedCode: smtp.NoEnhancedCode, Message: "no"}, sent: "b", gone: "a", exit: sendmail.NoUser},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			s.refuse["a@x.org"], s.refuse["b@x.org"] = c.a, c.b
			s.end = func(*delivery) error { return c.end }
			o := s.sender().Send(t.Context(), message(t, "text", "a@x.org", "b@x.org"))
			letters := func(list []string) string {
				slices.Sort(list)
				return strings.ReplaceAll(strings.Join(list, ""), "@x.org", "")
			}
			if letters(o.Sent) != c.sent || letters(failed(o.Refused)) != c.gone || letters(failed(o.Deferred)) != c.later || o.Exit() != c.exit {
				t.Errorf("exit %d, %+v", o.Exit(), o)
			}
			if n := len(s.got()); n != len(c.sent) {
				t.Errorf("%d messages were taken", n)
			}
		})
	}
}

// More recipients than a transaction may have are several transactions.
func TestManyRecipients(t *testing.T) {
	s := serve(t)
	s.most = 4
	var to []string
	for i := range 10 {
		to = append(to, fmt.Sprintf("r%d@x.org", i))
	}
	s.refuse["r5@x.org"] = answer(550, 5, 1, 1)
	o := s.sender().Send(t.Context(), message(t, "text", to...))
	if len(o.Sent) != 9 || len(o.Refused) != 1 || len(o.Deferred) != 0 {
		t.Errorf("%+v", o)
	}
	for _, r := range o.Sent {
		if s.copies(r, "text") != 1 {
			t.Errorf("%s: %d", r, s.copies(r, "text"))
		}
	}
}

// A connection that ended between two messages is replaced; one that ends in the
// midst is not known to have carried the message.
func TestLostConnection(t *testing.T) {
	s := serve(t)
	sender := s.sender()
	if o := sender.Send(t.Context(), message(t, "1", "a@x.org")); o.Exit() != sendmail.OK {
		t.Fatalf("%+v", o)
	}
	s.cut()
	if o := sender.Send(t.Context(), message(t, "2", "a@x.org")); o.Exit() != sendmail.OK || s.conns != 2 {
		t.Fatalf("%d connections, %+v", s.conns, o)
	}
	s.set(func() { s.taken = s.cut })
	if o := sender.Send(t.Context(), message(t, "3", "a@x.org")); o.Exit() != sendmail.TempFail || len(o.Sent)+len(o.Refused) != 0 {
		t.Fatalf("%+v", o)
	}
	s.set(func() { s.taken = nil })
	if o := sender.Send(t.Context(), message(t, "4", "a@x.org")); o.Exit() != sendmail.OK || o.Unreachable {
		t.Fatalf("%+v", o)
	}
}

// brokenText is a message that cannot be read to its end.
type brokenText struct{ *strings.Reader }

func (b brokenText) ReadAt(p []byte, off int64) (int, error) {
	if off > 60000 {
		return 0, io.ErrClosedPipe
	}
	return b.Reader.ReadAt(p, off)
}

// What was not sent whole is not a message.
func TestHalfMessage(t *testing.T) {
	s := serve(t)
	m := message(t, "text", "a@x.org")
	m.Text, m.Size = brokenText{strings.NewReader(strings.Repeat("text\r\n", 50000))}, 300000
	sender := s.sender()
	if o := sender.Send(t.Context(), m); len(o.Deferred) != 1 {
		t.Errorf("%+v", o)
	}
	m.Text = strings.NewReader("short\r\n")
	if o := sender.Send(t.Context(), m); len(o.Deferred) != 1 || o.Exit() != sendmail.IOErr {
		t.Errorf("%+v", o)
	}
	s.open.Wait()
	if n := len(s.got()); n != 0 {
		t.Errorf("%d messages were taken", n)
	}
}

func TestExtensions(t *testing.T) {
	with, without := serve(t), serve(t, func(s *smtp.Server) { s.EnableSMTPUTF8, s.EnableDSN, s.MaxMessageBytes = false, false, 1000 })
	m := message(t, "text", "jürgen@x.org")
	m.Reports = sendmail.Reports{Notify: []string{"SUCCESS", "DELAY"}, Return: "HDRS", ID: "a+b"}
	if o := with.sender().Send(t.Context(), m); o.Exit() != sendmail.OK || o.NoReports {
		t.Fatalf("%+v", o)
	}
	d := with.got()[0]
	if !d.opts.UTF8 || d.opts.Return != "HDRS" || d.opts.EnvelopeID != "a+b" || fmt.Sprint(d.rcpt.Notify) != "[SUCCESS DELAY]" || d.opts.Body != "8BITMIME" || d.opts.Size != m.Size {
		t.Errorf("%+v", d)
	}
	if o := without.sender().Send(t.Context(), m); o.Exit() != sendmail.DataErr || len(o.Refused) != 1 {
		t.Errorf("%+v", o)
	}
	m = message(t, "text", "a@x.org")
	m.Reports.Notify = []string{"NEVER"}
	if o := without.sender().Send(t.Context(), m); o.Exit() != sendmail.OK || !o.NoReports {
		t.Errorf("%+v", o)
	}
	if o := without.sender().Send(t.Context(), message(t, strings.Repeat("text\n", 300), "a@x.org")); o.Exit() != sendmail.Unavailable || len(o.Refused) != 1 {
		t.Errorf("%+v", o)
	}
}

func TestUnreachable(t *testing.T) {
	s := serve(t)
	sender := &sendmail.Sender{Dialer: s.dialer(unreachable)}
	defer sender.Close()
	if o := sender.Send(t.Context(), message(t, "text", "a@x.org")); o.Exit() != sendmail.TempFail || !o.Unreachable || len(o.Deferred) != 1 {
		t.Errorf("%+v", o)
	}
}

// A gateway may think about a message for longer than it may take to take more of
// it, but not for ever.
func TestSlowAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		thinks time.Duration
		want   sendmail.Exit
	}{"slow": {8 * time.Minute, sendmail.OK}, "never": {24 * time.Hour, sendmail.TempFail}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := clienttest.NewPipes()
				s := serveOn(t, ln)
				s.end = func(*delivery) error {
					time.Sleep(tt.thinks)
					return nil
				}
				sender := &sendmail.Sender{Dialer: s.dialer(at(ln))}
				began := time.Now()
				if o := sender.Send(t.Context(), message(t, "text", "a@x.org")); o.Exit() != tt.want || time.Since(began) > 15*time.Minute {
					t.Errorf("after %v: %+v", time.Since(began), o)
				}
				sender.Close()
				s.open.Wait()
			})
		})
	}
}

// slowly is a connection that takes its time for what is long.
type slowly struct{ net.Conn }

func (c slowly) Write(b []byte) (int, error) {
	if len(b) > 2000 {
		time.Sleep(20 * time.Second)
	}
	return c.Conn.Write(b)
}

// A message may take as long as it wants, as long as some of it is taken.
func TestSlowGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := clienttest.NewPipes()
		s := serveOn(t, ln)
		sender := &sendmail.Sender{Dialer: s.dialer(at(ln), func(c *client.Config) {
			dial := c.DialContext
			c.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				nc, err := dial(ctx, network, address)
				return slowly{nc}, err
			}
		})}
		began := time.Now()
		o := sender.Send(t.Context(), message(t, strings.Repeat(strings.Repeat("x", 100)+"\n", 3000), "a@x.org"))
		if o.Exit() != sendmail.OK || time.Since(began) < 10*time.Minute {
			t.Errorf("after %v: %+v", time.Since(began), o)
		}
		sender.Close()
		s.open.Wait()
	})
}

// A sender that is interrupted does not wait for the gateway's answer.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := clienttest.NewPipes()
		s := serveOn(t, ln)
		s.end = func(*delivery) error {
			time.Sleep(time.Minute)
			return nil
		}
		sender := &sendmail.Sender{Dialer: s.dialer(at(ln))}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		began := time.Now()
		if o := sender.Send(ctx, message(t, "text", "a@x.org")); len(o.Deferred) != 1 || o.Exit() != sendmail.TempFail ||
			time.Since(began) > 6*time.Second { // TLS takes up to five to say goodbye
			t.Errorf("after %v: %+v", time.Since(began), o)
		}
		s.open.Wait()
	})
}

// A gateway that takes nothing more of a message does not hold the sender either.
func TestDeafGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := clienttest.NewPipes()
		s := serveOn(t, ln)
		release := make(chan struct{})
		s.begin = func() { <-release }
		sender := &sendmail.Sender{Dialer: s.dialer(at(ln))}
		began := time.Now()
		o := sender.Send(t.Context(), message(t, strings.Repeat(strings.Repeat("x", 100)+"\n", 3000), "a@x.org"))
		close(release)
		if len(o.Deferred) != 1 || o.Exit() != sendmail.TempFail || time.Since(began) < 5*time.Minute || time.Since(began) > 6*time.Minute {
			t.Errorf("after %v: %+v", time.Since(began), o)
		}
		s.open.Wait()
		if n := len(s.got()); n != 0 {
			t.Errorf("%d messages were taken", n)
		}
	})
}
