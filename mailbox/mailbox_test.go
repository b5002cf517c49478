package mailbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/rs/zerolog"

	"posthorn/mailbox"
)

func open(t testing.TB, o mailbox.Options) *mailbox.Store {
	t.Helper()
	return openDir(t, t.TempDir(), o)
}

func openDir(t testing.TB, dir string, o mailbox.Options) *mailbox.Store {
	t.Helper()
	o.Log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	s, err := mailbox.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve returns the client's end of a connection that the store serves.
func serve(t testing.TB, s *mailbox.Store, user string) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		fmt.Fprintf(server, "* PREAUTH [CAPABILITY %s] ready\r\n", s.Capabilities())
		if err := s.ServeIMAP(context.Background(), server, user); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Log(err)
		}
	}()
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return client
}

func dial(t testing.TB, s *mailbox.Store, user string, o *imapclient.Options) *imapclient.Client {
	t.Helper()
	c := imapclient.New(serve(t, s, user), o)
	if err := c.WaitGreeting(); err != nil {
		t.Fatal(err)
	}
	return c
}

const hello = "From: Alice <alice@example.org>\r\nTo: bob@example.org\r\nSubject: Hello\r\n" +
	"Date: Thu, 1 Oct 2026 12:00:00 +0200\r\nMessage-ID: <1@example.org>\r\n\r\nHello, world!\r\n"

func deliver(t testing.TB, s *mailbox.Store, message string, users ...string) {
	t.Helper()
	if err := s.Deliver(context.Background(), users, strings.NewReader(message)); err != nil {
		t.Fatal(err)
	}
}

func TestDeliverAndFetch(t *testing.T) {
	s := open(t, mailbox.Options{})
	deliver(t, s, hello, "alice", "bob")
	for _, user := range []string{"alice", "bob"} {
		c := dial(t, s, user, nil)
		data, err := c.Select("INBOX", nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		if data.NumMessages != 1 || data.UIDNext != 2 || data.UIDValidity == 0 {
			t.Errorf("%s: %+v", user, data)
		}
		messages, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{
			Envelope:      true,
			Flags:         true,
			RFC822Size:    true,
			BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
			BodySection:   []*imap.FetchItemBodySection{{}},
		}).Collect()
		if err != nil {
			t.Fatal(err)
		}
		if got := string(messages[0].BodySection[0].Bytes); got != hello {
			t.Errorf("%s: body %q", user, got)
		}
		if e := messages[0].Envelope; e.Subject != "Hello" || e.From[0].Addr() != "alice@example.org" {
			t.Errorf("%s: envelope %+v", user, e)
		}
		if messages[0].BodyStructure.MediaType() != "text/plain" {
			t.Errorf("%s: %+v", user, messages[0].BodyStructure)
		}
	}
	if n, err := s.CountKeys('b'); n != 1 || err != nil {
		t.Errorf("%d blobs, %v", n, err)
	}
}

func TestIdlePush(t *testing.T) {
	s := open(t, mailbox.Options{})
	exists := make(chan uint32, 10)
	c := dial(t, s, "alice", &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				exists <- *data.NumMessages
			}
		},
	}})
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(3) {
		deliver(t, s, hello, "alice")
		if got := <-exists; got != i+1 {
			t.Errorf("EXISTS %d after delivery %d", got, i+1)
		}
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err != nil {
		t.Fatal(err)
	}
}

// messageReader makes a message of a size without holding it.
type messageReader struct {
	head io.Reader
	left int64
	err  error // at the end
}

func newMessage(size int64, err error) *messageReader {
	return &messageReader{head: strings.NewReader(hello), left: size - int64(len(hello)), err: err}
}

func (r *messageReader) Read(b []byte) (int, error) {
	if n, err := r.head.Read(b); err == nil {
		return n, nil
	}
	if r.left == 0 {
		return 0, r.err
	}
	n := int(min(r.left, int64(len(b))))
	for i := range b[:n] {
		b[i] = "0123456789abcdefghijklmnopqrstuvwxyz\r\n"[(r.left-int64(i))%38]
	}
	r.left -= int64(n)
	return n, nil
}

func TestDeliverErrors(t *testing.T) {
	broken := errors.New("broken")
	cancelled, cancel := context.WithCancelCause(context.Background())
	cancel(broken)
	for name, tc := range map[string]struct {
		ctx   context.Context
		users []string
		r     io.Reader
		want  error
	}{
		"reader fails at once":   {nil, []string{"a"}, newMessage(int64(len(hello)), broken), broken},
		"reader fails late":      {nil, []string{"a"}, newMessage(2<<20, io.ErrUnexpectedEOF), io.ErrUnexpectedEOF},
		"too big":                {nil, []string{"a"}, newMessage(5<<20, io.EOF), mailbox.ErrTooBig},
		"over quota of one":      {nil, []string{"a", "full"}, newMessage(600<<10, io.EOF), mailbox.ErrOverQuota},
		"large over quota":       {nil, []string{"a", "full"}, newMessage(3<<20, io.EOF), mailbox.ErrOverQuota},
		"nobody":                 {nil, nil, newMessage(1<<10, io.EOF), mailbox.ErrNoUser},
		"no user ID":             {nil, []string{"a", ""}, newMessage(1<<10, io.EOF), mailbox.ErrNoUser},
		"cancelled beforehand":   {cancelled, []string{"a"}, newMessage(1<<10, io.EOF), broken},
		"user ID far too long":   {nil, []string{strings.Repeat("x", 70000)}, newMessage(1<<10, io.EOF), mailbox.ErrNoUser},
		"reader panics with EOF": {nil, []string{"a"}, newMessage(700<<10, io.ErrClosedPipe), io.ErrClosedPipe},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, mailbox.Options{MaxMessageSize: 4 << 20, Quota: 3 << 20})
			if err := s.Deliver(t.Context(), []string{"full"}, newMessage(2600<<10, io.EOF)); err != nil {
				t.Fatal(err)
			}
			ctx := tc.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			before, _ := s.CountKeys('b')
			if err := s.Deliver(ctx, tc.users, tc.r); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if after, _ := s.CountKeys('b'); after != before {
				t.Errorf("%d blobs were %d", after, before)
			}
			if files := s.Files(t); files != 1 {
				t.Errorf("%d files", files)
			}
			if _, n, _ := s.Usage(ctx, "a"); n != 0 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

// digest reads a message as r, and compares what IMAP returns with it.
func TestLargeMessageStreams(t *testing.T) {
	s := open(t, mailbox.Options{})
	const size = 50 << 20
	stop := make(chan struct{})
	peak := watchHeap(stop)
	if err := s.Deliver(t.Context(), []string{"a"}, newMessage(size, io.EOF)); err != nil {
		t.Fatal(err)
	}
	conn := serve(t, s, "a")
	if _, err := io.WriteString(conn, "1 SELECT INBOX\r\n2 FETCH 1 BODY.PEEK[]\r\n3 LOGOUT\r\n"); err != nil {
		t.Fatal(err)
	}
	var got countingSum
	if _, err := io.Copy(&got, conn); err != nil {
		t.Fatal(err)
	}
	close(stop)
	if got.n < size {
		t.Errorf("%d octets", got.n)
	}
	if p := <-peak; p > 32<<20 {
		t.Errorf("heap grew to %d MiB", p>>20)
	}
}

type countingSum struct{ n int64 }

func (c *countingSum) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// watchHeap returns how much the heap held at most until stop is closed.
func watchHeap(stop <-chan struct{}) <-chan uint64 {
	peak := make(chan uint64)
	go func() {
		var most uint64
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(5 * time.Millisecond):
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
		}
	}()
	return peak
}

func TestFirstUseIsAtomic(t *testing.T) {
	s := open(t, mailbox.Options{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.Deliver(t.Context(), []string{"new"}, strings.NewReader(hello)); err != nil {
				t.Error(err)
			}
		})
	}
	c := dial(t, s, "new", nil)
	boxes, err := c.List("", "*", nil).Collect()
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	var names []string
	for _, b := range boxes {
		names = append(names, fmt.Sprint(b.Mailbox, b.Attrs))
	}
	want := `[Archive[\HasNoChildren \Archive] Drafts[\HasNoChildren \Drafts] INBOX[\HasNoChildren] ` +
		`Junk[\HasNoChildren \Junk] Sent[\HasNoChildren \Sent] Trash[\HasNoChildren \Trash]]`
	if got := fmt.Sprint(names); got != want {
		t.Errorf("mailboxes %v", got)
	}
	if _, n, err := s.Usage(t.Context(), "new"); n != 8 || err != nil {
		t.Errorf("%d messages, %v", n, err)
	}
}

func TestFullDisk(t *testing.T) {
	s := open(t, mailbox.Options{})
	deliver(t, s, hello, "a")
	var free int64 = 1 << 20
	var mu sync.Mutex
	s.SetFreeSpace(func() (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		return free, nil
	})
	for _, size := range []int64{2 << 20, 300 << 10, 10 << 10} {
		mu.Lock()
		free = min(size-1<<10, 64<<10)
		mu.Unlock()
		if err := s.Deliver(t.Context(), []string{"a"}, newMessage(size, io.EOF)); !errors.Is(err, mailbox.ErrFull) {
			t.Errorf("%d octets: %v", size, err)
		}
	}
	mu.Lock()
	free = 0
	mu.Unlock()
	c := dial(t, s, "a", nil)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	store := imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}
	if err := c.Store(imap.SeqSetNum(1), &store, nil).Close(); err != nil {
		t.Errorf("STORE on a full disk: %v", err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Errorf("EXPUNGE on a full disk: %v", err)
	}
	mu.Lock()
	free = 1 << 30
	mu.Unlock()
	deliver(t, s, hello, "a")
}

func TestEmptyMessage(t *testing.T) {
	s := open(t, mailbox.Options{})
	deliver(t, s, "", "a")
	c := newTalk(t, s, "a")
	c.do("SELECT INBOX")
	c.want("FETCH 1 (RFC822.SIZE BODY.PEEK[] BODYSTRUCTURE)", "* 1 FETCH (RFC822.SIZE 0 BODYSTRUCTURE "+
		`("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) BODY[] {0}`+"\r\n)", "OK")
}

// TestPanic has a clock that panics in the middle of a change.
func TestPanic(t *testing.T) {
	broken := false
	s, err := mailbox.Open(t.TempDir(), mailbox.Options{Now: func() time.Time {
		if broken {
			panic("broken clock")
		}
		return time.Now()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	deliver(t, s, hello, "a")
	c := newTalk(t, s, "a")
	c.do("SELECT INBOX")
	broken = true
	if got := c.append("INBOX", "", hello); got != "NO SERVERBUG" {
		t.Errorf("APPEND: %s", got)
	}
	broken = false
	if got := c.append("INBOX", "", hello); got != "OK APPENDUID" {
		t.Errorf("APPEND: %s", got)
	}
	c.want("SEARCH ALL", "* SEARCH 1 2", "OK")
}

func BenchmarkDeliver(b *testing.B) {
	s := open(b, mailbox.Options{})
	body := make([]byte, 10<<10)
	for i := range body {
		body[i] = "abcdefghijklmnopqrstuvwxyz\r\n"[rand.IntN(28)]
	}
	message := append([]byte(hello), body...)
	var wg sync.WaitGroup
	work := make(chan int)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range 8 {
		wg.Go(func() {
			user := fmt.Sprintf("user%d", i)
			for range work {
				if err := s.Deliver(b.Context(), []string{user}, bytes.NewReader(message)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range b.N {
		work <- i
	}
	close(work)
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}
