package backendtest

import (
	"cmp"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"posthorn/await"
)

// Domain is the one that Postfix takes mail for.
const Domain = "example.org"

// PostfixOptions are what tests want of a Postfix.
type PostfixOptions struct {
	// Dovecot checks passwords and gets the mail. Nil: nobody can log in with
	// one, and mail is discarded.
	Dovecot *Dovecot
	// MaxSize of a message in octets; default 30 MiB.
	MaxSize int
	// Domain that it takes mail for; default Domain.
	Domain string
	// Authority issues the certificate; nil: Dovecot's, or one that is made.
	Authority *Authority
	// More is put at the end of main.cf.
	More string
	// Config returns whole files in place of those that are made of the other
	// fields; the server listens on Postfix.Plain, and logs to Postfix.LogFile.
	// It is called when the other fields of Postfix are set.
	Config func(*Postfix) (main, master string)
	// Before is called when there is a queue, and Postfix does not run yet: to
	// start servers whose sockets are in the queue's directory.
	Before func(*Postfix)
}

// Postfix is a running Postfix that takes submissions for a domain, and no other
// mail. Whoever has logged in as an address sends as that address alone (553
// 5.7.1 otherwise). It refuses recipients on demand:
// refuse-450-4.7.1@example.org with that reply to RCPT, and
// data-523-5.7.10@example.org, if it is the only one, at the end of the message.
type Postfix struct {
	Server

	Plain   string // with STARTTLS; host:port
	TLS     string // over TLS
	XClient string // takes XCLIENT from the loopback network
	Proxy   string // behind a PROXY header
	Trusted string // takes mail from the loopback network without login, from any sender

	Authority         *Authority // of the certificate for 127.0.0.1 and mail.test
	CertFile, KeyFile string     // PEM

	Dir string // for its files: the queue in queue/, what daemons keep in data/
}

// StartPostfix runs a Postfix for as long as the test.
func StartPostfix(t testing.TB, o PostfixOptions) *Postfix {
	t.Helper()
	const master = "/usr/lib/postfix/sbin/master"
	need(t, "/usr/sbin/postfix", master)
	switch {
	case o.Authority != nil:
	case o.Dovecot != nil:
		o.Authority = o.Dovecot.Authority
	default:
		o.Authority = NewAuthority(t)
	}
	p := &Postfix{Dir: Dir(t), Authority: o.Authority}
	p.LogFile = p.file("log")
	_, p.CertFile, p.KeyFile = p.Authority.Issue(t, "mail.test", "127.0.0.1")
	ports := map[string]int{}
	for name, address := range map[string]*string{
		"Plain": &p.Plain, "TLS": &p.TLS, "XClient": &p.XClient, "Proxy": &p.Proxy, "Trusted": &p.Trusted,
	} {
		ports[name] = Port(t)
		*address = loopback(ports[name])
	}
	p.configure(t, o, ports)
	if o.Before != nil {
		o.Before(p)
	}
	p.run(t, p.Plain, master, "-d", "-c", p.file("config"))
	return p
}

func (p *Postfix) file(path ...string) string {
	return filepath.Join(append([]string{p.Dir}, path...)...)
}

func (p *Postfix) configure(t testing.TB, o PostfixOptions, ports map[string]int) {
	t.Helper()
	data := map[string]any{
		"Dir": p.Dir, "Ports": ports, "CertFile": p.CertFile, "KeyFile": p.KeyFile,
		"Domain": cmp.Or(o.Domain, Domain), "MaxSize": o.MaxSize, "More": o.More, "SASL": "none", "LMTP": "",
	}
	if o.Dovecot != nil {
		data["SASL"], data["LMTP"] = o.Dovecot.SASL, o.Dovecot.LMTP
	}
	if o.Config != nil {
		main, master := o.Config(p)
		write(t, p.file("config", "main.cf"), main)
		write(t, p.file("config", "master.cf"), master)
	} else {
		configure(t, p.file("config", "main.cf"), "main.cf", data)
		configure(t, p.file("config", "master.cf"), "master.cf", data)
	}
	write(t, p.file("senders"), "/^(.+)$/ $1\n")
	write(t, p.file("recipients"), "/^refuse-([45][0-9][0-9])-([0-9.]+)@/ $1 $2 as asked for\n")
	write(t, p.file("messages"), "/^data-([45][0-9][0-9])-([0-9.]+)@/ $1 $2 as asked for\n")
	for _, dir := range []string{"queue", "data"} {
		if err := os.Mkdir(p.file(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	if err := os.Chown(p.file("data"), uid, -1); err != nil {
		t.Fatal(err)
	}
	// It makes the directories of the queue.
	if out, err := exec.Command("/usr/sbin/postfix", "-c", p.file("config"), "check").CombinedOutput(); err != nil {
		t.Fatalf("postfix check: %v\n%s", err, out)
	}
}

// Settle waits until Postfix has handed on, or given up, all mail that it has
// taken.
func (p *Postfix) Settle(t testing.TB) {
	t.Helper()
	await.Until(t, "the queue is empty", func() bool {
		queued := 0
		for _, dir := range []string{"incoming", "active", "deferred"} {
			_ = filepath.WalkDir(p.file("queue", dir), func(_ string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					queued++
				}
				return nil // what has gone meanwhile is no error
			})
		}
		return queued == 0
	})
}
