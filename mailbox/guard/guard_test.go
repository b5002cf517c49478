package guard_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"posthorn/mailbox/guard"
)

// served is a client's end of a guarded conversation with a real imapserver.
type served struct {
	net.Conn
	r    *bufio.Reader
	user *imapmemserver.User

	server *imapserver.Server
	guard  *guard.Conn
	t      testing.TB
	sent   chan struct{} // closed when what was sent last is written
}

// logger takes what imapserver complains of: it must never lose its place.
type logger struct{ t testing.TB }

func (l logger) Printf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if strings.HasPrefix(msg, "failed to read command: in command") || strings.Contains(msg, "max size") {
		l.t.Error("imapserver: " + msg)
	}
}

type listener chan net.Conn

func (l listener) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l listener) Close() error   { close(l); return nil }
func (l listener) Addr() net.Addr { return &net.TCPAddr{} }

// waker is an Options.Idle.
type waker struct {
	mu    sync.Mutex
	wakes map[int]func()
	n     int
}

func (w *waker) idle(wake func()) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wakes == nil {
		w.wakes = map[int]func(){}
	}
	w.n++
	n := w.n
	w.wakes[n] = wake
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.wakes, n)
	}
}

func (w *waker) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wake := range w.wakes {
		wake()
	}
}

// idlers is how many IDLEs have begun and not been stopped.
func (w *waker) idlers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.wakes)
}

func serve(t testing.TB, ctx context.Context, o guard.Options) *served {
	t.Helper()
	if o.Capabilities == "" {
		o.Capabilities = "IMAP4rev1 IDLE LITERAL- ID QUOTA"
	}
	if o.AppendLimit == 0 {
		o.AppendLimit = 1 << 20
	}
	client, server := net.Pipe()
	user := imapmemserver.NewUser("alice", "")
	if err := user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	srv := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return imapmemserver.NewUserSession(user), &imapserver.GreetingData{PreAuth: true}, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		InsecureAuth: true,
		Logger:       logger{t},
	})
	ln := make(listener)
	go srv.Serve(ln)
	g := guard.New(ctx, server, o)
	ln <- g
	ran := make(chan error, 1)
	go func() {
		ran <- g.Run()
		server.Close() // as mux does
	}()
	t.Cleanup(func() {
		client.Close()
		select {
		case <-ran:
		case <-time.After(5 * time.Second):
			t.Error("imapserver goes on without its client")
		}
		srv.Close()
	})
	return &served{Conn: client, r: bufio.NewReader(client), user: user, server: srv, guard: g, t: t}
}

// send writes without waiting for the guard to read.
func (s *served) send(text string) {
	before, done := s.sent, make(chan struct{})
	s.sent = done
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		io.WriteString(s, text)
	}()
}

// line reads one line; "EOF" stands for the end.
func (s *served) line() string {
	s.SetReadDeadline(time.Now().Add(3 * time.Second))
	l, err := s.r.ReadString('\n')
	if err != nil {
		return "EOF"
	}
	return strings.TrimSuffix(l, "\r\n")
}

// until reads lines up to and including the one that begins with prefix.
func (s *served) until(prefix string) []string {
	s.t.Helper()
	var lines []string
	for {
		l := s.line()
		lines = append(lines, l)
		if strings.HasPrefix(l, prefix) {
			return lines
		}
		if l == "EOF" {
			s.t.Fatalf("no line that begins with %q in %q", prefix, lines)
		}
	}
}

// talk sends text at once and compares the beginnings of the lines that come
// back; then nothing more may come but the answer to one more command.
func talk(t *testing.T, s *served, text string, want ...string) {
	t.Helper()
	s.send(text)
	for i, w := range want {
		if got := s.line(); !strings.HasPrefix(got, w) {
			t.Fatalf("line %d: got %q, want %q…", i+1, got, w)
		}
	}
	if want[len(want)-1] == "EOF" || strings.HasPrefix(want[len(want)-1], "+") {
		return
	}
	s.send("after NOOP\r\n")
	if got := s.line(); !strings.HasPrefix(got, "after OK") {
		t.Fatalf("the command behind: got %q", got)
	}
}

func TestCommands(t *testing.T) {
	big := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		name, send string
		want       []string // beginnings of lines
	}{
		{"lower case", "a noop\r\n", []string{"a OK"}},
		{"tag of every kind of character", "!#$&'-./:;<=>?@^_`|~ NOOP\r\n", []string{"!#$&'-./:;<=>?@^_`|~ OK"}},
		{"capability", "a CAPABILITY\r\n", []string{"* CAPABILITY IMAP4rev1 IDLE LITERAL- ID QUOTA", "a OK"}},
		{"capability with an argument", "a CAPABILITY x\r\n", []string{"a BAD"}},
		{"enable", "a ENABLE IMAP4rev2 XYZZY\r\n", []string{"* ENABLED IMAP4rev2", "a OK"}},
		{"unknown commands", "a XYZZY\r\nb COMPRESS DEFLATE\r\nc UID XYZZY 1\r\nd UID\r\n",
			[]string{"a BAD Unknown command", "b BAD", "c BAD", "d BAD"}},
		{"no command", "a\r\nb \r\nc  NOOP\r\n", []string{"a BAD", "b BAD", "c BAD"}},
		{"empty lines", "\r\n\r\na NOOP\r\n", []string{"a OK"}},
		{"a second login", "a LOGIN alice secret\r\nb AUTHENTICATE PLAIN AGEAYg==\r\nc STARTTLS\r\n",
			[]string{"a BAD", "b BAD", "c BAD"}},
		{"a second login is not asked for its literal", "a LOGIN {5}\r\n", []string{"a BAD Already logged in"}},
		{"unauthenticate", "a UNAUTHENTICATE\r\n", []string{"a BAD"}},
		{"logout", "a LOGOUT\r\nb NOOP\r\n", []string{"* BYE", "a OK", "EOF"}},

		{"literal", "a STATUS {5}\r\nINBOX (MESSAGES)\r\n", []string{"+ ", "* STATUS INBOX (MESSAGES 0)", "a OK"}},
		{"non-synchronizing literal", "a STATUS {5+}\r\nINBOX (MESSAGES)\r\n", []string{"* STATUS INBOX", "a OK"}},
		{"two literals", "a RENAME {1+}\r\nx {1+}\r\ny\r\n", []string{"a NO"}},
		{"empty literal", "a LIST {0+}\r\n {1+}\r\n*\r\n", []string{"* LIST", "a OK"}},
		{"a literal with quotes", "a CREATE {5+}\r\na\"\\\"b\r\nb LIST \"\" a*\r\n",
			[]string{"a OK", `* LIST () "/" "a\"\\\"b"`, "b OK"}},
		{"a literal with line ends", "a CREATE {6+}\r\na\r\nb c\r\n", []string{"a BAD"}},
		{"a literal with NUL", "a CREATE {1+}\r\n\x00\r\n", []string{"a BAD"}},
		{"a literal over the limit of imapserver", "a SEARCH TEXT {5000}\r\n" + big + "\r\n", []string{"+ ", "a BAD"}},
		{"a literal too big for a command", "a SEARCH TEXT {1000000}\r\n", []string{"a NO [TOOBIG]"}},
		{"quoting makes a literal too big", "a CREATE {40000}\r\n" + strings.Repeat(`"`, 40000) + "\r\n",
			[]string{"+ ", "a NO [TOOBIG]"}},
		{"a non-synchronizing literal over 4096 is not executed", "a CREATE {5000+}\r\n" + strings.Repeat("x NOOP\r\n", 625) + "\r\n",
			[]string{"a BAD"}},
		{"and what it is followed by neither", "a XYZZY {8+}\r\nb NOOP\r\n c {8+}\r\nd NOOP\r\n e\r\n", []string{"a BAD Unknown command"}},
		{"10 GB", "a CREATE {10000000000+}\r\nb NOOP\r\n", []string{"a BAD", "* BYE", "EOF"}},
		{"many refused literals", "a XYZZY " + strings.Repeat("{4096+}\r\n"+strings.Repeat("x", 4096), 20), []string{"a BAD", "* BYE", "EOF"}},
		{"literal8 in a mailbox name", "a CREATE ~{1}\r\n", []string{"a BAD"}},
		{"malformed literals", "a CREATE {-1}\r\nb CREATE {0x10}\r\nc CREATE {}\r\nd CREATE {1\r\ne CREATE {99999999999999999999}\r\nf CREATE {1} x\r\n",
			[]string{"a BAD", "b BAD", "c BAD", "d BAD", "e BAD", "f BAD"}},
		{"a malformed literal that may be on its way", "a CREATE {5++}\r\nb NOOP\r\n", []string{"a BAD", "* BYE", "EOF"}},
		{"2^64 octets", "a CREATE {18446744073709551616+}\r\nb NOOP\r\n", []string{"a BAD", "* BYE", "EOF"}},
		{"an open quote before a literal", "a CREATE \"x {5+}\r\nb NOOP\r\n", []string{"a BAD", "* BYE", "EOF"}},

		{"a literal for a tag", "{5+}\r\nb NO P\r\nc NOOP\r\n", []string{"* BAD", "* BYE", "EOF"}},
		{"tag with a plus", "a+b NOOP\r\n", []string{"* BAD"}},
		{"tag with format verbs", "%s%n NOOP\r\n", []string{"* BAD"}},
		{"tag with a star", "* NOOP\r\n", []string{"* BAD"}},
		{"tag with UTF-8", "é NOOP\r\n", []string{"* BAD"}},
		{"no tag", " NOOP\r\n", []string{"* BAD"}},
		{"long tag", strings.Repeat("t", 1000) + " NOOP\r\n", []string{"* BAD"}},
		{"open quote", "a SELECT \"INBOX\r\n", []string{"a BAD"}},
		{"open parenthesis", "a STATUS INBOX (MESSAGES\r\n", []string{"a BAD"}},
		{"closed parenthesis", "a STATUS INBOX MESSAGES)\r\n", []string{"a BAD"}},
		{"deep nesting", "a SEARCH " + strings.Repeat("(", 2000) + "ALL" + strings.Repeat(")", 2000) + "\r\n", []string{"a BAD"}},
		{"malformed numbers, dates and names",
			"a SELECT INBOX\r\nb FETCH x FLAGS\r\nc FETCH 0 FLAGS\r\nd FETCH 1,,2 FLAGS\r\ne FETCH 99999999999 FLAGS\r\nf SEARCH XYZZY\r\ng SEARCH SINCE yesterday\r\nh CREATE \"&AP\"\r\ni STATUS {1+}\r\n\x01 (UIDNEXT)\r\n",
			[]string{"* 0 EXISTS", "* 0 RECENT", "* OK", "* OK", "* FLAGS", "* OK", "a OK", "b BAD [CLIENTBUG]", "c BAD", "d BAD", "e BAD", "f BAD", "g BAD", "h BAD", "i BAD"}},
		{"tab", "a\tNOOP\r\nb SELECT\tINBOX\r\n", []string{"* BAD", "b BAD"}},
		{"escape sequence", "a SELECT \"\x1b[2J\"\r\n", []string{"a BAD"}},
		{"NUL", "a NOOP\x00\r\n", []string{"* BYE", "EOF"}},
		{"bare LF", "a NOOP\nb NOOP\r\n", []string{"* BYE", "EOF"}},
		{"bare CR", "a NOOP\rb NOOP\r\n", []string{"* BYE", "EOF"}},
		{"CR CR LF", "a NOOP\r\r\n", []string{"* BYE", "EOF"}},
		{"endless line", strings.Repeat("x", 70000), []string{"* BYE", "EOF"}},
		{"a command too long for imapserver", "a SEARCH TEXT " + strings.Repeat("x", 49152) + "\r\nb NOOP\r\n", []string{"* BYE", "EOF"}},
		{"too many bad commands", strings.Repeat("a XYZZY\r\n", 60), append(slices.Repeat([]string{"a BAD"}, 50), "* BYE", "EOF")},
		{"too many bad commands for imapserver", strings.Repeat("a SELECT\r\n", 60), append(slices.Repeat([]string{"a BAD"}, 50), "* BYE", "EOF")},

		{"idle", "a IDLE\r\nDONE\r\n", []string{"+ idling", "a OK"}},
		{"idle ended in lower case", "a IDLE\r\ndone\r\n", []string{"+ idling", "a OK"}},
		{"idle ended by something else, which is not executed", "a IDLE\r\nb LOGOUT\r\nc NOOP\r\n", []string{"+ idling", "a BAD", "c OK"}},
		{"idle with an argument", "a IDLE x\r\nb NOOP\r\n", []string{"a BAD", "b OK"}},
		{"done without idle", "DONE\r\n", []string{"DONE BAD"}},
		{"idle twice", "a IDLE\r\ndone\r\nb IDLE\r\nDoNe\r\n", []string{"+ idling", "a OK", "+ idling", "b OK"}},

		{"id", "a ID (\"name\" \"x\" \"v\" NIL)\r\nb ID NIL\r\nc ID (\"x-originating-ip\" {7+}\r\n1.2.3.4)\r\nd ID ()\r\n",
			[]string{`* ID ("name" "Test" "v\"" "1")`, "a OK", "* ID", "b OK", "* ID", "c OK", "* ID", "d OK"}},
		{"malformed id", "a ID\r\nb ID (\"x\")\r\nc ID \"x\" \"y\"\r\nd ID (\"x\"  \"y\")\r\n", []string{"a BAD", "b BAD", "c BAD", "d BAD"}},
		{"answers of both kinds stay in order", "a ID NIL\r\nb STATUS INBOX (UIDNEXT)\r\nc CAPABILITY\r\nd NOOP\r\n",
			[]string{"* ID", "a OK", "* STATUS", "b OK", "* CAPABILITY", "c OK", "d OK"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := guard.Options{ID: []string{"name", "Test", `v"`, "1"}}
			talk(t, serve(t, t.Context(), o), tt.send, tt.want...)
		})
		t.Run(tt.name+"/byte by byte", func(t *testing.T) {
			if len(tt.send) > 10000 {
				return
			}
			var w waker
			s := serve(t, t.Context(), guard.Options{ID: []string{"name", "Test", `v"`, "1"}, Idle: w.idle})
			s.Conn = trickle{s.Conn}
			talk(t, s, tt.send, tt.want...)
			if n := w.idlers(); n != 0 {
				t.Errorf("%d IDLEs were not stopped", n)
			}
		})
	}
}

// trickle writes byte by byte.
type trickle struct{ net.Conn }

func (c trickle) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestQuota(t *testing.T) {
	quota := func(_ context.Context, mailbox string) (int64, int64, bool, error) {
		switch mailbox {
		case "INBOX":
			return 1025, 1 << 20, true, nil
		case "Entwürfe & Ähnliches":
			return 0, 0, true, nil
		case "broken":
			return 0, 0, false, errors.New("disk on fire")
		}
		return 0, 0, false, nil
	}
	for _, tt := range []struct {
		name, send string
		want       []string
	}{
		{"root of the inbox", "a GETQUOTAROOT inbox\r\n", []string{`* QUOTAROOT "inbox" ""`, `* QUOTA "" (STORAGE 2 1024)`, "a OK"}},
		{"modified UTF-7, no limit", "a GETQUOTAROOT \"Entw&APw-rfe &- &AMQ-hnliches\"\r\n",
			[]string{`* QUOTAROOT "Entw&APw-rfe &- &AMQ-hnliches" ""`, `* QUOTA "" ()`, "a OK"}},
		{"literal", "a GETQUOTAROOT {5}\r\nINBOX\r\n", []string{"+ ", `* QUOTAROOT "INBOX" ""`, "* QUOTA", "a OK"}},
		{"malformed UTF-7", "a GETQUOTAROOT \"&AP\"\r\n", []string{"a BAD"}},
		{"no such mailbox", "a GETQUOTAROOT x\r\n", []string{"a NO [NONEXISTENT]"}},
		{"error", "a GETQUOTAROOT broken\r\n", []string{"a NO [UNAVAILABLE] Quota cannot be told now"}},
		{"the root", "a GETQUOTA \"\"\r\n", []string{`* QUOTA "" (STORAGE 2 1024)`, "a OK"}},
		{"another root", "a GETQUOTA x\r\n", []string{"a NO [NONEXISTENT]"}},
		{"no argument", "a GETQUOTA\r\nb GETQUOTAROOT\r\nc GETQUOTAROOT a b\r\n", []string{"a BAD", "b BAD", "c BAD"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			talk(t, serve(t, t.Context(), guard.Options{Quota: quota}), tt.send, tt.want...)
		})
	}
	t.Run("none", func(t *testing.T) {
		talk(t, serve(t, t.Context(), guard.Options{}), "a GETQUOTAROOT INBOX\r\nb GETQUOTA \"\"\r\n",
			`* QUOTAROOT "INBOX"`, "a OK", "b NO [NONEXISTENT]")
	})
}
