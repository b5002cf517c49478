package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"posthorn/backend/backendtest"
)

// TestEdgeReplies: Postfix's own replies reach the client with their codes, for
// each recipient its own, and the session goes on after them.
func TestEdgeReplies(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{postfix: backendtest.PostfixOptions{MaxSize: 200000}})
	e.account(alice)
	pemFile := e.key(alice, "laptop")
	s := e.secure(e.shared, e.tlsConfig(pemFile, "smtp"))
	s.until("220 ")
	offer := s.ask("EHLO client.example", "250")
	for _, want := range []string{"SIZE 200000\n", "8BITMIME", "SMTPUTF8", "DSN", "PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING"} {
		if !strings.Contains(offer, want) {
			t.Errorf("no %q in %q", want, offer)
		}
	}
	for _, never := range []string{"STARTTLS", "XCLIENT", "VRFY", "ETRN"} {
		if strings.Contains(offer, never) {
			t.Errorf("offers %s", never)
		}
	}
	s.ask("MAIL FROM:<"+alice+"> SIZE=200001", "552 5.3.4")
	s.ask("MAIL FROM:<"+bob+">", "550 5.7.1")
	s.envelope()
	s.ask("RCPT TO:<refuse-450-4.7.1@localhost>", "450 4.7.1")
	s.ask("RCPT TO:<refuse-523-5.7.10@localhost>", "523 5.7.10")
	s.ask("RCPT TO:<"+bob+">", "250 2.")
	s.ask("RCPT TO:<refuse-552-5.2.2@localhost>", "552 5.2.2")
	s.data(letter(alice, bob, "to one of four", "Hello."), "250 2.0.0")
	e.arrives(bob, "to one of four")
	for _, code := range []string{"450-4.7.1", "523-5.7.10", "552-5.3.4"} {
		s.envelope("data-" + code + "@localhost")
		s.data(letter(alice, bob, "refused", "Hello."), strings.Replace(code, "-", " ", 1))
	}
	s.envelope(bob)
	s.data(letter(alice, bob, "too large", strings.Repeat("x y z\r\n", 40000)), "552 5.3.4")
	s.envelope(bob)
	s.data(letter(alice, bob, "after all that", "Hello."), "250")
	e.arrives(bob, "after all that")
}

// TestEdgeSender: where the backend decides about senders, it is asked, and its
// refusal passed on.
func TestEdgeSender(t *testing.T) {
	t.Parallel()
	d, p := startMail(t, edgeOptions{})
	xclient := part{"addresses": []string{p.XClient}, "login": "xclient", "client_address": "xclient", "sender": "backend"}
	e := edge{newGateway(t, behind(t, mailSystem{submission: xclient})), d, p}
	e.account(alice)
	s := e.smtpOf(e.key(alice, "laptop"))
	s.ask("MAIL FROM:<"+bob+">", "250")
	s.ask("RCPT TO:<"+bob+">", "553 5.7.1")
	p.Await(t, "Sender address rejected: not owned by user "+alice)
}

// TestEdgeManySenders: accounts that submit at the same time never share a
// connection to Postfix, which would say that the sender is not theirs.
func TestEdgeManySenders(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{})
	const each = 20
	var all sync.WaitGroup
	for _, who := range []string{alice, bob} {
		e.account(who)
		pemFile := e.key(who, strings.TrimSuffix(who, "@localhost"))
		for w := range 4 {
			all.Go(func() {
				for n := range each / 4 {
					s := e.smtpOf(pemFile)
					s.ask("MAIL FROM:<"+who+">", "250")
					s.ask("RCPT TO:<"+alice+">", "250")
					s.data(letter(who, alice, fmt.Sprintf("%s %d %d", who, w, n), "Hello."), "250")
					s.ask("QUIT", "221")
				}
			})
		}
	}
	all.Wait()
	for _, who := range []string{alice, bob} {
		e.p.AwaitTimes(t, "sasl_username="+who+"\n", each)
	}
	connections := strings.Count(e.p.Log(), ": connect from ")
	t.Logf("%d messages over %d connections", 2*each, connections)
}
