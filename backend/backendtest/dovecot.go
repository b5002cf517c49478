package backendtest

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nobody owns the mail: the user ID that every Linux has for what nobody owns.
const nobody = 65534

// DovecotOptions are what tests want of a Dovecot. The zero value is one
// without users.
type DovecotOptions struct {
	// Users are passwords by user name, as a client sends it.
	Users map[string]string
	// Create makes a user of whoever logs in with a local part of nine of
	// [a-z0-9._-] and a password of nine characters or more.
	Create bool
	// Master and MasterPassword may log in as everybody: in SASL PLAIN with
	// the user as authorization identity, and as user*master.
	Master, MasterPassword string
	Separator              string // instead of *
	// CommonName lets everybody in, with SASL EXTERNAL, whose name stands as
	// CN in the TLS part of a PROXY header.
	CommonName bool
	// Trusted believes the client's address in ID's x-originating-ip.
	Trusted bool
	// MaxConnections of one user from one address; default 10.
	MaxConnections int
	// FailureDelay is how long a wrong password takes; default 0.
	FailureDelay time.Duration
	// Relay is the submission server behind Dovecot's own, which trusts it;
	// host:port. Empty: Dovecot has none.
	Relay string
	// Authority issues the certificate; nil: one is made.
	Authority *Authority
	// More is put at the end of the configuration.
	More string
	// Config returns a whole configuration, in place of the one that is made of
	// the other fields; the server listens on Dovecot.Plain, and logs to
	// Dovecot.LogFile. It is called when the other fields of Dovecot are set.
	Config func(*Dovecot) string
}

// Dovecot is a running Dovecot 2.3. Its capabilities include COMPRESS, QRESYNC,
// NOTIFY, METADATA, QUOTA and XDELTAPUSH, after login.
type Dovecot struct {
	Server

	Plain    string // IMAP, with STARTTLS; host:port
	TLS      string // IMAP over TLS
	Proxy    string // IMAP behind a PROXY header
	ProxyTLS string // IMAP over TLS behind a PROXY header
	Unix     string // IMAP; the path of a socket
	LMTP     string // LMTP
	SASL     string // for other servers to ask Dovecot; the path of a socket

	Submission      string // submission; empty without DovecotOptions.Relay
	SubmissionProxy string // the same behind a PROXY header

	Authority         *Authority // of the certificate for 127.0.0.1 and mail.test
	CertFile, KeyFile string     // PEM

	Dir string // for its files
}

// StartDovecot runs a Dovecot for as long as the test.
func StartDovecot(t testing.TB, o DovecotOptions) *Dovecot {
	t.Helper()
	need(t, "/usr/sbin/dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp", "/usr/lib/dovecot/submission",
		"/usr/lib/dovecot/modules/auth/libauthdb_lua.so")
	if o.Authority == nil {
		o.Authority = NewAuthority(t)
	}
	d := &Dovecot{Dir: Dir(t), Authority: o.Authority}
	d.LogFile = d.file("log")
	_, d.CertFile, d.KeyFile = d.Authority.Issue(t, "mail.test", "127.0.0.1")
	d.Unix, d.SASL = d.file("imap.sock"), d.file("sasl.sock")
	ports := map[string]int{}
	for name, address := range map[string]*string{
		"Plain": &d.Plain, "TLS": &d.TLS, "Proxy": &d.Proxy, "ProxyTLS": &d.ProxyTLS, "LMTP": &d.LMTP,
		"Submission": &d.Submission, "SubmissionProxy": &d.SubmissionProxy,
	} {
		if strings.HasPrefix(name, "Submission") && o.Relay == "" {
			continue
		}
		ports[name] = Port(t)
		*address = loopback(ports[name])
	}
	d.configure(t, o, ports)
	d.run(t, d.Plain, "/usr/sbin/dovecot", "-F", "-c", d.file("dovecot.conf"))
	return d
}

func (d *Dovecot) configure(t testing.TB, o DovecotOptions, ports map[string]int) {
	t.Helper()
	relayHost, relayPort, _ := net.SplitHostPort(o.Relay)
	data := map[string]any{
		"Dir": d.Dir, "Mail": d.mail(), "MailUser": nobody, "Unix": d.Unix, "SASL": d.SASL, "Ports": ports,
		"CertFile": d.CertFile, "KeyFile": d.KeyFile,
		"Create": o.Create, "Master": o.Master, "Separator": cmp.Or(o.Separator, "*"), "CommonName": o.CommonName,
		"Trusted": o.Trusted, "MaxConnections": o.MaxConnections,
		"FailureDelay": fmt.Sprintf("%d msecs", o.FailureDelay.Milliseconds()),
		"Relay":        o.Relay, "RelayHost": relayHost, "RelayPort": relayPort, "More": o.More,
	}
	if o.Config != nil {
		write(t, d.file("dovecot.conf"), o.Config(d))
	} else {
		configure(t, d.file("dovecot.conf"), "dovecot.conf", data)
	}
	configure(t, d.file("create.lua"), "create.lua", data)
	write(t, d.file("masters"), passwords(map[string]string{o.Master: o.MasterPassword}))
	write(t, d.file("users"), passwords(o.Users))
	for _, dir := range []string{d.mail(), d.file("created")} {
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
}

// passwords is the content of a passwd-file.
func passwords(users map[string]string) string {
	var b strings.Builder
	for user, password := range users {
		fmt.Fprintf(&b, "%s:{PLAIN}%s::::::\n", user, password)
	}
	return b.String()
}

func (d *Dovecot) file(path ...string) string {
	return filepath.Join(append([]string{d.Dir}, path...)...)
}

// mail is where the users' homes are.
func (d *Dovecot) mail() string { return d.file("mail") }

// Created reports whether a user has come into being by logging in.
func (d *Dovecot) Created(user string) bool {
	_, err := os.Stat(d.file("created", user))
	return err == nil
}

// Sessions returns how many IMAP sessions there are of clients on an address,
// which is the gateway's own when Dovecot does not hear of others.
func (d *Dovecot) Sessions(address string) int {
	n := 0
	log := d.Log()
	for line := range strings.Lines(log) {
		_, login, ok := strings.Cut(line, "imap-login: Info: Login: ")
		_, id, _ := strings.Cut(login, "session=")
		id = strings.TrimSpace(id)
		if ok && strings.Contains(login, "rip="+address+",") && !ended(log, id) {
			n++
		}
	}
	return n
}

// ended reports whether a session's process has logged its end.
func ended(log, id string) bool {
	return strings.Contains(log, id+": Info: Disconnected: ") || strings.Contains(log, id+": Info: Connection closed")
}

// Deliver puts a message into a user's INBOX, past every server. Its lines end
// in LF.
func (d *Dovecot) Deliver(t testing.TB, user string, message io.Reader) {
	t.Helper()
	box := d.mail()
	for _, name := range []string{user, "Maildir", "new"} {
		box = filepath.Join(box, name)
		if err := os.Mkdir(box, 0o700); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		if err := os.Chown(box, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.CreateTemp(d.mail(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, message); err != nil {
		t.Fatal(err)
	}
	if err := f.Chown(nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.Name(), filepath.Join(box, fmt.Sprintf("%d.backendtest", time.Now().UnixNano()))); err != nil {
		t.Fatal(err)
	}
}
