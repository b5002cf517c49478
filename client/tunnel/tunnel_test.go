package tunnel_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"posthorn/alpn"
	"posthorn/client"
	"posthorn/client/clienttest"
	"posthorn/client/gatewaytest"
	"posthorn/client/tunnel"
)

// useIMAP reads mail as a library does that knows of no keys.
func useIMAP(r *running) error {
	nc, err := net.Dial("tcp", r.imap)
	if err != nil {
		return err
	}
	c := imapclient.New(nc, nil)
	defer c.Close()
	if err := c.Login("whoever", r.password).Wait(); err != nil {
		return err
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		return err
	}
	return c.Logout().Wait()
}

// useSMTP sends mail so.
func useSMTP(r *running) error {
	c, err := smtp.Dial(r.smtp)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", "whoever", r.password)); err != nil {
		return err
	}
	if err := c.SendMail(alice, []string{alice}, strings.NewReader("From: <"+alice+">\r\nSubject: x\r\n\r\nx\r\n")); err != nil {
		return err
	}
	return c.Quit()
}

// TestMatrix: in each network programs reach the gateway, or hear that they do not.
func TestMatrix(t *testing.T) {
	g := gatewaytest.Start(t)
	verdicts := func(v clienttest.Verdict, names ...string) map[string]clienttest.Verdict {
		m := make(map[string]clienttest.Verdict)
		for _, n := range names {
			m[n] = v
		}
		return m
	}
	ports := func(v clienttest.Verdict) map[uint16]clienttest.Verdict {
		return map[uint16]clienttest.Verdict{993: v, 465: v}
	}
	inspector := &clienttest.Inspector{CA: clienttest.NewAuthority(t, "a middlebox")}
	for name, tt := range map[string]struct {
		rules clienttest.Rules
		reach bool
		proxy func(*clienttest.Network) *url.URL
	}{
		"open":                 {clienttest.Rules{}, true, nil},
		"slow":                 {clienttest.Rules{RTT: 60 * time.Millisecond}, true, nil},
		"mail ports closed":    {clienttest.Rules{Ports: ports(clienttest.Refuse)}, true, nil},
		"mail ports swallowed": {clienttest.Rules{Ports: ports(clienttest.BlackHole)}, true, nil},
		"ALPN reset":           {clienttest.Rules{ALPN: verdicts(clienttest.Reset, "imap", "smtp")}, true, nil},
		"ALPN swallowed":       {clienttest.Rules{ALPN: verdicts(clienttest.BlackHole, "imap", "smtp")}, true, nil},
		"the web alone":        {clienttest.Rules{NoALPN: clienttest.Reset, ALPN: verdicts(clienttest.BlockPage, "imap", "smtp")}, true, nil},
		"names":                {clienttest.Rules{Names: verdicts(clienttest.Reset, "imap.example.org", "smtp.example.org")}, true, nil},
		"re-signed":            {clienttest.Rules{Inspect: inspector}, false, nil},
		"cut after 600 octets": {clienttest.Rules{Bytes: 600}, false, nil},
		"swallowed after 600":  {clienttest.Rules{Bytes: 600, BytesVerdict: clienttest.BlackHole}, false, nil},
		"a portal": {clienttest.Rules{NoALPN: clienttest.BlockPage, ECH: clienttest.BlockPage,
			Names: verdicts(clienttest.BlockPage, host)}, false, nil},
		"only proxies, none known": {clienttest.Rules{OnlyProxies: clienttest.Refuse}, false, nil},
		"an HTTP proxy": {clienttest.Rules{OnlyProxies: clienttest.BlackHole}, true, func(n *clienttest.Network) *url.URL {
			return n.HTTPProxy(clienttest.Proxy{User: "u", Password: "p", Ports: []uint16{443}})
		}},
		"a SOCKS proxy": {clienttest.Rules{OnlyProxies: clienttest.Refuse}, true, func(n *clienttest.Network) *url.URL {
			return n.SOCKSProxy(clienttest.Proxy{})
		}},
		"a proxy that refuses": {clienttest.Rules{OnlyProxies: clienttest.Refuse}, false, func(n *clienttest.Network) *url.URL {
			return n.HTTPProxy(clienttest.Proxy{Answer: "HTTP/1.1 407 No\r\n\r\n"})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := clienttest.New(t, g.Ports, tt.rules)
			r := startTunnel(t, g, n, func(c *tunnel.Config) {
				c.Client.Timeout = 2 * time.Second
				if tt.reach {
					c.Client.Timeout = 15 * time.Second // the race detector takes its time
				}
				if tt.proxy != nil {
					c.Client.Proxy = client.FixedProxy(tt.proxy(n))
				}
			})
			inIMAP, inSMTP := useIMAP(r), useSMTP(r)
			if tt.reach {
				if inIMAP != nil || inSMTP != nil {
					t.Fatalf("IMAP: %v, submission: %v", inIMAP, inSMTP)
				}
				return
			}
			if inIMAP == nil || !strings.Contains(inIMAP.Error(), "[UNAVAILABLE]") && !strings.Contains(inIMAP.Error(), "cannot be reached") {
				t.Errorf("IMAP: %v", inIMAP)
			}
			if reply, ok := inSMTP.(*smtp.SMTPError); !ok || reply.Code != 421 {
				t.Errorf("submission: %v", inSMTP)
			}
			if s := r.state(alpn.IMAP); s == nil || s.Err == nil {
				t.Errorf("state %+v", s)
			}
		})
	}
}

// TestSignIn: every way in which programs log in.
func TestSignIn(t *testing.T) {
	g := gatewaytest.Start(t)
	r := startTunnel(t, g, clienttest.New(t, g.Ports, clienttest.Rules{}))
	in := r.password
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	plain := b64("\x00alice\x00" + in)
	size := fmt.Sprint(len(in))
	for name, say := range map[string][]string{ // each but the first after a continuation request
		"LOGIN":                 {"a LOGIN alice " + in + "\r\n"},
		"lower case":            {"a login alice " + in + "\r\n"},
		"quoted":                {"a LOGIN \"a\\\"l\" \"" + in + "\"\r\n"},
		"literals":              {"a LOGIN {5}\r\n", "alice {" + size + "}\r\n", in + "\r\n"},
		"literals unasked":      {"a LOGIN {5+}\r\nalice {" + size + "+}\r\n" + in + "\r\n"},
		"PLAIN at once":         {"a AUTHENTICATE PLAIN " + plain + "\r\n"},
		"PLAIN":                 {"a AUTHENTICATE PLAIN\r\n", plain + "\r\n"},
		"PLAIN with an authzid": {"a AUTHENTICATE PLAIN " + b64("x\x00x\x00"+in) + "\r\n"},
		"auth LOGIN":            {"a AUTHENTICATE LOGIN\r\n", b64("alice") + "\r\n", b64(in) + "\r\n"},
		"auth LOGIN at once":    {"a AUTHENTICATE login " + b64("alice") + "\r\n", b64(in) + "\r\n"},
	} {
		t.Run("imap/"+name, func(t *testing.T) {
			for _, slowly := range []bool{false, true} {
				p := dial(t, r.imap)
				p.expect("* OK [CAPABILITY IMAP4rev1 ")
				for i, s := range say {
					if i > 0 {
						p.expect("+")
					}
					if i == len(say)-1 {
						s += "b SELECT INBOX\r\n" // behind the login
					}
					if slowly {
						for j := range s {
							p.say(s[j : j+1])
						}
						continue
					}
					p.say(s)
				}
				if ok := p.expect("a OK [CAPABILITY "); !strings.Contains(ok, " UIDPLUS ") || strings.Contains(ok, "AUTH=") {
					t.Errorf("not the gateway's capabilities: %q", ok)
				}
				p.until("b OK")
				p.say("c LOGOUT\r\n")
				p.until("c OK")
				p.expect("EOF")
			}
		})
	}
	for name, say := range map[string][]string{
		"PLAIN at once": {"AUTH PLAIN " + plain},
		"PLAIN":         {"AUTH PLAIN", plain},
		"two spaces":    {"AUTH  PLAIN " + plain},
		"LOGIN":         {"AUTH LOGIN", b64("alice"), b64(in)},
		"LOGIN at once": {"auth login " + b64("alice"), b64(in)},
	} {
		t.Run("smtp/"+name, func(t *testing.T) {
			p := dial(t, r.smtp)
			p.expect("220 ")
			p.say("EHLO me\r\n")
			offers := ""
			for line := ""; !strings.HasPrefix(line, "250 "); {
				line = p.expect("250")
				offers += line[4:] + "\n"
			}
			if !strings.Contains(offers, "SIZE ") || !strings.Contains(offers, "AUTH PLAIN LOGIN\n") ||
				strings.Contains(offers, "EXTERNAL") || strings.Contains(offers, "STARTTLS") {
				t.Errorf("offers %q", offers)
			}
			for i, s := range say {
				if i > 0 {
					p.expect("334 ")
				}
				p.say(s + "\r\n")
			}
			p.expect("235 ")
			p.say("MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + alice + ">\r\nDATA\r\n")
			p.expect("250 ", "250 ", "354 ")
			p.say("From: <" + alice + ">\r\n\r\nx\r\n.\r\nQUIT\r\n")
			p.expect("250 ", "221 ", "EOF")
		})
	}
	if log := g.Log.String() + r.log.String(); strings.Contains(log, in) {
		t.Error("the local password is in a log")
	}
}

// TestGatewayLogin: whatever the gateway wants for a login, programs see the same.
func TestGatewayLogin(t *testing.T) {
	g := gatewaytest.Start(t)
	quiet := must(client.NewIdentity(client.Ed25519, "quiet"))
	g.Register(quiet, true)
	n := clienttest.New(t, g.Ports, clienttest.Rules{})
	for name, edit := range map[string]option{
		"no-preauth key": func(c *tunnel.Config) { c.Client.Identity = quiet },
		"password":       func(c *tunnel.Config) { c.Client.Identity, c.Client.User, c.Client.Password = nil, alice, password },
	} {
		t.Run(name, func(t *testing.T) {
			r := startTunnel(t, g, n, edit)
			if inIMAP, inSMTP := useIMAP(r), useSMTP(r); inIMAP != nil || inSMTP != nil {
				t.Errorf("%v, %v", inIMAP, inSMTP)
			}
		})
	}
	for name, edit := range map[string]option{
		"unknown key":    func(c *tunnel.Config) { c.Client.Identity = must(client.NewIdentity(client.ECDSA, "x")) },
		"wrong password": func(c *tunnel.Config) { c.Client.Identity, c.Client.User, c.Client.Password = nil, alice, "x" },
	} {
		t.Run(name, func(t *testing.T) {
			r := startTunnel(t, g, n, edit)
			p := dial(t, r.imap)
			p.expect("* OK")
			p.say("a LOGIN x " + r.password + "\r\n")
			p.expect("a NO [CONTACTADMIN] ", "* BYE", "EOF")
			p = dial(t, r.smtp)
			p.expect("220 ")
			p.say("EHLO x\r\n")
			p.expect("421 ", "EOF")
			p = dial(t, r.unix)
			p.expect("* BYE [CONTACTADMIN]", "EOF")
		})
	}
}

// TestUnix: a Unix socket is this user's, who needs no password there.
func TestUnix(t *testing.T) {
	g := gatewaytest.Start(t)
	r := startTunnel(t, g, clienttest.New(t, g.Ports, clienttest.Rules{}))
	for _, path := range []string{r.unix, r.unixSMTP} {
		if info := must(os.Lstat(path)); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if _, err := tunnel.Listen(alpn.IMAP, path); err == nil {
			t.Error("two listen on a path")
		}
	}
	p := dial(t, r.unix)
	p.expect("* PREAUTH [CAPABILITY ")
	p.say("a SELECT INBOX\r\n")
	p.until("a OK")
	p = r.sending()
	p.say("RCPT TO:<" + alice + ">\r\n")
	p.expect("250 ")
	r.end()
	for _, path := range []string{r.unix, r.unixSMTP} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// TestNoLocalAuth: any password is taken, and none.
func TestNoLocalAuth(t *testing.T) {
	g := gatewaytest.Start(t)
	r := startTunnel(t, g, clienttest.New(t, g.Ports, clienttest.Rules{}), func(c *tunnel.Config) {
		c.Password, c.MaxWaiting = nil, 1
	})
	r.password = "anything"
	if inIMAP, inSMTP := useIMAP(r), useSMTP(r); inIMAP != nil || inSMTP != nil {
		t.Errorf("%v, %v", inIMAP, inSMTP)
	}
	p := dial(t, r.smtp)
	p.expect("220 ")
	p.say("MAIL FROM:<" + alice + ">\r\nHELO x\r\nMAIL FROM:<" + alice + ">\r\n")
	p.expect("530 ", "250 ", "250 ")
	dial(t, r.smtp).expect("220 ") // and waits, which the other one does no more
	p.say("RSET\r\n")
	p.expect("250 ")
}

// TestEnd: when the tunnel ends, everybody hears goodbye, wherever they are.
func TestEnd(t *testing.T) {
	g := gatewaytest.Start(t)
	r := startTunnel(t, g, clienttest.New(t, g.Ports, clienttest.Rules{}))
	waiting, in := dial(t, r.imap), dial(t, r.unix)
	waiting.expect("* OK")
	in.expect("* PREAUTH")
	early, sending := dial(t, r.smtp), r.sending()
	early.expect("220 ")
	r.end()
	waiting.expect("* BYE ", "EOF")
	in.expect("* BYE ", "EOF")
	early.expect("421 ", "EOF")
	sending.expect("421 ", "EOF")
}
