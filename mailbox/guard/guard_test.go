package guard_test

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"strings"
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
	r     *bufio.Reader
	user  *imapmemserver.User
	guard *guard.Conn
	t     testing.TB
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
		Logger:       log.New(io.Discard, "", 0),
	})
	ln := make(listener)
	go srv.Serve(ln)
	g := guard.New(ctx, server, o)
	ln <- g
	go func() { // as mux does
		<-g.Done()
		server.Close()
	}()
	t.Cleanup(func() {
		client.Close()
		select {
		case <-g.Done():
		case <-time.After(5 * time.Second):
			t.Error("imapserver goes on without its client")
		}
		srv.Close()
	})
	return &served{client, bufio.NewReader(client), user, g, t}
}

// send writes without waiting for the guard to read.
func (s *served) send(text string) {
	go io.WriteString(s, text)
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

func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, send string
		want       []string // prefixes of the lines
	}{
		{"capability", "a CAPABILITY\r\n", []string{"* CAPABILITY IMAP4rev1 IDLE LITERAL- ID QUOTA", "a OK"}},
		{"lower case", "a noop\r\n", []string{"a OK"}},
		{"id", "a ID (\"name\" \"x\" \"v\" NIL)\r\n", []string{"* ID (\"name\" \"Test\")", "a OK"}},
		{"empty line", "\r\na NOOP\r\n", []string{"a OK"}},
		{"unknown", "a XYZZY\r\nb NOOP\r\n", []string{"a BAD Unknown command", "b OK"}},
		{"login", "a LOGIN alice secret\r\nb NOOP\r\n", []string{"a BAD", "b OK"}},
		{"select, literal", "a SELECT {5}\r\n", []string{"+ "}},
		{"literal-", "a STATUS {5+}\r\nINBOX (MESSAGES)\r\n", []string{"* STATUS INBOX (MESSAGES 0)", "a OK"}},
		{"idle", "a IDLE\r\ndone\r\nb NOOP\r\n", []string{"+ idling", "a OK", "b OK"}},
		{"idle, nonsense", "a IDLE\r\nb NOOP\r\nc NOOP\r\n", []string{"+ idling", "a BAD", "c OK"}},
		{"append", "a APPEND INBOX {5+}\r\nhello\r\nb NOOP\r\n", []string{"a OK", "b OK"}},
		{"logout", "a LOGOUT\r\n", []string{"* BYE", "a OK", "EOF"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, context.Background(), guard.Options{ID: []string{"name", "Test"}})
			s.send(tt.send)
			for _, want := range tt.want {
				if got := s.line(); !strings.HasPrefix(got, want) {
					t.Fatalf("got %q, want %q…", got, want)
				}
			}
		})
	}
}
