package e2e

import (
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// TestKillDuringSubmissions kills the gateway several times while messages are
// submitted and appended.
func TestKillDuringSubmissions(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	acknowledged := map[string]bool{}
	for round := range 3 {
		maps.Copy(acknowledged, g.endAmidWriters(pemFile, fmt.Sprint(round), g.kill))
	}
	g.holds(pemFile, acknowledged)
}

// TestStopDuringSubmissions stops it as an operator does.
func TestStopDuringSubmissions(t *testing.T) {
	g := newGateway(t, "shutdown_timeout: 5s\n")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	g.holds(pemFile, g.endAmidWriters(pemFile, "0", func() { g.end(syscall.SIGTERM) }))
}

// endAmidWriters ends the gateway while eight connections submit and append,
// after at least 150 acknowledgements, and starts it again. It returns the
// IDs, which begin with prefix, of the messages that were acknowledged.
func (g *gateway) endAmidWriters(pemFile, prefix string, end func()) (acknowledged map[string]bool) {
	g.t.Helper()
	const writers, least = 8, 150
	acknowledged = map[string]bool{}
	var mu sync.Mutex // guards acknowledged
	enough := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		put := g.submitter(pemFile)
		if w%4 == 3 {
			put = g.appender(pemFile)
		}
		wg.Go(func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s-%d-%d", prefix, w, n)
				if put(numbered(id)) != nil {
					return
				}
				mu.Lock()
				acknowledged[id] = true
				if len(acknowledged) == least {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		g.t.Errorf("%d messages took more than a minute", least)
	}
	end()
	wg.Wait()
	g.start()
	return acknowledged
}

// holds checks that each acknowledged message is in the INBOX, once and whole,
// and that each of the others is whole.
func (g *gateway) holds(pemFile string, acknowledged map[string]bool) {
	g.t.Helper()
	seen := map[string]int{}
	for _, body := range g.bodies(pemFile) {
		id, ok := strings.CutPrefix(body, "id ")
		id, _, found := strings.Cut(id, "\r\n")
		if !ok || !found || body != numberedBody(id) {
			g.t.Fatalf("a message that nobody sent whole: %.200q (%d bytes)", body, len(body))
		}
		if seen[id]++; seen[id] > 1 {
			g.t.Errorf("%s is there %d times", id, seen[id])
		}
	}
	for id := range acknowledged {
		if seen[id] == 0 {
			g.t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	g.t.Logf("%d acknowledged, %d there", len(acknowledged), len(seen))
}

func numberedBody(id string) string {
	return "id " + id + "\r\n" + strings.Repeat("The same line, many times, for "+id+".\r\n", 300) + "end\r\n"
}

func numbered(id string) string {
	return "From: <" + alice + ">\r\nTo: <" + alice + ">\r\nSubject: " + id + "\r\nMessage-ID: <" + id + "@test>\r\n\r\n" + numberedBody(id)
}

// submitter returns a function that submits a message on one connection.
func (g *gateway) submitter(pemFile string) func(string) error {
	c := smtpClient(g.dial(pemFile, "smtp"))
	return func(m string) error { return c.SendMail(alice, []string{alice}, strings.NewReader(m)) }
}

// appender returns a function that appends a message on one connection.
func (g *gateway) appender(pemFile string) func(string) error {
	c := imapClient(g.dial(pemFile, "imap"))
	return func(m string) error {
		a := c.Append("INBOX", int64(len(m)), nil)
		if _, err := io.WriteString(a, m); err != nil {
			return err
		}
		if err := a.Close(); err != nil {
			return err
		}
		_, err := a.Wait()
		return err
	}
}

// bodies returns the bodies of all messages in the INBOX.
func (g *gateway) bodies(pemFile string) []string {
	g.t.Helper()
	c := imapClient(g.dial(pemFile, "imap"))
	defer c.Close()
	if err := c.WaitGreeting(); err != nil {
		g.t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		g.t.Fatal(err)
	}
	section := &imap.FetchItemBodySection{Specifier: imap.PartSpecifierText, Peek: true}
	var all imap.SeqSet
	all.AddRange(1, 0)
	messages, err := c.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		g.t.Fatal(err)
	}
	var out []string
	for _, m := range messages {
		out = append(out, body(m))
	}
	return out
}

func body(m *imapclient.FetchMessageBuffer) string {
	for _, s := range m.BodySection {
		return string(s.Bytes)
	}
	return ""
}
