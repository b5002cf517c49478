package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

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
		if n := strings.Count(e.p.Log(), "sasl_username="+who+"\n"); n != each {
			t.Errorf("Postfix took %d messages from %s, not %d", n, who, each)
		}
	}
	connections := strings.Count(e.p.Log(), ": connect from ")
	t.Logf("%d messages over %d connections", 2*each, connections)
}
