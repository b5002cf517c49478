package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"posthorn/backend/backendtest"
)

// loginWay is a way to log in behind without the user's password.
type loginWay struct {
	name             string
	imap, submission part // nil: not for this one
}

// loginWays lists all, and among them every kind of transport. Dovecot's own
// submission server is d2's.
func loginWays(t *testing.T, d, d2 *backendtest.Dovecot, p *backendtest.Postfix) []loginWay {
	at := func(a string) part { return part{"addresses": []string{a}} }
	master := part{"login": "master", "master_user": "gateway"}
	separated := part{"login": "master-separator", "master_user": "gateway"}
	commonName := part{"login": "proxy-cn", "client_address": "proxy"}
	return []loginWay{
		{"master", at(d.Plain).with(master), at(p.Plain).with(master)},
		{"master over PROXY", at(d.Proxy).with(master).with(part{"client_address": "proxy"}),
			at(p.Proxy).with(master).with(part{"client_address": "proxy"})},
		{"master over a unix socket", at("unix:" + d.Unix).with(master), nil},
		{"separator over TLS", at(d.TLS).with(separated).with(part{"tls": "implicit", "ca": d.Authority.File}),
			at(p.TLS).with(separated).with(part{"tls": "implicit", "ca": p.Authority.File, "server_name": "mail.test"})},
		{"separator over STARTTLS", at(d.Plain).with(separated).with(part{"tls": "starttls", "pins": []string{pin(t, d.CertFile)}, "client_address": "id"}),
			at(p.Plain).with(separated).with(part{"tls": "starttls", "pins": []string{pin(t, p.CertFile)}})},
		{"common name", at(d.Proxy).with(commonName), at(d2.SubmissionProxy).with(commonName)},
		{"master over PROXY and TLS", at(d.ProxyTLS).with(master).with(part{"client_address": "proxy", "tls": "implicit", "ca": d.Authority.File}), nil},
		{"XCLIENT", nil, at(p.XClient).with(part{"login": "xclient", "client_address": "xclient"})},
		{"trusted", nil, at(p.Trusted).with(part{"login": "trusted"})},
	}
}

// pin is the fingerprint of the public key of the certificate in a PEM file.
func pin(t *testing.T, certFile string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certFile, strings.Replace(certFile, "cert.pem", "key.pem", 1))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return "SHA256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// TestEdgeLogins: every way to log in behind, by key and by password, wherever
// the passwords are kept, reads alice's mail and sends as alice.
func TestEdgeLogins(t *testing.T) {
	t.Parallel()
	d, p := startMail(t, edgeOptions{dovecot: backendtest.DovecotOptions{CommonName: true, Trusted: true, MaxConnections: 100}})
	d.Deliver(t, alice, strings.NewReader("Subject: alice's own\n\nHello.\n"))
	d2 := backendtest.StartDovecot(t, backendtest.DovecotOptions{
		Users: map[string]string{alice: alicePassword, bob: bobPassword}, CommonName: true, Relay: p.Trusted,
	})
	for _, way := range loginWays(t, d, d2, p) {
		for _, kept := range []string{"backend", "local"} {
			t.Run(way.name+", passwords "+kept, func(t *testing.T) {
				t.Parallel()
				e := edge{newGateway(t, behind(t, mailSystem{passwords: kept, imap: way.imap, submission: way.submission})), d, p}
				password := e.account(alice)
				if kept == "backend" {
					password = alicePassword
				}
				pemFile := e.key(alice, "laptop")
				if way.imap != nil {
					e.reads(e.imapOf(pemFile))
					e.reads(e.loggedIn(alice, password))
				}
				if way.submission != nil {
					e.submit(pemFile, alice, bob, letter(alice, bob, t.Name()+" by key", "Hello."))
					e.arrives(bob, t.Name()+" by key")
					s := e.smtpOf("")
					s.ask("AUTH PLAIN "+base64Of("\x00"+alice+"\x00"+password), "235")
					s.ask("MAIL FROM:<"+alice+">", "250")
					s.ask("RCPT TO:<"+bob+">", "250")
					s.ask("DATA", "354")
					s.ask(letter(alice, bob, t.Name()+" by password", "Hello.")+".", "250")
					e.arrives(bob, t.Name()+" by password")
				}
			})
		}
	}
}

// loggedIn logs in with a password.
func (g *gateway) loggedIn(user, password string) *peer {
	g.t.Helper()
	p := g.imapOf("")
	p.do(fmt.Sprintf("LOGIN %q %q", user, password), "OK [CAPABILITY ")
	return p
}

// reads fails the test unless a conversation is about alice's mail.
func (e *edge) reads(p *peer) {
	e.t.Helper()
	p.do("SELECT INBOX", "OK")
	if got := p.do("FETCH 1 BODY[HEADER.FIELDS (SUBJECT)]", "OK"); !strings.Contains(got, "alice's own") {
		e.t.Errorf("read %q", got)
	}
	p.do("LOGOUT", "OK")
}
