package imap_test

import (
	"bufio"
	"compress/flate"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/backend"
	"posthorn/backend/backendtest"
	"posthorn/backend/upstream"
	"posthorn/handlers/imap"
	"posthorn/mux"
)

// dovecotPassword is what alice's is where the mail system keeps it.
const dovecotPassword = "wonderland"

func startDovecot(t testing.TB, edit ...func(*backendtest.DovecotOptions)) *backendtest.Dovecot {
	o := backendtest.DovecotOptions{
		Users:  map[string]string{alice: dovecotPassword, bob: dovecotPassword},
		Master: "gateway", MasterPassword: "s3cr3t",
		CommonName: true, Trusted: true, MaxConnections: 100,
	}
	for _, e := range edit {
		e(&o)
	}
	return backendtest.StartDovecot(t, o)
}

// behind runs a gateway in front of an IMAP server.
func behind(t testing.TB, address string, edit ...func(*backend.ProxyConfig)) *gateway {
	t.Helper()
	c := backend.ProxyConfig{Name: "mail", Log: zerolog.Nop(), IMAP: &backend.Server{
		Upstream: upstream.Config{Addresses: []string{address}},
		Method:   backend.Master, User: "gateway", Password: "s3cr3t",
	}}
	for _, e := range edit {
		e(&c)
	}
	p, err := backend.NewProxy(c)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, func(_ *mux.Config, h *imap.Handler) { h.Backend = p })
}

// dialFrom connects from another address of the loopback.
func (g *gateway) dialFrom(ip string, certs ...tls.Certificate) *client {
	g.t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := tls.DialWithDialer(d, "tcp", g.addr[alpn.IMAPS], tlsConfig(certs...))
	if err != nil {
		g.t.Fatal(err)
	}
	return newClient(g.t, c)
}

// until reads up to the line that begins so, and returns all of it.
func (c *client) until(beginning string) string {
	c.t.Helper()
	var all strings.Builder
	for {
		line := c.line()
		all.WriteString(line + "\n")
		if strings.HasPrefix(line, beginning) {
			return all.String()
		}
		if line == "EOF" {
			c.t.Fatalf("got %q, want %q…", all.String(), beginning)
		}
	}
}

// wantDovecot makes sure that a list of capabilities is that of a Dovecot after
// login, without what the gateway hides.
func wantDovecot(t testing.TB, line string) {
	t.Helper()
	_, list, _ := strings.Cut(line, "[CAPABILITY ")
	list, _, _ = strings.Cut(list, "]")
	for _, want := range []string{"IMAP4rev1", "COMPRESS=DEFLATE", "QRESYNC", "CONDSTORE", "NOTIFY", "METADATA", "QUOTA", "XDELTAPUSH", "LITERAL+"} {
		if !strings.Contains(" "+list+" ", " "+want+" ") {
			t.Errorf("%s is not in %q", want, line)
		}
	}
	for _, hidden := range []string{"STARTTLS", "LOGINDISABLED", "AUTH="} {
		if strings.Contains(list, hidden) {
			t.Errorf("%s is in %q", hidden, line)
		}
	}
}

// Each way to log in, by key and by password, with each way to tell of the
// client's address, as Dovecot's log has it.
func TestDovecotLogins(t *testing.T) {
	d := startDovecot(t, func(o *backendtest.DovecotOptions) { o.More += "\nimap_id_log = *\n" })
	with := func(m backend.Method) func(*backend.ProxyConfig) {
		return func(c *backend.ProxyConfig) { c.IMAP.Method = m }
	}
	proxied := func(c *backend.ProxyConfig) { c.IMAP.Upstream.ProxyProtocol = true }
	informed := func(c *backend.ProxyConfig) { c.IMAP.Inform = true }
	secured := func(s upstream.Security) func(*backend.ProxyConfig) {
		return func(c *backend.ProxyConfig) {
			c.IMAP.Upstream.Security, c.IMAP.Upstream.TLS = s, &tls.Config{RootCAs: d.Authority.Pool}
		}
	}
	keeps := func(c *backend.ProxyConfig) { c.KeepsPasswords = true }
	edits := func(e ...func(*backend.ProxyConfig)) []func(*backend.ProxyConfig) { return e }
	for i, tt := range []struct {
		name, address string
		edits         []func(*backend.ProxyConfig)
		method        string // of the login at Dovecot with a key
		told          bool   // of the client's address
	}{
		{"master", d.Plain, nil, "PLAIN", false},
		{"master, unix", "unix:" + d.Unix, nil, "PLAIN", false},
		{"master, TLS", d.TLS, edits(secured(upstream.ImplicitTLS)), "PLAIN", false},
		{"master, STARTTLS", d.Plain, edits(secured(upstream.StartTLS)), "PLAIN", false},
		{"master, ID", d.Plain, edits(informed), "PLAIN", true},
		{"master, PROXY", d.Proxy, edits(proxied), "PLAIN", true},
		{"master-separator", d.Plain, edits(with(backend.MasterSeparator)), "PLAIN", false},
		{"master-separator, ID, STARTTLS", d.Plain, edits(with(backend.MasterSeparator), informed, secured(upstream.StartTLS)), "PLAIN", true},
		{"proxy-cn", d.Proxy, edits(with(backend.ProxyCN), proxied), "EXTERNAL", true},
		{"master, PROXY, TLS", d.ProxyTLS, edits(proxied, secured(upstream.ImplicitTLS)), "PLAIN", true},
		{"password, master", d.Plain, edits(keeps), "PLAIN", false},
		{"password, master, ID", d.Plain, edits(keeps, informed), "PLAIN", true},
		{"password, proxy-cn", d.Proxy, edits(keeps, with(backend.ProxyCN), proxied), "EXTERNAL", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := behind(t, tt.address, tt.edits...)
			g.t = t
			secret, byPassword := password, tt.method
			if strings.HasPrefix(tt.name, "password") {
				secret, byPassword = dovecotPassword, "PLAIN"
			}
			for j, how := range []string{"key", "password", "alias"} {
				ip := fmt.Sprintf("127.0.%d.%d", i+1, j+1)
				var c *client
				method := tt.method
				if how == "key" {
					c = g.dialFrom(ip, g.key(alice))
					line := c.line()
					if !strings.HasPrefix(line, "* PREAUTH [CAPABILITY ") {
						t.Fatalf("greeted with %q; %s", line, g.log.String())
					}
					wantDovecot(t, line)
				} else {
					address := map[string]string{"password": alice, "alias": alias}[how]
					method = byPassword
					c = g.dialFrom(ip)
					c.want("* OK [CAPABILITY IMAP4rev1 ")
					c.talk(`a ID ("name" "`+ip+`" "x-originating-ip" "198.51.100.9")`+"\r\n", "* ID", "a OK")
					c.send("b LOGIN " + address + " " + quoted(secret) + "\r\n")
					line := c.line()
					if !strings.HasPrefix(line, "b OK [CAPABILITY ") {
						t.Fatalf("%s: answered with %q", how, line)
					}
					wantDovecot(t, line)
				}
				c.send("c SELECT INBOX\r\n")
				c.until("c OK")
				c.talk("d LOGOUT\r\n", "* BYE", "d OK", "EOF")
				rip := "127.0.0.1"
				if tt.told {
					rip = ip
				}
				if !strings.HasPrefix(tt.address, "unix:") { // where there is no address
					d.Await(t, "user=<"+alice+">, method="+method+", rip="+rip+",")
				}
				if strings.Contains(tt.name, "ID") { // then both logs call the connection the same
					d.Await(t, fmt.Sprintf("rip=%s, lip=127.0.0.1, mpid=", ip))
					d.Await(t, fmt.Sprintf("session=<%d.", j+1))
					if how != "key" {
						d.Await(t, "name="+ip)
					}
				}
			}
			if strings.Contains(d.Log(), "198.51.100.9") {
				t.Error("a client has told its address")
			}
		})
	}
	if strings.Contains(d.Log(), password) {
		t.Error("the mail system has heard a password that it does not keep")
	}
}

// Behind the login everything is between the client and the server, in any
// coding that they agree on.
func TestDovecotExtensions(t *testing.T) {
	d := startDovecot(t)
	g := behind(t, d.Plain)
	for i := range 3 {
		d.Deliver(t, alice, strings.NewReader(fmt.Sprintf("Subject: %d\n\nHello.\n", i)))
	}
	c := g.dial(g.key(alice))
	c.want("* PREAUTH")
	c.talk("a ENABLE QRESYNC\r\n", "* ENABLED QRESYNC", "a OK")
	c.talk("b COMPRESS DEFLATE\r\n", "b OK")
	zip, err := flate.NewWriter(c.Conn, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	c.r = bufio.NewReader(flate.NewReader(c.r))
	talk := func(line, until string) string {
		if _, err := io.WriteString(zip, line+"\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := zip.Flush(); err != nil {
			t.Fatal(err)
		}
		return c.until(until)
	}
	got := talk("c SELECT INBOX", "c OK")
	var validity, modseq uint64
	if _, err := fmt.Sscanf(got[strings.Index(got, "[UIDVALIDITY "):], "[UIDVALIDITY %d]", &validity); err != nil {
		t.Fatalf("%q: %v", got, err)
	}
	if _, err := fmt.Sscanf(got[strings.Index(got, "[HIGHESTMODSEQ "):], "[HIGHESTMODSEQ %d]", &modseq); err != nil {
		t.Fatalf("%q: %v", got, err)
	}
	talk(`d UID STORE 2 +FLAGS.SILENT (\Deleted)`, "d OK")
	talk("e EXPUNGE", "e OK")
	if got := talk(fmt.Sprintf("f SELECT INBOX (QRESYNC (%d %d 1:3))", validity, modseq), "f OK"); !strings.Contains(got, "* VANISHED (EARLIER) 2\n") {
		t.Errorf("QRESYNC answered %q", got)
	}
	if got := talk("g UID FETCH 3 (BODY[])", "g OK"); !strings.Contains(got, "Subject: 2") {
		t.Errorf("FETCH answered %q", got)
	}
	talk("h IDLE", "+ ")
	d.Deliver(t, alice, strings.NewReader("Subject: news\n\nHello.\n"))
	c.until("* 3 EXISTS")
	talk("DONE", "h OK")
	talk("i LOGOUT", "i OK")
}

// Passwords that the mail system keeps are its to judge, and its answers reach
// the client.
func TestDovecotPasswords(t *testing.T) {
	d := startDovecot(t, func(o *backendtest.DovecotOptions) { o.Create, o.MaxConnections = true, 2 })
	g := behind(t, d.Plain, func(c *backend.ProxyConfig) { c.KeepsPasswords = true })
	wrong := g.greeted()
	wrong.talk("a LOGIN "+alice+" "+quoted(password)+"\r\n", "a"+refused) // right once, at the gateway
	wrong.talk("b AUTHENTICATE PLAIN "+b64("\x00"+alice+"\x00wrong")+"\r\n", "b"+refused)
	wrong.talk("c LOGIN nobody@example.org x\r\n", "c"+refused)
	wrong.talk("d LOGIN "+alice+" "+dovecotPassword+"\r\n", "d OK [CAPABILITY ")

	const user = "ninechars@example.org"
	c := g.greeted()
	c.talk("a LOGIN "+user+" \"long enough\"\r\n", "a OK [CAPABILITY ")
	if _, err := g.accounts.ByAddress(t.Context(), user); err != nil || !d.Created(user) {
		t.Errorf("the new user has no record: %v, created %v", err, d.Created(user))
	}
	g.greeted().talk("a LOGIN "+user+" \"another one\"\r\n", "a"+refused)

	g.greeted().talk("a LOGIN "+alice+" "+dovecotPassword+"\r\n", "a OK [CAPABILITY ")
	full := g.greeted()
	full.talk("a LOGIN "+alice+" "+dovecotPassword+"\r\n", "a NO [LIMIT] Maximum number of connections")
	full.talk("b NOOP\r\n", "b OK")
	if log := g.log.String(); strings.Contains(log, dovecotPassword) || strings.Contains(log, "long enough") {
		t.Error("a password is in the log")
	}
}

// A mail system that is away, or that refuses the gateway, is no client's
// fault.
func TestDovecotAway(t *testing.T) {
	d := startDovecot(t)
	g := behind(t, d.Plain)
	cert := g.key(alice)
	c := g.dial(cert)
	c.want("* PREAUTH")
	d.Kill()
	c.want("EOF")
	g.dial(cert).want("* BYE [UNAVAILABLE] Temporarily unavailable, try again later", "EOF")
	g.greeted().talk("a LOGIN "+alice+" "+quoted(password)+"\r\n", "a NO [UNAVAILABLE] Temporarily unavailable, try again later")
	d.Start()
	c = g.greeted()
	c.talk("a LOGIN "+alice+" "+quoted(password)+"\r\n", "a OK [CAPABILITY ")

	g = behind(t, d.Plain, func(c *backend.ProxyConfig) { c.IMAP.Password = "wr0ng" })
	g.dial(g.key(alice)).want("* BYE [UNAVAILABLE] Temporarily unavailable, try again later", "EOF")
	g.greeted().talk("a LOGIN "+alice+" "+quoted(password)+"\r\n", "a NO [UNAVAILABLE] Temporarily unavailable, try again later")
	log := g.log.String()
	if n := strings.Count(log, `"level":"error"`); n != 2 || !strings.Contains(log, "backend mail: imap: login at "+d.Plain) {
		t.Errorf("%d errors in the log: %s", n, log)
	}
	if strings.Contains(log, "wr0ng") {
		t.Error("a password is in the log")
	}
}
