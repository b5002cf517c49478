package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crowd opens connections that stay half open, n of each kind, from sources
// that next gives out. It returns a function that closes them.
func (g *gateway) crowd(n int, next func() string) (disperse func()) {
	g.t.Helper()
	hello := clientHello(g.t, g.tlsConfig("", "imap"))
	config := g.tlsConfig("", "imap")
	var mu sync.Mutex
	var conns []net.Conn
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
	}
	var wg sync.WaitGroup
	turns := make(chan struct{}, 16)
	for i := range 3 * n {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			c, err := dialFrom(g.shared, next())
			if err != nil {
				return // it is refused: all the better
			}
			keep(c)
			switch i % 3 {
			case 1:
				_, _ = c.Write(hello[:len(hello)/2])
			case 2:
				if tc := tls.Client(c, config); tc.Handshake() == nil {
					_, _ = tc.Read(make([]byte, 10))
				}
			}
		})
	}
	wg.Wait()
	return func() {
		for _, c := range conns {
			c.Close()
		}
	}
}

// TestHostileCrowd: thousands of connections that come to nothing keep nobody
// out, and leave nothing behind.
func TestHostileCrowd(t *testing.T) {
	g := newGateway(t, "log: {level: warn}\n")
	password := g.account(alice)
	pemFile := g.key(alice, "laptop")
	g.alive(pemFile)
	before, _ := g.descriptors()
	rss := g.proc("VmRSS")

	crowded, owner := source(), source()
	for name, next := range map[string]func() string{
		"one source":   func() string { return crowded },
		"many sources": source,
	} {
		t.Run("5,000 half-open connections from "+name, func(t *testing.T) {
			g := g.in(t)
			disperse := g.crowd(1667, next)
			defer disperse()
			var times []time.Duration
			for i := range 40 {
				start := time.Now()
				switch i % 4 {
				case 0:
					g.imapOf(pemFile, owner).Close()
				case 1:
					g.smtpOf(pemFile, owner).Close()
				case 2:
					p := g.imapOf("", owner)
					p.do("LOGIN "+alice+" "+password, "OK")
					p.Close()
				case 3:
					p := g.httpOf(owner)
					p.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
					if out, _ := p.rest(); !strings.HasPrefix(out, "HTTP/1.1 200") {
						t.Errorf("/healthz: %.200q", out)
					}
					p.Close()
				}
				times = append(times, time.Since(start))
			}
			slices.Sort(times)
			open, _ := g.descriptors()
			t.Logf("logins took %v at the median, %v at the 95th percentile; %d descriptors, %d kB", times[20], times[37], open, g.proc("VmRSS"))
			if times[37] > 5*time.Second {
				t.Errorf("logins took %v at the 95th percentile", times[37])
			}
		})
	}

	eventually(t, "the descriptors are back", func() bool {
		open, closed := g.descriptors()
		return open <= before+20 && closed <= 128
	})
	if after := g.proc("VmRSS"); after > rss+200<<10 {
		t.Errorf("the gateway grew from %d to %d kB", rss, after)
	}
	g.alive(pemFile)
}

// cpu is the time that the gateway has computed for so far.
func (g *gateway) cpu() time.Duration {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // at 100 Hz, as Linux shows it
}

// TestHostileDescriptors: a gateway without descriptors does not spin, keeps
// those who are logged in, and recovers.
func TestHostileDescriptors(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	held := g.imapOf(pemFile)
	held.do("SELECT INBOX", "OK")

	var before unix.Rlimit
	open, closed := g.descriptors()
	few := unix.Rlimit{Cur: uint64(open + closed + 30), Max: 1 << 16}
	if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	few.Max = before.Max
	if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	disperse := g.crowd(70, source)
	start := g.cpu()
	time.Sleep(time.Second) // what is measured is another process, in a second of its time
	if used := g.cpu() - start; used > 700*time.Millisecond {
		t.Errorf("without descriptors it computes for %v in a second", used)
	}
	held.do("NOOP", "OK")
	g.imapOf(pemFile).do("NOOP", "OK") // strangers make room
	disperse()
	if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, &before, nil); err != nil {
		t.Fatal(err)
	}
	g.alive(pemFile)
	g.submit(pemFile, alice, alice, letter(alice, alice, "recovered", "Hello."))
	held.do("NOOP", "OK")
}

// TestHostileDisk: on a full disk nothing is acknowledged that is not kept, and
// everything goes on when there is room again.
func TestHostileDisk(t *testing.T) {
	g := prepareGateway(t, "")
	data := filepath.Join(g.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", data, "tmpfs", 0, "size=320m,mode=0700"); err != nil {
		t.Fatalf("a small disk: %v (the tests run as root)", err)
	}
	t.Cleanup(func() {
		if g.cmd != nil {
			g.kill()
		}
		if err := unix.Unmount(data, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	g.start()
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	filler := filepath.Join(data, "filler")
	if err := os.WriteFile(filler, make([]byte, 120<<20), 0o600); err != nil {
		t.Fatal(err)
	}

	body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 13000) // 1 MB
	acknowledged := map[string]bool{}
	try := func(i int) (reply string) {
		id := fmt.Sprint("message-", i)
		p := g.smtpOf(pemFile)
		defer p.Close()
		p.send("MAIL FROM:<" + alice + ">\r\n")
		if reply = p.hear("MAIL", ""); reply[0] != '2' {
			return reply
		}
		p.send("RCPT TO:<" + alice + ">\r\n")
		if reply = p.hear("RCPT", ""); reply[0] != '2' {
			return reply
		}
		p.send("DATA\r\n")
		if reply = p.hear("DATA", ""); reply[0] != '3' {
			return reply
		}
		p.send("From: " + alice + "\r\nSubject: " + id + "\r\n\r\n" + body + ".\r\n")
		if reply = p.hear("message", ""); reply[0] == '2' {
			acknowledged[id] = true
		}
		return reply
	}
	reply, n := "2", 0
	for ; n < 400 && reply[0] == '2'; n++ {
		reply = try(n)
	}
	if reply[0] != '4' {
		t.Fatalf("after %d messages: %s", n, reply)
	}
	t.Logf("after %d messages: %s", n, strings.TrimSpace(reply))
	p := g.imapOf(pemFile)
	p.send(fmt.Sprintf("t APPEND INBOX {%d+}\r\n", 4000) + strings.Repeat("x: y\r\n", 666) + "\r\n\r\n" + "\r\n")
	if answer := p.until("t "); strings.HasPrefix(answer, "t OK") {
		t.Logf("a small APPEND still went through: %s", answer)
	}
	g.imapOf(pemFile).do("SELECT INBOX", "OK")
	if !g.keeps(pemFile, acknowledged) {
		t.Error("on the full disk")
	}

	// Not an octet free: the gateway goes on for those who read.
	last := filepath.Join(data, "last")
	if err := os.WriteFile(last, make([]byte, 320<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	for range 20 {
		g.imapOf(pemFile).do("SELECT INBOX", "OK")
		if reply := try(n); reply[0] != '4' {
			t.Errorf("without an octet free: %s", reply)
		}
		n++
	}
	if out, errOut, err := g.try("", binary, "account", "add", bob, "--config", g.config); err == nil {
		t.Errorf("an account was added: %s%s", out, errOut)
	}
	g.alive(pemFile)

	for _, f := range []string{filler, last} {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	reply = "4"
	for deadline := time.Now().Add(patience); reply[0] != '2' && time.Now().Before(deadline); n++ {
		reply = try(n)
	}
	if reply[0] != '2' {
		t.Errorf("with room again: %s", reply)
	}
	g.kill()
	g.start()
	if !g.keeps(pemFile, acknowledged) {
		t.Error("after the restart")
	}
}

// keeps reports whether the INBOX has each acknowledged message once.
func (g *gateway) keeps(pemFile string, acknowledged map[string]bool) bool {
	g.t.Helper()
	seen := map[string]int{}
	for _, s := range g.subjects(pemFile, "INBOX") {
		seen[s]++
	}
	ok := true
	for id := range acknowledged {
		if seen[id] != 1 {
			g.t.Errorf("%s was acknowledged and is there %d times", id, seen[id])
			ok = false
		}
	}
	return ok
}

// TestHostileLog: at no level does the log have a secret or a letter in it, nor
// a character that a terminal obeys.
func TestHostileLog(t *testing.T) {
	g := newGateway(t, "log: {level: debug}\n")
	password := g.account(alice)
	pemFile := g.key(alice, "laptop")
	noPreauth := g.key(alice, "phone", "--no-preauth")
	const secret, body = "correct-horse-battery", "the-body-of-a-letter"
	plain := func(password string) string { return base64Of("\x00" + alice + "\x00" + password) }

	for _, pw := range []string{password, secret} {
		for _, command := range []string{
			"LOGIN " + alice + " " + pw, "LOGIN " + pw, "LOGIN " + pw + " " + pw, "LOGIN " + alice + ` "` + pw, "LOGIN " + alice + " " + pw + " x", pw, pw + " " + pw,
			"AUTHENTICATE PLAIN " + plain(pw), "AUTHENTICATE " + pw, "AUTHENTICATE PLAIN " + pw, "AUTHENTICATE PLAIN " + plain(pw) + "!", `ID ("password" "x" "` + pw + `")`,
		} {
			p := g.imapOf("")
			p.send("t " + command + "\r\nz LOGOUT\r\n")
			_, _ = p.rest()
		}
		p := g.imapOf("")
		p.send("t AUTHENTICATE LOGIN\r\n" + base64Of(alice) + "\r\n" + base64Of(pw) + "\r\nz LOGOUT\r\n")
		_, _ = p.rest()
		for _, command := range []string{"AUTH PLAIN " + plain(pw), "AUTH " + pw, "AUTH PLAIN " + pw, pw, "MAIL FROM:<" + pw + ">", "AUTH LOGIN\r\n" + base64Of(alice) + "\r\n" + base64Of(pw), "HELP " + pw} {
			q := g.smtpOf("")
			q.send(command + "\r\nQUIT\r\n")
			_, _ = q.rest()
		}
		for _, request := range []string{
			"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic " + base64Of(alice+":"+pw) + "\r\nCookie: s=" + pw + "\r\nConnection: close\r\n\r\n",
			"GET /?password=" + pw + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "GET /" + pw + " HTTP/1.1\r\nHost: " + pw + "\r\n" + pw + "\r\n\r\n",
			pw + "\r\n\r\n",
		} {
			h := g.httpOf()
			h.send(request)
			_ = h.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, _ = h.rest()
		}
	}
	for _, first := range []string{"a LOGIN b " + secret + "\r\n", secret + secret, "GET /" + secret + " HTTP/1.1\r\n"} {
		f := g.secure(g.shared, g.tlsConfig("", "h2"))
		f.send(first + strings.Repeat("\r\n", 20))
		_ = f.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, _ = f.rest()
	}
	p := g.secure(g.shared, g.tlsConfig(noPreauth, "imap"))
	p.do("AUTHENTICATE EXTERNAL "+base64Of(alice), "OK")
	p.send("t APPEND INBOX {100+}\r\n" + body + body + "\r\nt SELECT " + body + "\r\nt SEARCH TEXT " + body + "\r\n")
	p.Close()
	g.submit(pemFile, alice, alice, letter(alice, alice, "subject-of-a-letter", body))
	q := g.smtpOf(pemFile)
	q.envelope(alice)
	q.data("From: "+bob+"\r\nSubject: subject-of-a-letter\r\n\r\n"+body+"\r\n", "550")
	q.send("\x1b[2J\x00" + body + "\r\n")
	_, _ = q.rest()
	g.end(syscall.SIGTERM)

	log := g.logged()
	for _, s := range []string{password, secret, base64Of(password), base64Of(secret), plain(password), plain(secret), plain(secret)[4:30],
		base64Of(alice + ":" + secret), secret[:10], body, "subject-of-a-letter", "PRIVATE KEY"} {
		if at := strings.Index(log, s); at >= 0 {
			t.Errorf("%q in the log: %s", s, log[max(0, at-300):min(len(log), at+100)])
		}
	}
	if line := controls(log); line != "" {
		t.Errorf("a control character in the log: %q", line)
	}
	if !strings.Contains(log, `"login_failures"`) {
		t.Error("the log does not speak of failed logins")
	}
}

// TestHostileNeighbours: other users of the machine get to see nothing.
func TestHostileNeighbours(t *testing.T) {
	g := prepareGateway(t, "")
	// Another user than root runs it, who must be able to get there.
	const nobody = 65534
	home, err := os.MkdirTemp("", "posthorn-e2e-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	program := filepath.Join(home, "posthorn")
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(home, "config.yaml")
	settings := fmt.Sprintf(listen, filepath.Join(home, "data"))
	for file, content := range map[string][]byte{program: text, config: []byte(settings)} {
		if err := os.WriteFile(file, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(home, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	g.dir, g.config, g.as = home, config, &syscall.Credential{Uid: nobody, Gid: nobody}
	g.program = program
	syscall.Umask(0)
	defer syscall.Umask(0o022)
	g.start()
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	g.submit(pemFile, alice, alice, letter(alice, alice, "private", "Hello."))
	g.posthorn("backup", filepath.Join(home, "backup"))

	seen := 0
	for _, dir := range []string{filepath.Join(home, "data"), filepath.Join(home, "backup"), pemFile, strings.TrimSuffix(pemFile, "pem") + "key", strings.TrimSuffix(pemFile, "pem") + "p12"} {
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			seen++
			if mode := info.Mode().Perm(); mode&0o077 != 0 || info.IsDir() && mode != 0o700 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if seen < 10 {
		t.Errorf("only %d files", seen)
	}
	// What belongs to root in /proc cannot be traced or dumped (proc(5)).
	info, err := os.Stat(fmt.Sprintf("/proc/%d/environ", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 {
		t.Errorf("the process is dumpable: its files in /proc belong to %d", owner)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", g.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, thread := range threads {
		if status, err := os.ReadFile(thread); err == nil && !strings.Contains(string(status), "NoNewPrivs:\t1\n") {
			t.Errorf("a thread can gain privileges:\n%s", status)
		}
	}
}
