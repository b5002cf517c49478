package mux_test

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
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/mux"
	"posthorn/store/badgerkv"
)

// BenchmarkHandshake compares what a connection costs the server with what it
// costs a bare crypto/tls accept loop: full and resumed handshakes with a client
// certificate, and a greeting; the server looks the key up in Badger before that. The clients are another process, so that the CPU
// time and the allocations are the servers' alone; the two servers take turns.
// Beside the usual numbers it reports CPU time per connection and the ratio.
func BenchmarkHandshake(b *testing.B) {
	for _, kind := range []string{"full", "resumed"} {
		b.Run(kind, func(b *testing.B) {
			client := startClients(b, kind)
			bare, muxed := bareServer(b), benchServer(b, client.key)
			client.connect(bare, 20)
			client.connect(muxed, 20)
			var used [2]usage
			b.ResetTimer()
			for done := 0; done < b.N; {
				n := min(100, b.N-done)
				for i, addr := range []string{bare, muxed} {
					used[i].of(func() { client.connect(addr, n) })
				}
				done += n
			}
			for i, name := range []string{"bare", "mux"} {
				b.ReportMetric(float64(used[i].cpu.Microseconds())/float64(b.N), name+"-cpu-µs/conn")
				b.ReportMetric(float64(used[i].allocs)/float64(b.N), name+"-allocs/conn")
				b.ReportMetric(float64(used[i].bytes)/float64(b.N), name+"-B/conn")
			}
			b.ReportMetric(float64(used[1].cpu)/float64(used[0].cpu), "ratio")
		})
	}
}

// BenchmarkIdle compares the memory of connections that idle: heap and stacks,
// after a collection.
func BenchmarkIdle(b *testing.B) {
	for _, server := range []string{"bare", "mux"} {
		b.Run(server, func(b *testing.B) {
			client := startClients(b, "idle")
			addr := bareServer(b)
			if server == "mux" {
				addr = benchServer(b, client.key)
			}
			client.connect(addr, 20)
			before := memoryInUse()
			client.connect(addr, b.N)
			b.ReportMetric(float64(memoryInUse()-before)/float64(b.N), "B/conn")
		})
	}
}

func memoryInUse() int64 {
	runtime.GC()
	runtime.GC() // stacks that are not needed any more go in the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// usage is what this process has used.
type usage struct {
	cpu           time.Duration
	allocs, bytes uint64
}

// of adds what f uses.
func (u *usage) of(f func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := cpuTime()
	f()
	u.cpu += cpuTime() - start
	runtime.ReadMemStats(&after)
	u.allocs += after.Mallocs - before.Mallocs
	u.bytes += after.TotalAlloc - before.TotalAlloc
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// greeter greets clients whose key is registered, and waits for them to go.
type greeter struct{ keys *authkeys.Store }

func (greeter) Busy() []byte { return nil }
func (g greeter) ServeConn(ctx context.Context, c *mux.Conn) {
	if _, err := g.keys.Lookup(ctx, c.Key); err != nil {
		return
	}
	_, _ = io.WriteString(c.Conn, "* OK\r\n")
	_, _ = c.Conn.Read(make([]byte, 1))
}

func benchServer(b *testing.B, key authkeys.PublicKey) string {
	db, err := badgerkv.Open(b.TempDir(), zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	keys := authkeys.New(db)
	err = keys.Add(b.Context(), authkeys.Key{Fingerprint: key.Fingerprint, Type: key.Type, Account: "1"})
	if err != nil {
		b.Fatal(err)
	}
	s := start(b, func(c *mux.Config) {
		c.Log = zerolog.New(io.Discard).Level(zerolog.InfoLevel)
		c.Handlers[alpn.IMAP] = greeter{keys}
		c.Limits = mux.Limits{ConnsPerSource: 20000, UnauthPerSource: 20000, UnauthStart: 20000}
	})
	return s.listen(alpn.Shared)
}

// bareServer does the same with nothing but crypto/tls.
func bareServer(b *testing.B) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	config := alpn.Route{NextProto: "imap", RequestCert: true}.TLSConfig(0)
	config.Certificates = []tls.Certificate{newCerts(b).cert}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serveBare(tls.Server(c, config))
		}
	}()
	return ln.Addr().String()
}

func serveBare(c *tls.Conn) {
	defer c.Close()
	if c.Handshake() != nil {
		return
	}
	_, _ = io.WriteString(c, "* OK\r\n")
	_, _ = c.Read(make([]byte, 1))
}

// clients is a process that makes connections.
type clients struct {
	b   *testing.B
	in  io.Writer
	out *bufio.Reader
	key authkeys.PublicKey
}

const clientEnv = "MUX_TEST_CLIENT"

func startClients(b *testing.B, kind string) *clients {
	cert := certificate(b, newKey(b), nil)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		b.Fatal(err)
	}
	public, err := authkeys.FromCertificate(leaf)
	if err != nil {
		b.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientEnv+"="+kind,
		"CERT="+string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})),
		"KEY="+string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	return &clients{b, in, bufio.NewReader(out), public}
}

// workers is how many connections a client makes at a time: enough to keep the
// server busy, as an idle one spends more on waking up than on working.
const workers = 4

// connect has n connections made.
func (c *clients) connect(addr string, n int) {
	fmt.Fprintf(c.in, "%s %d\n", addr, n)
	if line, err := c.out.ReadString('\n'); err != nil || line != "done\n" {
		c.b.Fatalf("client: %q, %v", line, err)
	}
}

// runClients is the other process.
func runClients(kind string) error {
	cert, err := tls.X509KeyPair([]byte(os.Getenv("CERT")), []byte(os.Getenv("KEY")))
	if err != nil {
		return err
	}
	var idle chan net.Conn
	if kind == "idle" {
		idle = make(chan net.Conn, 20000)
	}
	caches := map[string]tls.ClientSessionCache{}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var addr string
		var n int
		if _, err := fmt.Sscan(in.Text(), &addr, &n); err != nil {
			return err
		}
		cc := clientConfig("imap")
		cc.Certificates = []tls.Certificate{cert}
		if kind == "resumed" {
			if caches[addr] == nil {
				caches[addr] = new(oneSession)
			}
			cc.ClientSessionCache = caches[addr]
		}
		var g errgroup.Group
		g.SetLimit(workers)
		for range n {
			g.Go(func() error { return visit(addr, cc, idle) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		fmt.Println("done")
	}
	return in.Err()
}

// visit makes a connection, which stays open when there is an idle channel.
func visit(addr string, cc *tls.Config, idle chan<- net.Conn) error {
	c, err := tls.Dial("tcp", addr, cc)
	if err != nil {
		return err
	}
	if idle == nil {
		defer c.Close()
	} else {
		idle <- c
	}
	greeting := make([]byte, 64)
	n, err := c.Read(greeting)
	if err == nil && !strings.HasPrefix(string(greeting[:n]), "* OK") {
		err = fmt.Errorf("greeted with %q", greeting[:n])
	}
	return err
}
