package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"posthorn/client/clienttest"
)

// tunnelTo runs "posthorn tunnel" to a gateway, as alice, in a network of rules.
type tunnelTo struct {
	*gateway
	imap, submission string // host:port
	sockets          string // directory with imap and submission
	password         string // the local one
	pemFile          string // alice's
	net              *clienttest.Network

	process *exec.Cmd
	mu      sync.Mutex
	said    bytes.Buffer // guarded by mu: standard error
}

// String is what the tunnel has said.
func (u *tunnelTo) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.said.String()
}

func (u *tunnelTo) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.said.Write(b)
}

func startTunnel(t *testing.T, g *gateway, rules clienttest.Rules, flags ...string) *tunnelTo {
	t.Helper()
	n := clienttest.New(t, clienttest.Gateway{443: g.shared, 993: g.imaps, 465: g.submissions}, rules)
	u := &tunnelTo{gateway: g, net: n, sockets: t.TempDir(), pemFile: filepath.Join(g.dir, "tunnel.pem")}
	if _, err := os.Stat(u.pemFile); err != nil {
		g.key(alice, "tunnel")
	}
	args := append([]string{"tunnel", "localhost", "--address", "127.0.0.1", "--identity", u.pemFile, "--ca", g.ca,
		"--port", port(n.Listen(443)), "--imaps-port", port(n.Listen(993)), "--submissions-port", port(n.Listen(465)),
		"--memory", "none", "--proxy", "none", "--state", filepath.Join(u.sockets, "state"),
		"--imap", "localhost:0," + u.sockets + "/imap", "--submission", "localhost:0," + u.sockets + "/submission"}, flags...)
	u.process = exec.Command(binary, args...)
	u.process.Env = append(os.Environ(), "JOURNAL_STREAM=")
	u.process.Stderr = u
	out, err := u.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := u.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if u.process.ProcessState == nil {
			_ = u.process.Process.Kill()
			_ = u.process.Wait()
		}
		if t.Failed() {
			t.Logf("the tunnel says:\n%s", u)
		}
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	if _, u.password, _ = strings.Cut(strings.TrimSpace(line), ": "); u.password == "" {
		t.Fatalf("no password: %q", line)
	}
	eventually(t, "it listens", func() bool { return strings.Count(u.String(), "listening on") >= 4 })
	for line := range strings.Lines(u.String()) {
		protocol, address, _ := strings.Cut(strings.TrimSpace(line), ": listening on ")
		switch {
		case strings.HasPrefix(address, "127.") && protocol == "imap":
			u.imap = address
		case strings.HasPrefix(address, "127.") && protocol == "smtp":
			u.submission = address
		}
	}
	return u
}

// TestTunnel: msmtp, mutt and mbsync, which are told nothing but localhost and a
// password, send and read in each network.
func TestTunnel(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	g.key(alice, "tunnel")
	reset := func(protocols ...string) map[string]clienttest.Verdict {
		m := make(map[string]clienttest.Verdict)
		for _, p := range protocols {
			m[p] = clienttest.Reset
		}
		return m
	}
	closed := map[uint16]clienttest.Verdict{993: clienttest.BlackHole, 465: clienttest.BlackHole}
	for name, rules := range map[string]clienttest.Rules{
		"open":          {},
		"443 alone":     {Ports: closed},
		"the web alone": {Ports: closed, ALPN: reset("imap", "smtp"), NoALPN: clienttest.Reset},
		"no mail ALPN":  {ALPN: reset("imap", "smtp")},
	} {
		t.Run(name, func(t *testing.T) {
			u := startTunnel(t, g, rules)
			subject := strings.ReplaceAll(name, " ", "-")
			u.msmtp(t, subject+"-msmtp")
			u.mutt(t, subject+"-mutt")
			u.mbsync(t, subject+"-msmtp", subject+"-mutt")
			for _, seen := range u.net.Seen() {
				if !seen.TLS && seen.Port != 993 && seen.Port != 465 {
					t.Errorf("something left this machine without TLS: %+v", seen)
				}
			}
			log, _ := os.ReadFile(filepath.Join(g.dir, "log"))
			if strings.Contains(string(log)+u.String(), u.password) {
				t.Error("the local password is in a log")
			}
			if err := u.process.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := u.process.Wait(); err != nil {
				t.Errorf("after SIGTERM: %v", err)
			}
		})
	}
}

func (u *tunnelTo) msmtp(t *testing.T, subject string) {
	t.Helper()
	rc := filepath.Join(u.sockets, "msmtprc")
	text := "account default\nhost 127.0.0.1\nport " + port(u.submission) + "\ntls off\nauth plain\nuser alice\npassword " + u.password + "\nfrom " + alice + "\n"
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mail := strings.ReplaceAll(letter(alice, alice, subject, "Hello."), "\r\n", "\n")
	u.run(mail, "msmtp", "-C", rc, alice)
	bad := strings.Replace(text, u.password, "wrong", 1)
	if err := os.WriteFile(rc, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errOut, err := u.try(mail, "msmtp", "-C", rc, alice); exitCode(err) != 77 { // EX_NOPERM
		t.Errorf("msmtp with a wrong password: %v %s", err, errOut)
	}
}

func (u *tunnelTo) mutt(t *testing.T, subject string) {
	t.Helper()
	text := `
set ssl_starttls=no ssl_force_tls=no imap_user="alice" imap_pass="` + u.password + `" smtp_pass="` + u.password + `"
set from="` + alice + `" realname="Alice" use_from=yes envelope_from_address="` + alice + `" use_envelope_from=yes
set smtp_url="smtp://alice@127.0.0.1:` + port(u.submission) + `/"
set folder="` + u.sockets + `" record="" header_cache="" sleep_time=0 wait_key=no quit=yes
`
	rc, saved := filepath.Join(u.sockets, "muttrc"), filepath.Join(u.sockets, "saved")
	write := func(text string) {
		if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	u.run("Sent in "+subject+".\n", "mutt", "-n", "-F", rc, "-s", subject, "--", alice)
	// mutt wants a terminal to read in; script(1) is one.
	write(text + `push "<last-entry><display-message><exit><pipe-message>cat>` + saved + `<enter><quit>"` + "\n")
	out := u.run("", "script", "-qec", "mutt -n -F "+rc+" -f imap://127.0.0.1:"+port(u.imap)+"/INBOX", "/dev/null")
	if mail, err := os.ReadFile(saved); err != nil || !strings.Contains(string(mail), "Sent in "+subject+".") {
		t.Errorf("mutt saved %q (%v); its screen:\n%q", mail, err, out)
	}
}

// mbsync brings what there is, over TCP with the password, and over the Unix socket
// without.
func (u *tunnelTo) mbsync(t *testing.T, subjects ...string) {
	t.Helper()
	for name, login := range map[string]string{
		"tcp":  "Host 127.0.0.1\nPort " + port(u.imap) + "\nSSLType None\nAuthMechs LOGIN\nUser alice\nPass " + u.password + "\n",
		"unix": "Tunnel \"python3 " + u.pipe(t) + " " + u.sockets + "/imap\"\n",
	} {
		maildir := filepath.Join(u.sockets, name) + "/"
		if err := os.Mkdir(maildir, 0o700); err != nil {
			t.Fatal(err)
		}
		rc := filepath.Join(u.sockets, name+".rc")
		text := "IMAPAccount a\n" + login + "\nIMAPStore far\nAccount a\n\nMaildirStore near\nPath " + maildir + "\nInbox " + maildir + "INBOX\n" +
			"\nChannel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSyncState *\n"
		if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		u.run("", "mbsync", "-c", rc, "c")
		files, _ := filepath.Glob(maildir + "INBOX/*/*")
		var all strings.Builder
		for _, file := range files {
			mail, _ := os.ReadFile(file)
			all.Write(mail)
		}
		for _, subject := range subjects {
			if !strings.Contains(all.String(), "Subject: "+subject+"\n") {
				t.Errorf("%s: mbsync has not brought %q", name, subject)
			}
		}
	}
}

// pipe is a program that joins its input and output with a Unix socket, as socat
// does.
func (u *tunnelTo) pipe(t *testing.T) string {
	t.Helper()
	const text = `import os, socket, sys, threading
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
def up():
    while b := os.read(0, 65536): s.sendall(b)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while b := s.recv(65536): os.write(1, b)
`
	file := filepath.Join(u.sockets, "pipe.py")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestTunnelOutlives: the gateway is killed and comes back, the network changes its
// mind, and a program that reads on gets through each time.
func TestTunnelOutlives(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	u := startTunnel(t, g, clienttest.Rules{Ports: map[uint16]clienttest.Verdict{993: clienttest.Reset, 465: clienttest.Reset}})
	eventually(t, "a route", func() bool { return strings.Contains(u.String(), "imap: by alpn ") })
	in, _ := u.open(t)
	address := g.shared
	g.kill()
	if rest, _ := io.ReadAll(in); !strings.Contains(string(rest), "* BYE ") {
		t.Errorf("when the gateway is killed: %q", rest)
	}
	if got := u.login(t); !strings.HasPrefix(got, "a NO [UNAVAILABLE]") {
		t.Errorf("without a gateway: %q", got)
	}
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	fixed := strings.Replace(string(text), `shared: ["127.0.0.1:0"]`, fmt.Sprintf("shared: [%q]", address), 1)
	if err := os.WriteFile(g.config, []byte(fixed), 0o600); err != nil {
		t.Fatal(err)
	}
	g.launch()
	if got := u.login(t); !strings.HasPrefix(got, "a OK [CAPABILITY ") {
		t.Errorf("with the gateway back: %q", got)
	}
	u.net.SetRules(clienttest.Rules{ALPN: map[string]clienttest.Verdict{"imap": clienttest.Reset, "smtp": clienttest.Reset}, NoALPN: clienttest.Reset})
	if got := u.login(t); !strings.HasPrefix(got, "a OK [CAPABILITY ") {
		t.Errorf("with the web alone: %q", got)
	}
	for _, status := range []string{"\nimap: no route (", "\nimap: by web "} {
		eventually(t, "its status says "+status, func() bool { return strings.Contains(u.String(), status) })
	}
}

// open is a program that logs in, and what it is told.
func (u *tunnelTo) open(t *testing.T) (net.Conn, string) {
	t.Helper()
	nc, err := net.Dial("tcp", u.imap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(40 * time.Second))
	fmt.Fprintf(nc, "a LOGIN alice %s\r\n", u.password)
	in := bufio.NewScanner(nc)
	for in.Scan() {
		if strings.HasPrefix(in.Text(), "a ") {
			return nc, in.Text()
		}
	}
	return nc, "nothing"
}

// login logs in and returns the answer.
func (u *tunnelTo) login(t *testing.T) string {
	t.Helper()
	nc, answer := u.open(t)
	nc.Close()
	return answer
}
