package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"posthorn/accounts"
	"posthorn/admin"
)

// welcome prints where the gateway listens, what to check its certificate by,
// and, as long as there are no accounts, what to type next.
func (g *gateway) welcome(ctx context.Context) {
	w := g.cli.stdout
	fmt.Fprintf(w, "Posthorn %s is listening:\n", version())
	listening(g.admin.Instance.Listeners).write(w)
	if cert := g.admin.Certificate(); cert != nil {
		fmt.Fprintf(w, "\nIts certificate for %s has the SHA-256 fingerprint\n  %s\nand the public key\n  %s\n",
			strings.Join(cert.Names, ", "), cert.SHA256, cert.Fingerprint)
	} else {
		fmt.Fprintf(w, "\nThere is no certificate for %s yet: the CA is asked for it now. See how it goes with:\n  %s cert list\n",
			g.cfg.hostname(), g.cli.invocation())
	}
	for range g.accounts.List(ctx) {
		return
	}
	g.firstSteps(w)
}

// purposes say what each kind of socket is for.
var purposes = map[string]string{
	"shared":      "IMAP, submission and HTTPS, told apart by ALPN, server name or first bytes",
	"imaps":       "IMAP over TLS",
	"submissions": "submission over TLS",
	"imap":        "IMAP with STARTTLS",
	"submission":  "submission with STARTTLS",
	httpName:      "HTTP without TLS: a CA's challenges, and redirections to HTTPS",
	metricsName:   "metrics, without TLS",
	adminName:     "administration",
}

func listening(all []admin.Listener) table {
	var t table
	for _, l := range byName(all) {
		t.row(" ", l.Address, purposes[l.Name])
	}
	return t
}

// firstSteps prints commands that work when they are pasted.
func (g *gateway) firstSteps(w io.Writer) {
	me, address := g.cli.invocation(), "alice@"+g.cfg.Domains[0]
	home := g.backends.Of(&accounts.Account{Addresses: []string{address}})
	note := ""
	if home.KeepsPasswords {
		note = fmt.Sprintf("Accounts with a password at backend %s are also created by the first login with it.\n", home.Backend)
	}
	fmt.Fprintf(w, `
There are no accounts yet. In another terminal, in this directory, create one, and a
key that logs in to it:
  %[1]s account add %[2]s
  %[1]s key gen --for %[2]s --out alice
  %[1]s key add %[2]s < alice.pem
%[3]s`, me, quote(address), note)
	for _, s := range g.sockets.mail {
		if s.name == "shared" {
			fmt.Fprintf(w, "Then be greeted by name:\n  openssl s_client -quiet -crlf -connect %s -servername %s -alpn imap -cert alice.crt -key alice.key\n",
				dialable(s.Addr()), g.cfg.hostname())
			return
		}
	}
}

// dialable returns an address that a client on this machine can connect to.
func dialable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
	}
	return a.String()
}
