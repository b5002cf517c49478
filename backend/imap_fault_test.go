package backend_test

import (
	"context"
	"crypto/tls"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/accounts"
	"posthorn/backend"
	"posthorn/backend/backendtest"
	"posthorn/backend/upstream"
)

// A server that does not greet as it should is not spoken to, and another one
// is tried.
func TestIMAPBadGreetings(t *testing.T) {
	for name, acts := range map[string][]backendtest.Act{
		"PREAUTH":       {say("* PREAUTH [CAPABILITY IMAP4rev1 AUTH=PLAIN] hello\r\n")},
		"BYE":           {say("* BYE too many\r\n")},
		"busy":          {say("* OK [UNAVAILABLE] later\r\n")},
		"NO":            {say("* NO not today\r\n")},
		"SMTP":          {say("220 mail.example.org ESMTP\r\n")},
		"no CRLF":       {say("* OK ready\n")},
		"garbage":       {say("\x16\x03\x01\x00\x00\r\n\x00\xff")},
		"a NUL":         {say("* OK a\x00b\r\n")},
		"tagged":        {say("p2 OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] in\r\n")},
		"continuation":  {say("+ go\r\n")},
		"closed":        {backendtest.Close()},
		"reset":         {backendtest.Reset()},
		"half a line":   {say("* OK [CAPA"), backendtest.Close()},
		"silence":       {backendtest.Hang(0)},
		"slow":          {backendtest.Drip("* OK "+strings.Repeat("x", 1000), 5*time.Millisecond)},
		"1 MB":          {say("* OK "), backendtest.Repeat("x", 1<<20), say("\r\n")},
		"endless":       {backendtest.Repeat("x", -1)},
		"endless lines": {say("* OK ready\r\n"), backendtest.Repeat("* OK x\r\n", -1)},
		"no answer":     {say("* OK ready\r\n")}, // to CAPABILITY
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := backendtest.StartScript(t, backendtest.Script{Greet: acts})
			began := time.Now()
			_, err := openKept(t, proxy(t, bad.Address, hasty), alice, password)
			if !unavailable(err) || !errors.Is(err, accounts.ErrNotAsked) || !errors.Is(err, upstream.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d octets", len(err.Error()))
			}
			good := backendtest.StartScript(t, dialog(greeting, byOwnWord, loggedIn))
			p := proxy(t, bad.Address, func(c *backend.ProxyConfig) {
				c.IMAP.Upstream.Addresses = []string{bad.Address, good.Address}
				c.IMAP.Upstream.Timeout = time.Second
			})
			session, err := openKept(t, p, alice, password)
			if err != nil {
				t.Fatal(err)
			}
			verify(t, session, "")
		})
	}
}

// However a login breaks, the password has been sent once, to one server.
func TestIMAPBrokenLogins(t *testing.T) {
	say := backendtest.Say
	for name, acts := range map[string][]backendtest.Act{
		"closed":          {backendtest.Close()},
		"reset":           {backendtest.Reset()},
		"half an answer":  {say("p2 OK [CAPA"), backendtest.Close()},
		"silence":         {backendtest.Hang(0)},
		"slow":            {backendtest.Drip(strings.Repeat("* OK x\r\n", 100), 5*time.Millisecond)},
		"1 MB":            {say("p2 OK "), backendtest.Repeat("x", 1<<20), say("\r\n")},
		"10,000 lines":    {backendtest.Repeat("* OK x\r\n", 80000), say(loggedIn)},
		"endless lines":   {backendtest.Repeat("* CAPABILITY IMAP4rev1\r\n", -1)},
		"endless literal": {say("* ID ({4096}\r\n"), backendtest.Repeat("{4096}\r\n", -1)},
		"a goodbye":       {say("* BYE internal error\r\n"), backendtest.Close()},
	} {
		for _, method := range []string{"password", "master"} {
			t.Run(name+"/"+method, func(t *testing.T) {
				t.Parallel()
				script := backendtest.Script{Greet: []backendtest.Act{say(greeting)}, Rules: []backendtest.Rule{{Line: "p2 .*", Do: acts}}}
				bad, other := backendtest.StartScript(t, script), backendtest.StartScript(t, script)
				p := proxy(t, bad.Address, master, hasty, func(c *backend.ProxyConfig) {
					c.IMAP.Upstream.Addresses = []string{bad.Address, other.Address}
					c.IMAP.Upstream.Timeout = 0
				})
				var err error
				if method == "password" {
					_, err = openKept(t, p, alice, password)
				} else {
					_, err = open(t, p)
				}
				if !unavailable(err) || errors.Is(err, accounts.ErrNotAsked) {
					t.Errorf("got %v", err)
				}
				if len(err.Error()) > 1000 {
					t.Errorf("an error of %d octets", len(err.Error()))
				}
				if n := bad.Accepted() + other.Accepted(); n != 1 {
					t.Errorf("%d connections", n)
				}
				for _, address := range p.Status() {
					if address.Conns != 0 {
						t.Errorf("a connection is left: %+v", address)
					}
				}
			})
		}
	}
}

// A server without the mechanism that the login needs is not told the password.
func TestIMAPNoMechanism(t *testing.T) {
	cn := func(c *backend.ProxyConfig) {
		c.IMAP.Method, c.IMAP.Upstream.ProxyProtocol = backend.ProxyCN, true
	}
	for name, tt := range map[string]struct {
		offer string
		edit  func(*backend.ProxyConfig)
	}{
		"password":         {"LOGINDISABLED AUTH=XOAUTH2", nil},
		"master":           {"AUTH=LOGIN", master},
		"master-separator": {"LOGINDISABLED", func(c *backend.ProxyConfig) { master(c); c.IMAP.Method = backend.MasterSeparator }},
		"proxy-cn":         {"AUTH=PLAIN", cn},
	} {
		greeting := "* OK [CAPABILITY IMAP4rev1 " + tt.offer + "] ready\r\n"
		s := backendtest.StartScript(t, dialog(greeting))
		var err error
		if tt.edit == nil {
			_, err = openKept(t, proxy(t, s.Address), alice, password)
		} else {
			_, err = open(t, proxy(t, s.Address, tt.edit))
		}
		if !unavailable(err) {
			t.Errorf("%s: got %v", name, err)
		}
		for _, line := range s.Lines() {
			if strings.Contains(line, "p2") {
				t.Errorf("%s: the server heard %q", name, line)
			}
		}
	}
}

var isCommand = regexp.MustCompile(`^p\d `)

func TestIMAPStartTLS(t *testing.T) {
	authority := backendtest.NewAuthority(t)
	pair, _, _ := authority.Issue(t, "127.0.0.1")
	serverTLS := &tls.Config{Certificates: []tls.Certificate{pair}}
	withTLS := func(roots *tls.Config) func(*backend.ProxyConfig) {
		return func(c *backend.ProxyConfig) {
			c.IMAP.Upstream.Security, c.IMAP.Upstream.TLS = upstream.StartTLS, roots
		}
	}
	trusting := withTLS(&tls.Config{RootCAs: authority.Pool})
	const capability = "* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\np3 OK\r\n"
	script := func(begin ...backendtest.Act) backendtest.Script {
		s := dialog("* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n", "p3 CAPABILITY", capability, byMaster, loggedIn)
		s.Rules = append(s.Rules, backendtest.Rule{Line: "p0 STARTTLS", Do: begin})
		return s
	}
	t.Run("good", func(t *testing.T) {
		s := backendtest.StartScript(t, script(say("* OK now\r\np0 OK begin\r\n"), backendtest.StartTLS(serverTLS)))
		session, err := open(t, proxy(t, s.Address, master, trusting))
		if err != nil {
			t.Fatal(err)
		}
		verify(t, session, "")
	})
	for name, begin := range map[string][]backendtest.Act{
		"refused":         {say("p0 NO not now\r\n")},
		"bad":             {say("p0 BAD what?\r\n")},
		"goodbye":         {say("* BYE\r\n")},
		"closed":          {backendtest.Close()},
		"silence":         {},
		"pipelined":       {say("p0 OK begin\r\n* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\n"), backendtest.StartTLS(serverTLS)},
		"pipelined later": {say("p0 OK begin\r\n"), say("* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n"), backendtest.StartTLS(serverTLS)},
		"no TLS":          {say("p0 OK begin\r\n"), say(capability)},
	} {
		t.Run(name, func(t *testing.T) {
			s := backendtest.StartScript(t, script(begin...))
			_, err := open(t, proxy(t, s.Address, master, trusting, hasty))
			if !unavailable(err) {
				t.Errorf("got %v", err)
			}
			for _, line := range s.Lines() { // which may be some of a ClientHello
				if isCommand.MatchString(line) && line != "p0 STARTTLS" {
					t.Errorf("the server heard %q", line)
				}
			}
		})
	}
	t.Run("unknown CA", func(t *testing.T) {
		s := backendtest.StartScript(t, script(say("p0 OK begin\r\n"), backendtest.StartTLS(serverTLS)))
		_, err := open(t, proxy(t, s.Address, master, withTLS(&tls.Config{RootCAs: backendtest.NewAuthority(t).Pool})))
		if !unavailable(err) || !errors.As(err, new(*tls.CertificateVerificationError)) {
			t.Errorf("got %v", err)
		}
	})
}

// A login ends with its client, at any time.
func TestIMAPCancel(t *testing.T) {
	for name, script := range map[string]backendtest.Script{
		"greeting": {Greet: []backendtest.Act{backendtest.Hang(0)}},
		"login":    {Greet: []backendtest.Act{say(greeting)}, Rules: []backendtest.Rule{{Line: "p2 .*", Do: []backendtest.Act{backendtest.Hang(0)}}}},
	} {
		s := backendtest.StartScript(t, script)
		p := proxy(t, s.Address, master)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := p.OpenIMAP(ctx, loginOf(alice), clientOf())
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", name, err)
		}
		if up := p.Status()[0]; !up.Up || up.Conns != 0 {
			t.Errorf("%s: status %+v", name, up)
		}
	}
}

// Many accounts at once: each gets the conversation of its own.
func TestIMAPConcurrently(t *testing.T) {
	s := backendtest.StartScript(t, backendtest.Script{
		Greet: []backendtest.Act{say(greeting)},
		Rules: []backendtest.Rule{
			{Line: "p2 AUTHENTICATE PLAIN (.*)", Do: []backendtest.Act{backendtest.Say(loggedIn + "* OK you are $1\r\n")}},
			{Line: "a NOOP", Do: []backendtest.Act{say("a OK done\r\n")}},
		},
	})
	p := proxy(t, s.Address, master)
	var all sync.WaitGroup
	for i := range 50 {
		user := strings.Repeat("u", i+1) + "@example.org"
		all.Go(func() {
			session, err := p.OpenIMAP(context.Background(), loginOf(user), clientOf())
			if err != nil {
				t.Error(err)
				return
			}
			verify(t, session, "* OK you are "+b64(user, "gateway", "secret")+"\r\n")
		})
	}
	all.Wait()
	if n := p.Status()[0].Conns; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
