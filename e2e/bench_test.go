package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"golang.org/x/sync/errgroup"
)

// BenchmarkSubmit submits messages of 10 kB over eight connections at once, to
// an account that watches its INBOX in IDLE on a ninth. Beside the messages a
// second it reports how long after the 250 of a message IDLE tells of it, and
// what memory of its own the gateway has in the end.
func BenchmarkSubmit(b *testing.B) {
	g := newGateway(b, "log: {level: warn}\n")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	b.Run("8x10kB", func(b *testing.B) {
		g.t = b
		w := g.watch(pemFile)
		accepted, err := g.submitAll(pemFile, 8, b.N, letter(alice, alice, "10 kB", strings.Repeat(line, 10_000/len(line))))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		late := w.latencies(accepted)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		b.ReportMetric(milliseconds(late[len(late)/2]), "push-p50-ms")
		b.ReportMetric(milliseconds(late[len(late)*99/100]), "push-p99-ms")
		b.ReportMetric(g.anonymousMB(), "gateway-MB")
	})
}

// BenchmarkIdle opens connections with a key, selects the INBOX in each and
// stays in IDLE. It reports the gateway's memory a connection, once the gateway
// has given back what it does not need. Run it with -benchtime 9000x.
func BenchmarkIdle(b *testing.B) {
	g := newGateway(b, `log: {level: warn}
limits:
  connections_per_source: 20000
  connections_per_account: 20000
  unauthenticated_per_source: 20000
`)
	g.account(alice)
	config := g.tlsConfig(g.key(alice, "laptop"), "imap")
	before := g.settledMB()
	var all errgroup.Group
	all.SetLimit(16)
	for range b.N {
		all.Go(func() error {
			c, err := tls.Dial("tcp", g.shared, config)
			if err != nil {
				return err
			}
			b.Cleanup(func() { c.Close() })
			return beginIdle(c)
		})
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric((g.settledMB()-before)*1e6/1024/float64(b.N), "KiB/conn")
}

// beginIdle waits until the client is told that it idles.
func beginIdle(c net.Conn) error {
	if _, err := io.WriteString(c, "a SELECT INBOX\r\nb IDLE\r\n"); err != nil {
		return err
	}
	r := bufio.NewReaderSize(c, 256)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "+") {
			return nil
		}
	}
}

// settledMB is anonymousMB after it has stopped falling.
func (g *gateway) settledMB() float64 {
	least := g.anonymousMB()
	for same := 0; same < 5; same++ {
		time.Sleep(2 * time.Second) // nothing says that a heap is done shrinking
		if now := g.anonymousMB(); now < 0.99*least {
			least, same = now, -1
		}
	}
	return least
}

const line = "A line of a message that is there to have a size, and no other.\r\n"

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// submitAll submits a message n times over some connections, and returns when
// each was accepted.
func (g *gateway) submitAll(pemFile string, connections, n int, message string) ([]time.Time, error) {
	accepted := make([]time.Time, n)
	var next atomic.Int64
	var all errgroup.Group
	for range connections {
		c := g.dial(pemFile, "smtp")
		if err := c.SetDeadline(time.Time{}); err != nil {
			return nil, err
		}
		client := smtpClient(c)
		all.Go(func() error {
			defer client.Close()
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := client.SendMail(alice, []string{alice}, strings.NewReader(message)); err != nil {
					return err
				}
				accepted[i-1] = time.Now()
			}
			return nil
		})
	}
	return accepted, all.Wait()
}

// watcher is a client in IDLE.
type watcher struct {
	t     testing.TB
	first uint32 // messages when it began

	mu    sync.Mutex // guards told
	told  []exists
	grown chan struct{} // has something in it after told has grown
}

// exists is an EXISTS response.
type exists struct {
	at       time.Time
	messages uint32
}

// watch selects the INBOX and begins IDLE.
func (g *gateway) watch(pemFile string) *watcher {
	w := &watcher{t: g.t, grown: make(chan struct{}, 1)}
	conn := g.dial(pemFile, "imap")
	if err := conn.SetDeadline(time.Time{}); err != nil {
		g.t.Fatal(err)
	}
	c := imapclient.New(conn, &imapclient.Options{
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{Mailbox: w.mailbox},
	})
	selected, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		g.t.Fatal(err)
	}
	w.first = selected.NumMessages
	if _, err := c.Idle(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return w
}

func (w *watcher) mailbox(data *imapclient.UnilateralDataMailbox) {
	if data.NumMessages == nil {
		return
	}
	w.mu.Lock()
	w.told = append(w.told, exists{time.Now(), *data.NumMessages})
	w.mu.Unlock()
	select {
	case w.grown <- struct{}{}:
	default:
	}
}

// latencies waits for all messages that were accepted, and returns how long it
// took each to be told of, the shortest first: the n-th that was accepted is
// told of by the first EXISTS that counts n more than there were.
func (w *watcher) latencies(accepted []time.Time) []time.Duration {
	last := w.first + uint32(len(accepted))
	for timeout := time.After(10 * time.Second); ; {
		w.mu.Lock()
		n := len(w.told)
		complete := n > 0 && w.told[n-1].messages >= last
		w.mu.Unlock()
		if complete {
			break
		}
		select {
		case <-w.grown:
		case <-timeout:
			w.t.Fatal("IDLE does not tell of all messages")
		}
	}
	slices.SortFunc(accepted, time.Time.Compare)
	var late []time.Duration
	told := w.told
	for i, at := range accepted {
		for told[0].messages < w.first+uint32(i)+1 {
			told = told[1:]
		}
		late = append(late, max(0, told[0].at.Sub(at)))
	}
	slices.Sort(late)
	return late
}

// anonymousMB is the memory that the gateway has and shares with no file, in
// megabytes.
func (g *gateway) anonymousMB() float64 {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(kib)
	if err != nil {
		g.t.Fatal(err)
	}
	return float64(n) * 1024 / 1e6
}
