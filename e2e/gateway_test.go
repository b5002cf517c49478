// Package e2e runs the built posthorn binary and talks to it with the programs
// that its users have: openssl, curl, mbsync, msmtp, mutt, s-nail, Python's
// libraries and Delta Chat.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binary is the posthorn that the tests run, built once from this tree.
var binary string

func TestMain(m *testing.M) {
	// A result is not to be taken from the cache when the program has changed,
	// of which go test knows only that its files were looked at.
	err := filepath.Walk("..", func(path string, info os.FileInfo, err error) error {
		if err == nil && info.IsDir() && strings.HasPrefix(info.Name(), ".") && path != ".." {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "posthorn-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "posthorn")
	build := exec.Command("go", "build", "-o", binary, "posthorn/cmd/gateway")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building posthorn:", err)
		os.Exit(1)
	}
	// Tests that are parallel wait more than they compute.
	if err := flag.Set("test.parallel", "32"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// gateway is a running posthorn with a configuration and a data directory of
// its own.
type gateway struct {
	t      testing.TB
	dir    string
	config string
	cmd    *exec.Cmd
	log    *os.File

	program string              // what to run; default binary
	as      *syscall.Credential // who runs it; nil: who runs the tests

	name string // its server name; default localhost

	shared, imaps, submissions string // host:port, once started
	imap, submission           string // of the ports that begin in cleartext
	ca                         string // PEM file with the server's self-signed certificate
}

const listen = `
data_dir: %s
listen:
  shared: ["127.0.0.1:0"]
  imaps: ["127.0.0.1:0"]
  submissions: ["127.0.0.1:0"]
  imap_starttls: ["127.0.0.1:0"]
  submission_starttls: ["127.0.0.1:0"]
`

// newGateway starts a gateway on free ports; more is added to its config.
func newGateway(t testing.TB, more string) *gateway {
	t.Helper()
	g := prepareGateway(t, more)
	g.start()
	return g
}

// prepareGateway makes a gateway that has yet to be started.
func prepareGateway(t testing.TB, more string) *gateway {
	t.Helper()
	return gatewayIn(t, t.TempDir(), func(data string) string { return fmt.Sprintf(listen, data) + more })
}

// gatewayIn makes a gateway that has yet to be started, whose whole
// configuration is told where its data is.
func gatewayIn(t testing.TB, dir string, config func(data string) string) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: dir, config: filepath.Join(dir, "config.yaml"), name: "localhost"}
	if err := os.WriteFile(g.config, []byte(config(filepath.Join(dir, "data"))), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if g.cmd != nil {
			g.kill()
		}
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("the gateway's log:\n%s", tail(text, 8000))
		}
	})
	return g
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return b
}

// start runs serve, waits until it is ready, and fetches its certificate.
func (g *gateway) start() {
	g.t.Helper()
	g.launch()
	g.ca = filepath.Join(g.dir, "server.pem")
	if err := os.WriteFile(g.ca, g.certificate(), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// launch runs serve and waits until it is ready.
func (g *gateway) launch() {
	g.t.Helper()
	var err error
	if g.log, err = os.OpenFile(filepath.Join(g.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.cmd = exec.Command(cmp.Or(g.program, binary), "serve", "--config", g.config)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: g.as}
	g.cmd.Dir = g.dir
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	var status struct {
		Listeners []struct {
			Name    string `json:"name"`
			Address string `json:"address"`
		} `json:"listeners"`
	}
	if err := json.Unmarshal([]byte(g.posthorn("status", "--json", "--wait", "20s")), &status); err != nil {
		g.t.Fatal(err)
	}
	for _, l := range status.Listeners {
		switch l.Name {
		case "shared":
			g.shared = l.Address
		case "imaps":
			g.imaps = l.Address
		case "submissions":
			g.submissions = l.Address
		case "imap":
			g.imap = l.Address
		case "submission":
			g.submission = l.Address
		}
	}
	if g.shared == "" {
		g.t.Fatalf("status lists %v", status.Listeners)
	}
}

// certificate fetches the certificate that the gateway shows, as a newcomer
// does who compares its fingerprint with what serve printed.
func (g *gateway) certificate() []byte {
	g.t.Helper()
	c, err := tls.Dial("tcp", g.shared, &tls.Config{ServerName: g.name, InsecureSkipVerify: true, NextProtos: []string{"imap"}})
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	leaf := c.ConnectionState().PeerCertificates[0]
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
}

// kill ends the gateway without giving it time for anything.
func (g *gateway) kill() { g.end(syscall.SIGKILL) }

// end signals the gateway, waits for it, and returns its exit code.
func (g *gateway) end(s syscall.Signal) int {
	g.t.Helper()
	_ = g.cmd.Process.Signal(s)
	err := g.cmd.Wait()
	code := g.cmd.ProcessState.ExitCode()
	g.cmd = nil
	g.log.Close()
	if err != nil && s == syscall.SIGTERM {
		g.t.Errorf("serve ended with %v after SIGTERM", err)
	}
	return code
}

// posthorn runs a subcommand and returns its standard output.
func (g *gateway) posthorn(args ...string) string { return g.posthornIn("", args...) }

func (g *gateway) posthornIn(stdin string, args ...string) string {
	g.t.Helper()
	return g.run(stdin, binary, append(args, "--config", g.config)...)
}

// run runs a program to its end, at most a minute, and returns its standard
// output. Exit codes other than 0 fail the test.
func (g *gateway) run(stdin, name string, args ...string) string {
	g.t.Helper()
	out, errOut, err := g.try(stdin, name, args...)
	if err != nil {
		g.t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, errOut)
	}
	return out
}

func (g *gateway) try(stdin, name string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), "HOME="+g.dir, "TERM=xterm", "LC_ALL=C.UTF-8")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// account adds an account and returns its generated password.
func (g *gateway) account(address string) (password string) {
	g.t.Helper()
	var added struct {
		Password string `json:"password"`
	}
	if err := json.Unmarshal([]byte(g.posthorn("account", "add", address, "--json")), &added); err != nil {
		g.t.Fatal(err)
	}
	return added.Password
}

// key makes a key for an account, registers it, and returns the PEM file that
// holds key and certificate.
func (g *gateway) key(address, name string, flags ...string) string {
	g.t.Helper()
	base := filepath.Join(g.dir, name)
	g.posthorn("key", "gen", "--for", address, "--out", base)
	pemFile := base + ".pem"
	text, err := os.ReadFile(pemFile)
	if err != nil {
		g.t.Fatal(err)
	}
	g.posthornIn(string(text), append([]string{"key", "add", address}, flags...)...)
	return pemFile
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// tlsConfig trusts the gateway's certificate and shows the key in pemFile, if
// there is one.
func (g *gateway) tlsConfig(pemFile string, protocols ...string) *tls.Config {
	g.t.Helper()
	text, err := os.ReadFile(g.ca)
	if err != nil {
		g.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	config := &tls.Config{ServerName: g.name, RootCAs: roots, NextProtos: protocols}
	if pemFile != "" {
		pair, err := tls.LoadX509KeyPair(pemFile, pemFile)
		if err != nil {
			g.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// dial connects to the shared port with one ALPN protocol.
func (g *gateway) dial(pemFile, protocol string) *tls.Conn {
	g.t.Helper()
	c, err := tls.Dial("tcp", g.shared, g.tlsConfig(pemFile, protocol))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		g.t.Fatal(err)
	}
	return c
}

// submit sends a message with go-smtp's client, as an account whose key is in
// pemFile.
func (g *gateway) submit(pemFile, from, to, message string) {
	g.t.Helper()
	c := smtpClient(g.dial(pemFile, "smtp"))
	defer c.Close()
	if err := c.SendMail(from, []string{to}, strings.NewReader(message)); err != nil {
		g.t.Fatal(err)
	}
}

func letter(from, to, subject, body string) string {
	return fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\n\r\n%s\r\n", from, to, subject, body)
}

// subjects returns the subjects in a mailbox of the account whose key is in
// pemFile, in order.
func (g *gateway) subjects(pemFile, mailbox string) []string {
	g.t.Helper()
	c := imapClient(g.dial(pemFile, "imap"))
	defer c.Close()
	return fetchSubjects(g.t, c, mailbox)
}
