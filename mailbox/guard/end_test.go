package guard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-imap/v2"

	"posthorn/mailbox/guard"
)

var errShutdown = errors.New("shutting down\r\n* OK not really")

// The end of the context is told wherever the conversation stands, and nothing
// is executed after it.
func TestContextEnds(t *testing.T) {
	const bye = "* BYE shutting down??* OK not really"
	for _, tt := range []struct {
		name, send string
		want       []string // before the context ends
	}{
		{"between commands", "a NOOP\r\n", []string{"a OK"}},
		{"in a command", "a NOOP\r\nb NO", []string{"a OK"}},
		{"in a literal", "a SELECT {5}\r\nIN", []string{"+ "}},
		{"in IDLE", "a IDLE\r\n", []string{"+ idling"}},
		{"in a line in IDLE", "a IDLE\r\nDON", []string{"+ idling"}},
		{"in APPEND", "a APPEND INBOX {5}\r\nhel", []string{"+ "}},
	} {
		test := func(t *testing.T, o guard.Options) {
			ctx, cancel := context.WithCancelCause(t.Context())
			s := serve(t, ctx, o)
			s.send(tt.send)
			for _, w := range tt.want {
				if got := s.line(); !strings.HasPrefix(got, w) {
					t.Fatalf("got %q, want %q…", got, w)
				}
			}
			cancel(errShutdown)
			if got := s.until("EOF"); len(got) != 2 || got[0] != bye {
				t.Errorf("got %q, want %q", got, bye)
			}
			<-s.guard.Done()
			if n := s.messages(); n != 0 {
				t.Errorf("%d messages", n)
			}
			if err := s.guard.Err(); err != nil {
				t.Errorf("Err: %v", err)
			}
		}
		t.Run(tt.name, func(t *testing.T) { test(t, guard.Options{}) })
		t.Run(tt.name+"/guard idles", func(t *testing.T) {
			var w waker
			test(t, guard.Options{Idle: w.idle})
			if n := w.idlers(); n != 0 {
				t.Errorf("%d IDLEs were not stopped", n)
			}
		})
	}
}

// imapserver may be closed as a whole.
func TestServerCloses(t *testing.T) {
	for _, text := range []string{"a NOOP\r\n", "a NOOP\r\nb IDLE\r\n", "a NOOP\r\nb SEL"} {
		for _, o := range []guard.Options{{}, {Idle: new(waker).idle}} {
			s := serve(t, t.Context(), o)
			s.send(text)
			s.until("a OK")
			s.server.Close()
			s.until("EOF")
		}
	}
}

// A BYE does not tear a response that the client is slow to take.
func TestContextEndsInResponse(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := serve(t, ctx, guard.Options{})
	body := "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef", 4096)
	for range 3 {
		if _, err := s.user.Append("INBOX", literalReader{strings.NewReader(body)}, &imap.AppendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.send("a SELECT INBOX\r\nb FETCH 1:* BODY.PEEK[]\r\n")
	s.until("a OK")
	first := s.line() // of 64 KiB, most of which is still to come
	cancel(errShutdown)
	read := io.LimitReader(s.r, int64(s.r.Buffered()))
	// First slowly, so that a wrong BYE has its turn, in tens of thousands of reads.
	slow := io.LimitReader(iotest.OneByteReader(s.Conn), int64(len(body)/2))
	rest, _ := io.ReadAll(io.MultiReader(read, slow, s.Conn))
	got := first + "\r\n" + string(rest)
	for i := 1; i <= 3; i++ {
		whole := fmt.Sprintf("* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n", i, i, len(body), body)
		var ok bool
		if got, ok = strings.CutPrefix(got, whole); !ok {
			break
		}
	}
	if got != "* BYE shutting down??* OK not really\r\n" {
		t.Errorf("after whole responses: %.100q", got)
	}
}

type literalReader struct{ *strings.Reader }

// Updates are sent at once in IDLE, and not kept back.
func TestIdlePush(t *testing.T) {
	s := serve(t, t.Context(), guard.Options{})
	s.send("a SELECT INBOX\r\nb IDLE\r\n")
	s.until("+ idling")
	deliver := func() {
		if _, err := s.user.Append("INBOX", literalReader{strings.NewReader("x")}, &imap.AppendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// imapmemserver does not hear of what comes before it listens.
	first := time.AfterFunc(50*time.Millisecond, deliver)
	defer first.Stop()
	deliver()
	if got := s.line(); got != "* 1 EXISTS" {
		t.Fatalf("got %q", got)
	}
	for n := s.messages() + 1; n < 10; n++ {
		deliver()
		s.until(fmt.Sprintf("* %d EXISTS", n))
	}
	s.send("DONE\r\n")
	s.until("b OK")
}

// The same when the guard idles: it hears what came before, what comes, and
// what comes while a line is half there.
func TestGuardIdles(t *testing.T) {
	var w waker
	s := serve(t, t.Context(), guard.Options{Idle: w.idle})
	deliver := func() {
		if _, err := s.user.Append("INBOX", literalReader{strings.NewReader("x")}, &imap.AppendOptions{}); err != nil {
			t.Fatal(err)
		}
		w.wake()
	}
	s.send("a SELECT INBOX\r\n")
	s.until("a OK")
	deliver()
	s.send("b IDLE\r\n")
	for _, want := range []string{"+ idling", "* 1 EXISTS"} {
		if got := s.line(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	for n := 2; n < 10; n++ {
		deliver()
		if got, want := s.line(), fmt.Sprintf("* %d EXISTS", n); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	s.send("DO")
	<-s.sent
	deliver()
	if got := s.line(); got != "* 10 EXISTS" {
		t.Fatalf("got %q", got)
	}
	var storm sync.WaitGroup
	for range 8 {
		storm.Go(func() {
			for range 1000 {
				w.wake()
			}
		})
	}
	s.send("NE\r\nc NOOP\r\n")
	for _, want := range []string{"b OK", "c OK"} {
		if got := s.line(); !strings.HasPrefix(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	storm.Wait()
	w.wake() // of nobody
	s.send("d NOOP\r\n")
	s.until("d OK")
}

// 300,000 commands whose answers nobody reads take no memory.
func TestUnreadAnswers(t *testing.T) {
	s := serve(t, t.Context(), guard.Options{})
	const burst = "a NOOP\r\n"
	s.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	n, err := io.WriteString(s, strings.Repeat(burst, 300000))
	if err == nil || n > 1<<20 {
		t.Errorf("%d bytes were taken: %v", n, err)
	}
}

// What came before is answered in one piece.
func TestPipelined(t *testing.T) {
	s := serve(t, t.Context(), guard.Options{})
	var all strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&all, "a%d NOOP\r\nb%d STATUS {5+}\r\nINBOX (MESSAGES)\r\n", i, i)
	}
	s.send(all.String())
	for i := range 1000 {
		for _, want := range []string{fmt.Sprintf("a%d OK", i), "* STATUS INBOX (MESSAGES 0)", fmt.Sprintf("b%d OK", i)} {
			if got := s.line(); !strings.HasPrefix(got, want) {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
}

// silent is a connection on which nothing ever comes.
type silent struct{ net.Conn }

func (silent) SetReadDeadline(time.Time) error { return nil }

// An idle guard is a small thing.
func TestIdleSize(t *testing.T) {
	const n = 1000
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conns := make([]*guard.Conn, n)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range conns {
		conns[i] = guard.New(ctx, silent{}, guard.Options{Capabilities: "IMAP4rev1"})
	}
	if each := int64(heap()-before) / n; each > 1024 {
		t.Errorf("%d bytes each", each)
	} else {
		t.Logf("%d bytes each", each)
	}
	for _, c := range conns {
		c.Close()
	}
}

// Commands that are as deep or as wide as they can be are answered in time.
func TestBombs(t *testing.T) {
	descending := make([]string, 0, 9000)
	for n := 18000; n > 0; n -= 2 {
		descending = append(descending, fmt.Sprint(n))
	}
	set := strings.Join(descending, ",")
	for name, text := range map[string]string{
		"NOT":          "SEARCH " + strings.Repeat("NOT ", 12000) + "ALL",
		"OR":           "SEARCH " + strings.Repeat("OR ALL ", 6900) + "ALL",
		"OR left":      "SEARCH " + strings.Repeat("OR ", 9000) + strings.Repeat("1 ", 9000) + "1",
		"AND":          "SEARCH " + strings.Repeat("ALL ", 12000) + "ALL",
		"lists":        "SEARCH " + strings.Repeat("(", 64) + "ALL" + strings.Repeat(")", 64),
		"set":          "FETCH " + set + " FLAGS",
		"sets":         "SEARCH " + strings.ReplaceAll(set, ",", " "),
		"FETCH":        "FETCH 1:* (" + strings.Repeat("BODY.PEEK[] ", 3500) + "FLAGS)",
		"section":      "FETCH 1 BODY[" + strings.Repeat("1.", 20000) + "1]",
		"LIST":         "LIST \"\" " + strings.Repeat("*", 40),
		"LIST RETURN":  "LIST (" + strings.Repeat("SUBSCRIBED ", 4000) + "REMOTE) \"\" *",
		"STATUS items": "STATUS INBOX (" + strings.Repeat("UIDNEXT ", 5000) + "UIDNEXT)",
		"flags":        "STORE 1 +FLAGS (" + strings.Repeat("x ", 20000) + "x)",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, t.Context(), guard.Options{})
			s.send("a SELECT INBOX\r\nb " + text + "\r\n")
			s.until("a OK")
			s.until("b ")
			s.send("c NOOP\r\n")
			s.until("c OK")
		})
	}
}

// Err tells a client that hung up from one that took leave.
func TestErr(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*served)
		want error
	}{
		{"LOGOUT", func(s *served) { s.send("b LOGOUT\r\n"); s.until("EOF") }, nil},
		{"hung up", func(s *served) { s.Close() }, io.EOF},
		{"hung up in a command", func(s *served) { s.send("b SEL"); <-s.sent; s.Close() }, io.EOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, t.Context(), guard.Options{})
			s.send("a NOOP\r\n")
			s.until("a OK")
			tt.end(s)
			<-s.guard.Done()
			if err := s.guard.Err(); err != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}
