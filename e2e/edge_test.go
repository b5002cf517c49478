package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthorn/backend/backendtest"
)

// What Dovecot knows its users by, in tests that have one behind the gateway.
const (
	alicePassword  = "down-the-rabbit-hole"
	bobPassword    = "can-we-fix-it?"
	masterPassword = "a master's secret"
)

// part is a backend's server as it stands in the configuration.
type part map[string]any

// with returns the part with more in it.
func (p part) with(more part) part {
	p = maps.Clone(p)
	maps.Copy(p, more)
	return p
}

// edgeOptions are what is special about an edge.
type edgeOptions struct {
	dovecot          backendtest.DovecotOptions
	postfix          backendtest.PostfixOptions
	passwords        string // default backend
	imap, submission part   // in place of what an edge has by default
	more             string // of the configuration
}

// edge is a gateway with a real mail system behind it.
type edge struct {
	*gateway
	d *backendtest.Dovecot
	p *backendtest.Postfix
}

// newEdge starts all three. By default, Dovecot hears of its clients in a PROXY
// header and of those with a key from a master user, and Postfix hears of both
// in XCLIENT. Dovecot has two users, alice and bob.
func newEdge(t testing.TB, o edgeOptions) *edge {
	t.Helper()
	d, p := startMail(t, o)
	imap, submission := o.imap, o.submission
	if imap == nil {
		imap = part{"addresses": []string{d.Proxy}, "login": "master", "master_user": "gateway", "client_address": "proxy"}
	}
	if submission == nil {
		submission = part{"addresses": []string{p.XClient}, "login": "xclient", "client_address": "xclient"}
	}
	return &edge{newGateway(t, behind(t, mailSystem{passwords: o.passwords, imap: imap, submission: submission})+o.more), d, p}
}

// startMail starts a mail system for the domain localhost.
func startMail(t testing.TB, o edgeOptions) (*backendtest.Dovecot, *backendtest.Postfix) {
	t.Helper()
	if o.dovecot.Users == nil && !o.dovecot.Create {
		o.dovecot.Users = map[string]string{alice: alicePassword, bob: bobPassword}
	}
	o.dovecot.Master, o.dovecot.MasterPassword = "gateway", masterPassword
	d := backendtest.StartDovecot(t, o.dovecot)
	o.postfix.Dovecot, o.postfix.Domain = d, "localhost"
	return d, backendtest.StartPostfix(t, o.postfix)
}

// mailSystem is a backend as it stands in the configuration.
type mailSystem struct {
	name             string // default mail
	domains          []string
	passwords        string // default backend
	imap, submission part   // nil: it has none
}

// behind is the configuration of backends, of which the first is everybody's
// whose domain has none.
func behind(t testing.TB, systems ...mailSystem) string {
	t.Helper()
	secret := secretFile(t, masterPassword)
	var all []part
	for _, s := range systems {
		backend := part{"name": cmp.Or(s.name, "mail"), "passwords": cmp.Or(s.passwords, "backend"), "domains": append([]string{}, s.domains...)}
		for name, p := range map[string]part{"imap": s.imap, "submission": s.submission} {
			if p == nil {
				continue
			}
			if p["master_user"] != nil && p["master_password_file"] == nil {
				p = p.with(part{"master_password_file": secret})
			}
			backend[name] = p
		}
		all = append(all, backend)
	}
	// What is JSON is YAML.
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("backends: %s\ndefault_backend: %s\n", text, all[0]["name"])
}

// secretFile makes a file that holds a password.
func secretFile(t testing.TB, password string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// arrives waits until a message with a subject is in a user's INBOX, as the
// user sees it in Dovecot.
func (e *edge) arrives(user, subject string) {
	e.t.Helper()
	passwords := map[string]string{alice: alicePassword, bob: bobPassword}
	eventually(e.t, fmt.Sprintf("%q has arrived at %s", subject, user), func() bool {
		p := newPeer(e.t, e.connect(e.d.Plain))
		p.until("* OK")
		p.do("LOGIN "+user+" "+fmt.Sprintf("%q", passwords[user]), "OK")
		p.do("SELECT INBOX", "OK")
		found := p.do(fmt.Sprintf("SEARCH SUBJECT %q", subject), "OK")
		p.Close()
		return strings.HasPrefix(found, "* SEARCH ")
	})
}
