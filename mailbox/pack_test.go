package mailbox_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"posthorn/mailbox"
)

// tidy lets Run work until done says that it has.
func tidy(t *testing.T, s *mailbox.Store, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for !done() {
		if t.Context().Err() != nil {
			t.Fatal("Run does not get done")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestPacks(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, mailbox.Options{})
	const messages, size = 300, 240 << 10
	for range messages {
		if err := s.Deliver(t.Context(), []string{"a"}, newMessage(size, io.EOF)); err != nil {
			t.Fatal(err)
		}
	}
	deliver(t, s, hello, "a")
	n, used := s.Packs(t)
	if n != 2 || used < messages*size || used > messages*size*11/10 {
		t.Errorf("%d packs with %d octets", n, used)
	}
	c := newTalk(t, s, "a")
	c.do("SELECT INBOX")
	c.do("STORE 200:300 +FLAGS.SILENT (\\Deleted)")
	c.do("EXPUNGE")
	tidy(t, s, func() bool { _, now := s.Packs(t); return now < used-95*size })
	if n, _ := s.Packs(t); n != 2 {
		t.Errorf("%d packs", n)
	}
	c.want("FETCH 200 BODY.PEEK[TEXT]", "* 200 FETCH (BODY[TEXT] {15}\r\nHello, world!\r\n)", "OK")

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(dir, "packs", "00000000.stray")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir, mailbox.Options{})
	c = newTalk(t, s, "a")
	c.do("SELECT INBOX")
	c.do("STORE 1:199 +FLAGS.SILENT (\\Deleted)")
	c.do("EXPUNGE")
	tidy(t, s, func() bool { n, _ := s.Packs(t); return n == 1 })
	deliver(t, s, hello, "a")
	c.do("NOOP")
	for _, seq := range []string{"1", "2"} {
		c.want("FETCH "+seq+" BODY.PEEK[TEXT]", "* "+seq+" FETCH (BODY[TEXT] {15}\r\nHello, world!\r\n)", "OK")
	}
}

// TestDamage damages a message on disk: it is missed, and nothing else.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, mailbox.Options{})
	deliver(t, s, hello, "a")
	deliver(t, s, nested, "a")
	name := filepath.Join(dir, "packs", "00000000.pack")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[10] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newTalk(t, s, "a")
	c.do("SELECT INBOX")
	c.tagged("FETCH 1 BODY.PEEK[]", "NO [SERVERBUG]")
	c.tagged("FETCH 1 ENVELOPE", "OK")
	c.tagged("FETCH 2 BODY.PEEK[]", "OK")
}
