package mailbox_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"posthorn/mailbox"
)

func TestSessionsEnd(t *testing.T) {
	reason := errors.New("the reason")
	for name, end := range map[string]func(s *mailbox.Store, cancel context.CancelCauseFunc) string{
		"context": func(_ *mailbox.Store, cancel context.CancelCauseFunc) string {
			cancel(reason)
			return "* BYE the reason"
		},
		"user removed": func(s *mailbox.Store, _ context.CancelCauseFunc) string {
			if err := s.RemoveUser(context.Background(), "a"); err != nil {
				return err.Error()
			}
			return "* BYE account removed"
		},
		"store closed": func(s *mailbox.Store, _ context.CancelCauseFunc) string {
			if err := s.Close(); err != nil {
				return err.Error()
			}
			return "* BYE server is shutting down"
		},
	} {
		for _, idle := range []bool{false, true} {
			t.Run(fmt.Sprint(name, idle), func(t *testing.T) {
				s := open(t, mailbox.Options{})
				deliver(t, s, hello, "a")
				client, server := net.Pipe()
				ctx, cancel := context.WithCancelCause(t.Context())
				served := make(chan error, 1)
				go func() { served <- s.ServeIMAP(ctx, server, "a") }()
				r := bufio.NewReader(client)
				fmt.Fprint(client, "1 SELECT INBOX\r\n")
				for line := ""; !strings.HasPrefix(line, "1 OK"); line, _ = r.ReadString('\n') {
				}
				if idle {
					fmt.Fprint(client, "2 IDLE\r\n")
					r.ReadString('\n')
				}
				result := make(chan string, 1)
				go func() { result <- end(s, cancel) }()
				line, err := r.ReadString('\n')
				for strings.HasSuffix(line, "EXPUNGE\r\n") { // it may still hear of that
					line, err = r.ReadString('\n')
				}
				if err != nil {
					t.Fatal(err)
				}
				if want := <-result; strings.TrimSpace(line) != want {
					t.Errorf("%q, want %q", line, want)
				}
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestRemoveUser(t *testing.T) {
	s := open(t, mailbox.Options{})
	for n := range 3 {
		deliver(t, s, numbered(10*n), "a", "b")
		deliver(t, s, numbered(10*n+1), "a")
	}
	if err := s.RemoveUser(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveUser(t.Context(), "nobody"); err != nil {
		t.Error(err)
	}
	if _, n, err := s.Usage(t.Context(), "a"); n != 0 || err != nil {
		t.Error(n, err)
	}
	if n, _ := s.CountKeys('b'); n != 3 {
		t.Errorf("%d blobs for the three messages of the other", n)
	}
	if err := s.RemoveUser(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range "unlfmbrcx" {
		if n, _ := s.CountKeys(byte(kind)); n != 0 {
			t.Errorf("%d keys of kind %c", n, kind)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for s.Files(t) > 0 && t.Context().Err() == nil {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}

	// Whoever looked the account up before it was removed comes too late.
	for _, to := range [][]string{{"a"}, {"nobody"}, {"c", "b"}} {
		if n, _ := s.CountKeys('u'); n != 0 {
			t.Errorf("%d users came back", n)
		}
		if err := s.Deliver(t.Context(), to, strings.NewReader(hello)); !errors.Is(err, mailbox.ErrRemoved) {
			t.Errorf("a delivery to %q: %v", to, err)
		}
	}
	if _, n, _ := s.Usage(t.Context(), "c"); n != 0 {
		t.Errorf("%d messages of a delivery that failed", n)
	}
}

// TestFailedCommit closes the database under a delivery. Whether a commit that
// fails is on disk nobody can say, so its file stays until the next start.
func TestFailedCommit(t *testing.T) {
	dir := t.TempDir()
	s, err := mailbox.Open(dir, mailbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, s, hello, "a")
	if err := s.CloseDatabase(); err != nil {
		t.Fatal(err)
	}
	large := hello + strings.Repeat("A line of a large message.\r\n", 20000)
	if err := s.Deliver(t.Context(), []string{"a"}, strings.NewReader(large)); err == nil {
		t.Fatal("delivered into a closed database")
	}
	if err := s.Close(); err != nil {
		t.Log(err)
	}
	s = openDir(t, dir, mailbox.Options{})
	if n := s.Files(t); n != 0 {
		t.Errorf("%d files left after a restart", n)
	}
	if _, n, err := s.Usage(t.Context(), "a"); n != 1 || err != nil {
		t.Errorf("%d messages, %v", n, err)
	}
}

func TestClosed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s, err := mailbox.Open(t.TempDir(), mailbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	reading, fail := io.Pipe()
	delivered := make(chan error)
	go func() { delivered <- s.Deliver(t.Context(), []string{"a"}, reading) }()
	fail.Write([]byte(hello))
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	fail.Close()
	if err := <-delivered; err != nil {
		t.Errorf("a delivery under way: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"Deliver":    s.Deliver(t.Context(), []string{"a"}, strings.NewReader(hello)),
		"ServeIMAP":  s.ServeIMAP(t.Context(), nil, "a"),
		"RemoveUser": s.RemoveUser(t.Context(), "a"),
		"Backup":     s.Backup(t.Context(), io.Discard),
		"Restore":    s.Restore(t.Context(), strings.NewReader("")),
	} {
		if !errors.Is(err, mailbox.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// TestIdleLatency measures how long an IDLE takes to tell of a delivery while
// many others are delivered.
func TestIdleLatency(t *testing.T) {
	s := open(t, mailbox.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			tick := time.NewTicker(16 * time.Millisecond) // 500 a second, all in all
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					deliver(t, s, numbered(7), fmt.Sprintf("u%d", (i*31+n)%50))
				}
			}
		})
	}
	c := newTalk(t, s, "idle")
	c.do("SELECT INBOX")
	c.send("IDLE")
	c.line()
	var took []time.Duration
	for n := range 200 {
		deliver(t, s, hello, "idle")
		start := time.Now()
		for line := ""; line != fmt.Sprintf("* %d EXISTS", n+1); line = c.line() {
		}
		took = append(took, time.Since(start))
	}
	cancel()
	wg.Wait()
	slices.Sort(took)
	median, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("the median is %v, p99 %v", median, p99)
	// 100 ms are promised for p99, on a machine that has nothing else to do. On others
	// nobody is forgotten either, or told by a clock.
	if median > 200*time.Millisecond || p99 > 2*time.Second {
		t.Errorf("the median is %v, p99 %v", median, p99)
	}
}

// BenchmarkIdleSession reports what a session in IDLE takes of memory, without
// TLS.
func BenchmarkIdleSession(b *testing.B) {
	s := open(b, mailbox.Options{})
	const sessions = 1000
	for b.Loop() {
		for i := range sessions {
			deliver(b, s, hello, fmt.Sprintf("u%d", i))
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var conns []net.Conn
		var served sync.WaitGroup
		for i := range sessions {
			client, server := net.Pipe()
			conns = append(conns, client)
			served.Go(func() { s.ServeIMAP(context.Background(), server, fmt.Sprintf("u%d", i)) })
			io.WriteString(client, "1 SELECT INBOX\r\n")
			buf := make([]byte, 2048)
			client.Read(buf)
			io.WriteString(client, "2 IDLE\r\n")
			client.Read(buf)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/sessions, "heap-B/session")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/sessions, "stack-B/session")
		for _, c := range conns {
			c.Close()
		}
		served.Wait()
	}
}
