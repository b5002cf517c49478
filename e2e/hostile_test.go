package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"posthorn/await"
)

// in is the same gateway, for a subtest.
func (g *gateway) in(t *testing.T) *gateway {
	sub := *g
	sub.t = t
	return &sub
}

// sources counts the addresses that source has given out.
var sources atomic.Uint32

// source is an address of this machine that nobody else comes from: what one
// test does must not count against another.
func source() string {
	n := sources.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 1+n>>16, n>>8&0xff, n&0xff)
}

// connect opens a TCP connection from a source, or from one of its own.
func (g *gateway) connect(address string, from ...string) net.Conn {
	g.t.Helper()
	c, err := dialFrom(address, from...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

func dialFrom(address string, from ...string) (net.Conn, error) {
	if len(from) == 0 {
		from = []string{source()}
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from[0])}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(patience))
}

// patience is how long a test waits for what should not take long, on a
// machine that has much else to do.
const patience = 40 * time.Second

// eventually waits until something is so that another process brings about.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	await.Within(t, patience, what, so)
}

// peer is a conversation with the gateway, in cleartext or over TLS.
type peer struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func newPeer(t testing.TB, c net.Conn) *peer {
	return &peer{t, c, bufio.NewReader(c)}
}

// clear begins a conversation without TLS.
func (g *gateway) clear(address string, from ...string) *peer {
	g.t.Helper()
	return newPeer(g.t, g.connect(address, from...))
}

// secure begins a conversation over TLS with a port, under config.
func (g *gateway) secure(address string, config *tls.Config, from ...string) *peer {
	g.t.Helper()
	c := tls.Client(g.connect(address, from...), config)
	if err := c.Handshake(); err != nil {
		g.t.Fatal(err)
	}
	return newPeer(g.t, c)
}

// startTLS goes on over TLS.
func (p *peer) startTLS(config *tls.Config) *peer {
	p.t.Helper()
	c := tls.Client(p.Conn, config)
	if err := c.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	return newPeer(p.t, c)
}

// imapOf is a conversation on the shared port by somebody whose key is in
// pemFile, or by a stranger; the greeting is read.
func (g *gateway) imapOf(pemFile string, from ...string) *peer {
	g.t.Helper()
	p := g.secure(g.shared, g.tlsConfig(pemFile, "imap"), from...)
	want := "* OK"
	if pemFile != "" {
		want = "* PREAUTH"
	}
	p.until(want)
	return p
}

// smtpOf is as imapOf, with EHLO said.
func (g *gateway) smtpOf(pemFile string, from ...string) *peer {
	g.t.Helper()
	p := g.secure(g.shared, g.tlsConfig(pemFile, "smtp"), from...)
	p.until("220 ")
	p.ask("EHLO client.example", "250")
	return p
}

// httpOf is a conversation in HTTP/1.1.
func (g *gateway) httpOf(from ...string) *peer {
	g.t.Helper()
	return g.secure(g.shared, g.tlsConfig("", "http/1.1"), from...)
}

// send sends octets as they are. That the gateway has gone is no error: it
// shows in what it said.
func (p *peer) send(s string) {
	_, _ = io.WriteString(p.Conn, s)
}

// line reads a line, without its end.
func (p *peer) line() string {
	p.t.Helper()
	s, err := p.r.ReadString('\n')
	if err != nil {
		p.t.Fatalf("after %.200q: %v", s, err)
	}
	return strings.TrimRight(s, "\r\n")
}

// until reads lines up to one that begins with prefix, and returns it.
func (p *peer) until(prefix string) string {
	p.t.Helper()
	var before []string
	for {
		s, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("no %q in %.500q: %v", prefix, append(before, s), err)
		}
		if strings.HasPrefix(s, prefix) {
			return strings.TrimRight(s, "\r\n")
		}
		before = append(before, s)
	}
}

// ask sends a line of SMTP and wants a reply that begins with code, all of
// which it returns.
func (p *peer) ask(line, code string) string {
	p.t.Helper()
	p.send(line + "\r\n")
	return p.hear(line, code)
}

// hear reads a whole reply of SMTP, which must begin with code.
func (p *peer) hear(about, code string) string {
	p.t.Helper()
	var reply strings.Builder
	for {
		s := p.line()
		fmt.Fprintln(&reply, s)
		if len(s) < 4 || s[3] != '-' {
			if !strings.HasPrefix(s, code) {
				p.t.Errorf("%.100q: %q, not %s", about, s, code)
			}
			return reply.String()
		}
	}
}

// do sends a command of IMAP and wants it to be answered with status, as in
// "OK"; it returns what came before the answer, and the answer.
func (p *peer) do(command, status string) string {
	p.t.Helper()
	p.send("t " + command + "\r\n")
	var all strings.Builder
	for {
		s := p.line()
		fmt.Fprintln(&all, s)
		if answer, ok := strings.CutPrefix(s, "t "); ok {
			if !strings.HasPrefix(answer, status) {
				p.t.Errorf("%.100q: %q, not %s", command, s, status)
			}
			return all.String()
		}
	}
}

// rest reads to the end of the connection, whatever that is like.
func (p *peer) rest() (string, error) {
	b, err := io.ReadAll(p.r)
	return string(b), err
}

// over wants the connection to end within a time, and returns what was said
// until then.
func (p *peer) over(within time.Duration) string {
	p.t.Helper()
	start := time.Now()
	out, err := p.rest()
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		p.t.Errorf("still open after %v; it said %.200q", time.Since(start), out)
	} else if took := time.Since(start); took > within {
		p.t.Errorf("ended only after %v, with %.200q", took, out)
	}
	return out
}

// slack is added to what SECURITY promises in seconds: the machine that the
// tests run on may be busy.
const slack = 6 * time.Second

// logged returns what the gateway has logged so far.
func (g *gateway) logged() string {
	g.t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, "log"))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(b)
}

// awaitLog waits until the log has a text in it.
func (g *gateway) awaitLog(text string) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("%q is in the log", text), func() bool { return strings.Contains(g.logged(), text) })
}

// proc reads a number out of /proc/PID/status of the gateway, as in "VmRSS" (in
// kB) or "Threads".
func (g *gateway) proc(field string) int {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+field+":")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

// descriptors counts the gateway's open files, and besides the numbers of connections
// that are closed, which stand for the root directory for a while (package
// socket).
func (g *gateway) descriptors() (open, closed int) {
	g.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid)
	all, err := os.ReadDir(dir)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, fd := range all {
		if to, _ := os.Readlink(filepath.Join(dir, fd.Name())); to == "/" {
			closed++
		}
	}
	return len(all) - closed, closed
}

// alive fails the test unless the gateway still serves everybody.
func (g *gateway) alive(pemFile string) {
	g.t.Helper()
	g.imapOf(pemFile).do("NOOP", "OK")
	g.smtpOf(pemFile).ask("NOOP", "250")
	p := g.httpOf()
	p.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if out, _ := p.rest(); !strings.HasPrefix(out, "HTTP/1.1 200 ") {
		g.t.Errorf("/healthz: %.200q", out)
	}
	if log := g.logged(); strings.Contains(log, "panic") {
		at := strings.Index(log, "panic")
		g.t.Errorf("a panic in the log: %.2000s", log[max(0, at-300):])
	}
}
