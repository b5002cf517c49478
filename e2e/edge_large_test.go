package e2e

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"posthorn/backend/backendtest"
)

// lines is a text of n octets without end, in lines of mail.
func lines(n int64, end string) io.Reader {
	line := strings.Repeat("0123456789abcdef ", 57)[:960] + end
	return io.LimitReader(&repeated{text: strings.Repeat(line, 64)}, n/int64(len(line))*int64(len(line)))
}

// repeated reads a text over and over.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(b []byte) (int, error) {
	n := copy(b, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// TestEdgeLargeFetch fetches a gigabyte, which the gateway does not hold.
func TestEdgeLargeFetch(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{})
	e.account(alice)
	pemFile := e.key(alice, "laptop")
	e.d.Deliver(t, alice, io.MultiReader(strings.NewReader("Subject: large\n\n"), lines(1<<30, "\n")))

	p := e.imapOf(pemFile)
	_ = p.SetDeadline(time.Now().Add(2 * time.Minute))
	p.r = bufio.NewReaderSize(p.Conn, 256<<10)
	p.do("SELECT INBOX", "OK")
	before := e.proc("VmHWM")
	p.send("f FETCH 1 BODY.PEEK[TEXT]\r\n")
	var size int64
	if first := p.line(); !strings.HasSuffix(first, "}") {
		t.Fatalf("answered %q", first)
	} else if _, err := fmt.Sscanf(first[strings.Index(first, "{"):], "{%d}", &size); err != nil || size < 1<<30 {
		t.Fatalf("%q: %v", first, err)
	}
	want := bufio.NewReaderSize(lines(2<<30, "\r\n"), 256<<10)
	if err := same(io.LimitReader(p.r, size), want, size); err != nil {
		t.Fatal(err)
	}
	p.until("f OK")
	if grown := e.proc("VmHWM") - before; grown > 32<<10 {
		t.Errorf("the gateway grew by %d kB for %d octets", grown, size)
	}
}

// same reads n octets from both.
func same(a, b io.Reader, n int64) error {
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for at := int64(0); at < n; {
		m := min(int64(len(x)), n-at)
		if _, err := io.ReadFull(a, x[:m]); err != nil {
			return fmt.Errorf("at %d: %w", at, err)
		}
		if _, err := io.ReadFull(b, y[:m]); err != nil {
			return err
		}
		if string(x[:m]) != string(y[:m]) {
			return fmt.Errorf("not the same between %d and %d", at, at+m)
		}
		at += m
	}
	return nil
}

// TestEdgeLargeSubmission submits 100 MB, which the gateway does not hold.
func TestEdgeLargeSubmission(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	e := newEdge(t, edgeOptions{postfix: backendtest.PostfixOptions{MaxSize: 2 * size}, more: "max_message_size: 200 MiB\n"})
	e.account(alice)
	s := e.smtpOf(e.key(alice, "laptop"))
	_ = s.SetDeadline(time.Now().Add(2 * time.Minute))
	before := e.proc("VmHWM")
	s.envelope(bob)
	s.ask("DATA", "354")
	s.send(strings.TrimSuffix(letter(alice, bob, "large", ""), "\r\n"))
	if _, err := io.Copy(s.Conn, lines(size, "\r\n")); err != nil {
		t.Fatal(err)
	}
	s.ask(".", "250")
	if grown := e.proc("VmHWM") - before; grown > 32<<10 {
		t.Errorf("the gateway grew by %d kB", grown)
	}
	e.arrives(bob, "large")
	p := newPeer(t, e.connect(e.d.Plain))
	p.until("* OK")
	p.do(fmt.Sprintf("LOGIN %q %q", bob, bobPassword), "OK")
	p.do("SELECT INBOX", "OK")
	got := p.do("FETCH 1 RFC822.SIZE", "OK")
	var n int
	if _, err := fmt.Sscanf(got, "* 1 FETCH (RFC822.SIZE %d)", &n); err != nil || n < size-1000 || n > size+5000 {
		t.Errorf("arrived as %q (%v)", got, err)
	}
}
