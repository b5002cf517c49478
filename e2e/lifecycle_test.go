package e2e

import (
	"bufio"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// talker is a line-based conversation over TLS.
type talker struct {
	t testing.TB
	*tls.Conn
	r *bufio.Reader
}

func (g *gateway) talk(pemFile, protocol string) *talker {
	g.t.Helper()
	c := g.dial(pemFile, protocol)
	return &talker{g.t, c, bufio.NewReader(c)}
}

func (k *talker) line() string {
	k.t.Helper()
	s, err := k.r.ReadString('\n')
	if err != nil {
		k.t.Fatalf("after %q: %v", s, err)
	}
	return strings.TrimRight(s, "\r\n")
}

// until reads lines up to one that begins with prefix, and returns it.
func (k *talker) until(prefix string) string {
	k.t.Helper()
	for {
		if s := k.line(); strings.HasPrefix(s, prefix) {
			return s
		}
	}
}

func (k *talker) say(line string) {
	k.t.Helper()
	if _, err := k.Write([]byte(line + "\r\n")); err != nil {
		k.t.Fatal(err)
	}
}

// ended waits for the end of the connection, and returns what came before it.
func (k *talker) ended() string {
	k.t.Helper()
	var all strings.Builder
	if _, err := k.r.WriteTo(&all); err != nil {
		k.t.Errorf("no clean end of the connection: %v", err)
	}
	return all.String()
}

// TestDrain: SIGTERM says goodbye in each protocol's words, and the gateway
// ends with 0.
func TestDrain(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")

	idle, fresh, submission := g.talk(pemFile, "imap"), g.talk("", "imap"), g.talk(pemFile, "smtp")
	idle.until("* PREAUTH")
	idle.say("a SELECT INBOX")
	idle.until("a OK")
	idle.say("b IDLE")
	idle.until("+")
	fresh.until("* OK")
	submission.until("220")

	code := g.end(syscall.SIGTERM)
	if code != 0 {
		t.Errorf("serve ended with %d", code)
	}
	for name, k := range map[string]*talker{"in IDLE": idle, "before login": fresh} {
		if out := k.ended(); !strings.HasPrefix(out, "* BYE") {
			t.Errorf("%s: %q", name, out)
		}
	}
	if out := submission.ended(); !strings.HasPrefix(out, "421") {
		t.Errorf("submission: %q", out)
	}

	before, err := os.ReadFile(g.ca)
	if err != nil {
		t.Fatal(err)
	}
	g.start()
	if after, _ := os.ReadFile(g.ca); string(after) != string(before) {
		t.Error("the certificate changed over a restart")
	}
}

// TestRevocation: whatever takes away a key's right ends its live sessions soon
// and refuses it afterwards, resumed sessions included.
func TestRevocation(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	for name, revoke := range map[string]func(fingerprint string) (at time.Time){
		"remove":  func(f string) time.Time { g.posthorn("key", "remove", f); return time.Now() },
		"descope": func(f string) time.Time { g.posthorn("key", "set", f, "--scope", "https"); return time.Now() },
		"disable": func(string) time.Time { g.posthorn("account", "disable", alice); return time.Now() },
		"expire": func(f string) time.Time {
			at := time.Now().Add(4 * time.Second) // a time that is past when the command comes to it is refused
			g.posthorn("key", "set", f, "--expires", at.Format(time.RFC3339Nano))
			return at
		},
	} {
		t.Run(name, func(t *testing.T) {
			pemFile := g.key(alice, name, "--name", name)
			fingerprint := g.fingerprint(alice, name)
			config := g.tlsConfig(pemFile, "imap")
			config.ClientSessionCache = tls.NewLRUClientSessionCache(4)

			imap := &talker{t: t, Conn: g.dialWith(config)}
			imap.r = bufio.NewReader(imap.Conn)
			imap.until("* PREAUTH")
			imap.say("a IDLE")
			imap.until("+")
			submission := g.talk(pemFile, "smtp")
			submission.until("220")
			submission.say("EHLO test")
			submission.until("250 ")

			deadline := revoke(fingerprint).Add(time.Second + slack)
			for _, k := range []*talker{imap, submission} {
				if err := k.SetReadDeadline(deadline.Add(time.Second)); err != nil {
					t.Fatal(err)
				}
				k.ended()
			}
			if late := time.Since(deadline); late > 0 {
				t.Errorf("the sessions ended %v late", late)
			}

			again := &talker{t: t, Conn: g.dialWith(config)}
			again.r = bufio.NewReader(again.Conn)
			if !again.ConnectionState().DidResume {
				t.Error("the session was not resumed")
			}
			greeting := again.line()
			if !strings.HasPrefix(greeting, "* OK") || strings.Contains(greeting, "EXTERNAL") {
				t.Errorf("greeted with %q", greeting)
			}
			again.say("a AUTHENTICATE EXTERNAL =")
			if answer := again.line(); !strings.HasPrefix(answer, "a NO") {
				t.Errorf("EXTERNAL was answered %q", answer)
			}
			if name == "disable" {
				g.posthorn("account", "enable", alice)
			}
		})
	}
}

func (g *gateway) dialWith(config *tls.Config) *tls.Conn {
	g.t.Helper()
	c, err := tls.Dial("tcp", g.shared, config)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		g.t.Fatal(err)
	}
	return c
}

// fingerprint returns the fingerprint of an account's key with a name.
func (g *gateway) fingerprint(address, name string) string {
	g.t.Helper()
	for line := range strings.Lines(g.posthorn("key", "list", address)) {
		if strings.Contains(line, name) {
			for _, field := range strings.Fields(line) {
				if strings.HasPrefix(field, "SHA256:") {
					return field
				}
			}
		}
	}
	g.t.Fatalf("no key %q", name)
	return ""
}

// TestBackup: a backup made while the gateway serves brings everything back
// in an empty place, and only there.
func TestBackup(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	g.submit(pemFile, alice, alice, letter(alice, alice, "kept", "Hello."))
	file := filepath.Join(g.dir, "backup")
	g.posthorn("backup", file)

	if _, errOut, err := g.try("", binary, "restore", file, "--config", g.config); err == nil || !strings.Contains(errOut, "error:") {
		t.Errorf("restore beside a running gateway: %v %s", err, errOut)
	}
	g.end(syscall.SIGTERM)
	if _, errOut, err := g.try("", binary, "restore", file, "--config", g.config); err == nil || !strings.Contains(errOut, "error:") {
		t.Errorf("restore over what is there: %v %s", err, errOut)
	}
	if err := os.RemoveAll(filepath.Join(g.dir, "data")); err != nil {
		t.Fatal(err)
	}
	g.posthorn("restore", file)
	g.start()
	if got := g.subjects(pemFile, "INBOX"); len(got) != 1 || got[0] != "kept" {
		t.Errorf("after the restore the INBOX has %q", got)
	}
}
