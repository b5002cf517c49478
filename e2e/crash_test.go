package e2e

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// TestKillDuringSubmissions kills the gateway several times while messages are
// submitted and appended. What was acknowledged is there afterwards, once and
// whole; what was not acknowledged is whole or not there.
func TestKillDuringSubmissions(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")

	const rounds, writers = 3, 8
	acknowledged := map[string]bool{}
	for round := range rounds {
		var mu sync.Mutex
		var count atomic.Int32
		enough := make(chan struct{})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				put := g.submitter(pemFile)
				if w%4 == 3 {
					put = g.appender(pemFile)
				}
				for n := 0; ; n++ {
					id := fmt.Sprintf("%d-%d-%d", round, w, n)
					if put(numbered(id)) != nil {
						return
					}
					mu.Lock()
					acknowledged[id] = true
					mu.Unlock()
					if count.Add(1) == 150 {
						close(enough)
					}
				}
			})
		}
		select {
		case <-enough:
		case <-time.After(time.Minute):
			t.Error("150 messages took more than a minute")
		}
		g.kill()
		wg.Wait()
		g.start()
	}

	seen := map[string]int{}
	for _, body := range g.bodies(pemFile) {
		id, ok := strings.CutPrefix(body, "id ")
		id, _, found := strings.Cut(id, "\r\n")
		if !ok || !found || body != numberedBody(id) {
			t.Fatalf("a message that nobody sent whole: %.200q (%d bytes)", body, len(body))
		}
		seen[id]++
		if seen[id] > 1 {
			t.Errorf("%s is there %d times", id, seen[id])
		}
	}
	for id := range acknowledged {
		if seen[id] == 0 {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	if len(acknowledged) < rounds*150 {
		t.Errorf("only %d messages were acknowledged", len(acknowledged))
	}
	t.Logf("%d acknowledged, %d there", len(acknowledged), len(seen))
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
