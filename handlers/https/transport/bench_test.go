package transport_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"posthorn/client/webtransport"
	"posthorn/mux"
)

// BenchmarkFetch compares how fast 64 MiB come through the web with how fast
// they come through IMAP on the same port. The ways take turns; the clients and
// the server behind are another process.
func BenchmarkFetch(b *testing.B) { compare(b, "fetch") }

// BenchmarkAppend does the same for octets that go the other way.
func BenchmarkAppend(b *testing.B) { compare(b, "append") }

var ways = []string{"direct", "websocket", "h2"}

func compare(b *testing.B, what string) {
	c := startClients(b)
	for _, way := range ways { // the first is slower
		c.do(what, way, 16<<20)
	}
	const size = 64 << 20
	b.SetBytes(int64(len(ways) * size))
	took := map[string]time.Duration{}
	b.ResetTimer()
	for range b.N {
		for _, way := range ways {
			took[way] += c.do(what, way, size)
		}
	}
	for _, way := range ways {
		b.ReportMetric(float64(b.N)*size/1e6/took[way].Seconds(), way+"-MB/s")
		b.ReportMetric(took["direct"].Seconds()/took[way].Seconds(), way+"-ratio")
	}
}

// BenchmarkIdle reports the memory of a spliced connection that is quiet, in each
// way. Run it with -benchtime 2000x.
func BenchmarkIdle(b *testing.B) {
	for _, way := range ways {
		b.Run(way, func(b *testing.B) {
			c := startClients(b)
			c.do("idle", way, 50)
			before := settled(b)
			c.do("idle", way, b.N)
			after := settled(b)
			b.ReportMetric(float64(after-before)/1024/float64(b.N), "KiB/conn")
		})
	}
}

// settled is the proportional set size of this process, in bytes, after what is
// not needed was given back.
func settled(b *testing.B) int64 {
	parked(b)
	debug.FreeOSMemory()
	debug.FreeOSMemory() // stacks shrink in the first
	text, _ := os.ReadFile("/proc/self/smaps_rollup")
	var kib int64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			fmt.Sscan(rest, &kib)
		}
	}
	return kib << 10
}

const clientsEnv = "TRANSPORT_TEST_CLIENTS"

// clients is the other process.
type clients struct {
	b    *testing.B
	in   io.Writer
	out  *bufio.Reader
	addr string
}

func startClients(b *testing.B) *clients {
	b.Helper()
	certs, behind := "", &splicer{}
	g := start(b, func(g *gateway, c *mux.Config) {
		c.Handlers["imap"] = behind
		c.Limits = mux.Limits{ConnsPerSource: 20000, ConnsPerAccount: 20000, UnauthPerSource: 20000, UnauthStart: 20000}
		certs = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.cert.Certificate[0]}))
	})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientsEnv+"="+certs)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); cmd.Wait() })
	c := &clients{b, stdin, bufio.NewReader(stdout), g.addr}
	behind.server = strings.TrimSpace(c.answer())
	return c
}

func (c *clients) answer() string {
	c.b.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.b.Fatal(err)
	}
	return line
}

// do has the other process do something, and returns how long that took.
func (c *clients) do(what, way string, n int) (took time.Duration) {
	c.b.Helper()
	fmt.Fprintln(c.in, what, way, c.addr, n)
	if _, err := fmt.Sscan(c.answer(), &took); err != nil {
		c.b.Fatal(err)
	}
	return took
}

// runClients is the other process's main.
func runClients(certs string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serveEcho(ln)
	fmt.Println(ln.Addr())
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(certs))
	var held []net.Conn
	defer func() {
		for _, nc := range held {
			nc.Close()
		}
	}()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var what, way, addr string
		var n int
		if _, err := fmt.Sscan(in.Text(), &what, &way, &addr, &n); err != nil {
			return err
		}
		var took time.Duration
		if what == "idle" {
			var g errgroup.Group
			g.SetLimit(8)
			conns := make([]net.Conn, n)
			for i := range conns {
				g.Go(func() (err error) {
					conns[i], _, err = openSession(way, addr, roots)
					return err
				})
			}
			err = g.Wait()
			held = append(held, conns...)
		} else {
			took, err = transfer(what, way, addr, roots, n)
		}
		if err != nil {
			return err
		}
		fmt.Println(int64(took))
	}
	return in.Err()
}

// transfer has n octets go one way.
func transfer(what, way, addr string, roots *x509.CertPool, n int) (time.Duration, error) {
	nc, r, err := openSession(way, addr, roots)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	start := time.Now()
	if what == "fetch" {
		fmt.Fprintf(nc, "send %d\r\n", n)
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(r, int64(n)), make([]byte, 64<<10))
		return time.Since(start), err
	}
	fmt.Fprintf(nc, "take %d\r\n", n)
	if _, err := io.CopyBuffer(struct{ io.Writer }{nc}, io.LimitReader(zeros{}, int64(n)), make([]byte, 64<<10)); err != nil {
		return 0, err
	}
	_, err = r.ReadString('\n')
	return time.Since(start), err
}

// openSession opens a session in one way, and reads its greeting.
func openSession(way, addr string, roots *x509.CertPool) (net.Conn, *bufio.Reader, error) {
	var nc net.Conn
	var err error
	if way == "direct" {
		nc, err = net.Dial("tcp", addr)
	} else {
		d := &webtransport.Dialer{
			TLSConfig: &tls.Config{RootCAs: roots}, Subprotocol: "imap", Mode: modes[way],
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, addr)
			},
		}
		nc, err = d.Dial(context.Background(), host)
	}
	if err != nil {
		return nil, nil, err
	}
	tc := tls.Client(nc, &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{"imap"}})
	r := bufio.NewReaderSize(tc, 4096)
	_, err = r.ReadString('\n')
	return tc, r, err
}
