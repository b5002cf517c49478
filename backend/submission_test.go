package backend_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"posthorn/await"
	"posthorn/backend"
)

const bob = "bob@example.org"

func TestSubmission(t *testing.T) {
	f := newSubmissionFake(t, nil)
	s := submitter(t, f.proxy(), alice, here)
	messages := []string{
		"Subject: x\r\n\r\n.dot\r\n", "Subject: y\r\n\r\n" + strings.Repeat("..\r\n", 10_000), text + strings.Repeat("z\r\n", 50_000), text,
	}
	for _, m := range messages {
		if err := send(s, strings.NewReader(m), bob); err != nil {
			t.Fatal(err)
		}
		s.Reset() // go-smtp calls it after every message
	}
	if got := f.taken(); !slices.Equal(got, messages) {
		t.Errorf("got %.1000q", got)
	}
	if err := s.Logout(); err != nil {
		t.Error(err)
	}
	await.Until(t, "QUIT", func() bool { return len(f.said("QUIT")) == 1 })
	if n := f.opened(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if got := f.said("EHLO"); len(got) != 1 || got[0] != "0 EHLO [127.0.0.1]" {
		t.Errorf("got %q", got)
	}
}

// What the server says is what the client hears: code, enhanced code, text.
func TestSubmissionReplies(t *testing.T) {
	long := strings.Repeat("x", 900)
	for said, want := range map[string]string{
		"450 4.7.1 slow down\r\n":                     "450 4.7.1 slow down",
		"523 5.7.10 Encryption needed\r\n":            "523 5.7.10 Encryption needed",
		"523 Encryption Needed: x\r\n":                "523 Encryption Needed: x",
		"552 5.3.4 too big\r\n":                       "552 5.3.4 too big",
		"550-5.7.1 one\r\n550 5.7.1 two\r\n":          "550 5.7.1 one\ntwo",
		"550-one\r\n550-two\r\n550 three\r\n":         "550 one\ntwo\nthree",
		"550 5.7.1\r\n":                               "550 5.7.1",
		"550\r\n":                                     "550 ",
		"421 4.3.2 going\r\n":                         "421 4.3.2 going",
		"550 5.1.1 \x1b[2J\xff\u00e9 gone\r\n":        "550 5.1.1 ?[2J?? gone",
		"550 5.1.1 " + long + "\r\n":                  "550 5.1.1 " + long[:480],
		strings.Repeat("550-a\r\n", 99) + "550 b\r\n": "550 " + strings.TrimSuffix(strings.Repeat("a\n", 10), "\n"),
	} {
		for _, step := range []string{"MAIL", "RCPT", "DATA", "."} {
			f := newSubmissionFake(t, func(_ int, at string) string {
				if strings.HasPrefix(at, step) {
					return said
				}
				return ""
			})
			s := submitter(t, f.proxy(), alice, here)
			if got := heard(send(s, strings.NewReader(text), bob)); got != want {
				t.Errorf("%q at %s: got %q, want %q", said, step, got, want)
			}
			s.Logout()
			f.stop()
			if n := len(f.taken()); n != 0 {
				t.Errorf("%q at %s: %d messages", said, step, n)
			}
		}
	}
}

// A message is no command, whatever a part of it that is sent alone looks like.
func TestSubmissionReplyToEHLO(t *testing.T) {
	const said = "550 spam found\r\n"
	f := newSubmissionFake(t, func(_ int, step string) string { return map[string]string{".": said}[step] })
	s := submitter(t, f.proxy(), alice, here)
	message := "Subject: x\r\n\r\n" + strings.Repeat("x", 4096-len("Subject: x\r\n\r\n\r\n")) + "\r\nEHLO x\r\n"
	if got := heard(send(s, strings.NewReader(message), bob)) + "\r\n"; got != said {
		t.Errorf("got %q, want %q", got, said)
	}
	s.Logout()
}

// Each recipient has a reply of its own, and those that are refused do not get
// in the way of the others.
func TestSubmissionRecipients(t *testing.T) {
	f := newSubmissionFake(t, func(_ int, step string) string {
		switch {
		case strings.HasPrefix(step, "RCPT TO:<slow@"):
			return "450 4.7.1 later\r\n"
		case strings.HasPrefix(step, "RCPT TO:<nobody@"):
			return "550 5.1.1 nobody\r\n"
		}
		return ""
	})
	s := submitter(t, f.proxy(), alice, here)
	if err := s.Mail(alice, nil); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{"slow@x": "450 4.7.1 later", "nobody@x": "550 5.1.1 nobody", bob: ""} {
		if got := heard(s.Rcpt(to, nil)); got != want {
			t.Errorf("%s: got %q, want %q", to, got, want)
		}
	}
	if err := s.Data(strings.NewReader(text)); err != nil || len(f.taken()) != 1 {
		t.Errorf("%v, %d messages", err, len(f.taken()))
	}
}

// Wherever the connection dies, or the server goes mad, the client hears that it
// may try again, and nothing is claimed.
func TestSubmissionFaults(t *testing.T) {
	faults := map[string]string{
		"closed":          thenClose,
		"silent":          thenHang,
		"garbled":         "?\r\n",
		"not a code":      "650 2.0.0 ok\r\n",
		"bare LF":         "250 2.0.0 ok\n",
		"long line":       "250 " + strings.Repeat("x", 1<<20) + "\r\n",
		"endless reply":   strings.Repeat("250-x\r\n", 1<<16) + thenClose,
		"two codes":       "250-x\r\n550 y\r\n",
		"half a reply":    "250-x\r\n" + thenClose,
		"half a line":     "250 2.0" + thenHang,
		"wrong class":     "354 2.0.0 ok\r\n",
		"another success": "299 ok\r\n",
	}
	for _, at := range []string{"connect", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "body", "."} {
		for name, said := range faults {
			if at == "DATA" && name == "wrong class" {
				said = "250 2.0.0 taken\r\n" // which must not be claimed
			}
			t.Run(name+" at "+at, func(t *testing.T) {
				t.Parallel()
				faulty(t, at, said)
			})
		}
	}
}

// faulty submits to a server that says something at a step that it should not.
func faulty(t *testing.T, at, said string) {
	f := newSubmissionFake(t, func(_ int, step string) string {
		if strings.HasPrefix(step, at) {
			return said
		}
		return ""
	})
	p := f.proxy(impatient, method(backend.Master), func(c *backend.ProxyConfig) {
		c.Submission.User, c.Submission.Password = "gateway", "secret"
	})
	s, err := p.OpenSubmission(context.Background(), loginOf(alice), here)
	if err == nil {
		var message io.Reader = strings.NewReader(text)
		if at == "body" {
			message = endless{}
		}
		err = send(s, message, bob)
		s.Logout()
	}
	want := "451 4.4.2"
	if at == "connect" || at == "EHLO" || at == "AUTH" {
		want = "451 4.3.0"
	}
	if got := beginning(err); got != want {
		t.Errorf("got %q, want %q", heard(err), want)
	}
	f.stop()
	if n := len(f.taken()); n != 0 && at != "." {
		t.Errorf("%d messages", n)
	}
}
