package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests of hostile_*_test.go try, line by line, what the gateway promises
// against hostile peers. This file: TLS.

// alertOf returns the text of the alert that a handshake ended with.
func alertOf(err error) string {
	if op := new(net.OpError); errors.As(err, &op) && op.Op == "remote error" {
		return strings.TrimPrefix(op.Err.Error(), "tls: ")
	}
	return ""
}

const (
	alertProtocol = "no application protocol"
	alertName     = "unrecognized name"
)

// inTLS says what has to be said before TLS on a port, and returns a
// connection on which the handshake can begin.
func (g *gateway) inTLS(address string, from ...string) net.Conn {
	g.t.Helper()
	p := g.clear(address, from...)
	switch address {
	case g.imap:
		p.until("* OK")
		p.do("STARTTLS", "OK")
	case g.submission:
		p.until("220 ")
		p.ask("EHLO client.example", "250")
		p.ask("STARTTLS", "220")
	}
	return p.Conn
}

func TestHostileHandshakes(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	ports := map[string]string{"shared": g.shared, "imaps": g.imaps, "submissions": g.submissions,
		"imap with STARTTLS": g.imap, "submission with STARTTLS": g.submission}
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

	t.Run("ALPN without overlap is alert 120 on every port", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		foreign := map[string][]string{
			"shared":                   {"xmpp-client", "acme-tls/1"},
			"imaps":                    {"smtp", "h2", "http/1.1", "acme-tls/1"},
			"submissions":              {"imap", "h2", "http/1.1"},
			"imap with STARTTLS":       {"smtp", "h2"},
			"submission with STARTTLS": {"imap", "http/1.1"},
		}
		for port, address := range ports {
			for version, number := range versions {
				for _, offer := range append(foreign[port], "IMAP", "imap\x00", " imap", strings.Repeat("a", 255)) {
					config := g.tlsConfig(pemFile, offer)
					config.MaxVersion = number
					err := tls.Client(g.inTLS(address), config).Handshake()
					if got := alertOf(err); got != alertProtocol {
						t.Errorf("%.20q on %s, TLS %s: %v", offer, port, version, err)
					}
				}
			}
		}
	})

	t.Run("a server name that is not served is unrecognized_name", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for port, address := range ports {
			for version, number := range versions {
				config := g.tlsConfig(pemFile)
				config.MaxVersion, config.ServerName = number, "elsewhere.example"
				if err := tls.Client(g.inTLS(address), config).Handshake(); alertOf(err) != alertName {
					t.Errorf("%s, TLS %s: %v", port, version, err)
				}
			}
		}
	})

	t.Run("a server name that is not served, on resumption", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for version, number := range versions {
			for port, address := range map[string]string{"shared": g.shared, "imaps": g.imaps} {
				config := g.tlsConfig(pemFile, "imap")
				config.MaxVersion, config.InsecureSkipVerify = number, true
				config.ClientSessionCache = new(oneSession)
				p := g.secure(address, config)
				p.until("* PREAUTH")
				p = g.secure(address, config)
				p.until("* PREAUTH")
				if !p.Conn.(*tls.Conn).ConnectionState().DidResume {
					t.Errorf("%s, TLS %s: no resumption to begin with", port, version)
				}
				config.ServerName = "elsewhere.example"
				if err := tls.Client(g.connect(address), config).Handshake(); alertOf(err) != alertName {
					t.Errorf("%s, TLS %s: %v", port, version, err)
				}
			}
		}
	})

	t.Run("no server name gets the default certificate", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for port, address := range ports {
			config := g.tlsConfig("")
			config.ServerName, config.InsecureSkipVerify = "", true
			c := tls.Client(g.inTLS(address), config)
			if err := c.Handshake(); err != nil {
				t.Errorf("%s: %v", port, err)
			} else if err := c.ConnectionState().PeerCertificates[0].VerifyHostname("localhost"); err != nil {
				t.Errorf("%s: %v", port, err)
			}
		}
	})

	t.Run("strange server names change nothing", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, name := range []string{
			"localhost\x00", "localhost\x00.example", "\x00", "localhost\r\nX: y", "../../etc/passwd", "a/b", `a\b`, "%s%n%d",
			"localhost\x1b[2J", "-", "*", "*.localhost", "local host", "lo\xffcal", strings.Repeat("a", 60000),
			strings.Repeat("a.", 5000) + "localhost", "é.localhost", "loca\u200dlhost",
		} {
			config := g.tlsConfig(pemFile, "imap")
			config.InsecureSkipVerify, config.ServerName = true, name
			start := time.Now()
			err := tls.Client(g.connect(g.shared), config).Handshake()
			if err == nil || time.Since(start) > 8*time.Second+slack {
				t.Errorf("%.40q: %v after %v", name, err, time.Since(start))
			}
		}
		// What crypto/tls does not send as a name: an address.
		for _, name := range []string{"127.0.0.1", "::1", "[::1]"} {
			hello := clientHello(t, g.tlsConfig(pemFile, "imap", "localhost-localhost"))
			placeholder := []byte("localhost")[:min(9, len(name))]
			hello = bytes.Replace(hello, placeholder, []byte(name)[:len(placeholder)], 1)
			p := g.clear(g.shared)
			p.send(string(hello))
			p.over(8*time.Second + slack)
		}
		if at := strings.IndexFunc(g.logged(), func(r rune) bool { return r < ' ' && r != '\n' }); at >= 0 {
			t.Errorf("a control character in the log: %q", g.logged()[at:min(at+100, len(g.logged()))])
		}
		g.alive(pemFile)
	})

	t.Run("a ClientHello split anywhere is dispatched like a whole one", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for version, number := range versions {
			for _, how := range []string{"bytes", "records"} {
				config := g.tlsConfig(pemFile, "imap")
				config.MaxVersion = number
				c := tls.Client(&splitConn{Conn: g.connect(g.shared), records: how == "records"}, config)
				if err := c.Handshake(); err != nil {
					t.Errorf("%s, TLS %s: %v", how, version, err)
					continue
				}
				newPeer(t, c).until("* PREAUTH")
			}
		}
	})

	t.Run("old versions, weak suites, renegotiation and early data: none", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		connect := []string{"s_client", "-connect", g.imaps, "-servername", "localhost"}
		for _, flags := range [][]string{
			{"-tls1"}, {"-tls1_1"},
			{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES128-SHA:@SECLEVEL=0"},
			{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"},
			{"-tls1_2", "-cipher", "AES128-GCM-SHA256:AES128-SHA:DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"},
			{"-tls1_2", "-sigalgs", "ECDSA+SHA1:RSA+SHA1", "-cipher", "ALL:@SECLEVEL=0"},
			{"-tls1_3", "-sigalgs", "ECDSA+SHA1:RSA+SHA1", "-cipher", "ALL:@SECLEVEL=0"},
		} {
			if _, errOut, err := g.try("", "openssl", append(slices.Clone(connect), flags...)...); err == nil {
				t.Errorf("%q was accepted: %s", flags, errOut)
			}
		}
		out, errOut, _ := g.try("R\n", "openssl", append(slices.Clone(connect), "-tls1_2", "-state")...)
		if !strings.Contains(out+errOut, "no renegotiation") && !strings.Contains(out+errOut, "alert") {
			t.Errorf("renegotiation: %s%s", out, errOut)
		}
		if !strings.Contains(out, "Extended master secret: yes") || !strings.Contains(out, "Compression: NONE") {
			t.Errorf("TLS 1.2 without extended master secret or with compression: %s", out)
		}
		out, _, _ = g.try("a LOGOUT\n", "openssl", append(slices.Clone(connect), "-tls1_3", "-crlf", "-ign_eof")...)
		if !strings.Contains(out, "Max Early Data: 0") {
			t.Errorf("a ticket for early data: %s", out)
		}
	})
}

// oneSession is a client that resumes its last session, with whatever server.
type oneSession struct{ s *tls.ClientSessionState }

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.s, o.s != nil }
func (o *oneSession) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		o.s = s
	}
}

// clientHello returns the record with the ClientHello of a config.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		_ = tls.Client(near, config).Handshake()
		near.Close()
	}()
	defer far.Close()
	var header [5]byte
	if _, err := io.ReadFull(far, header[:]); err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, int(header[3])<<8|int(header[4]))
	if _, err := io.ReadFull(far, hello); err != nil {
		t.Fatal(err)
	}
	return append(header[:], hello...)
}

// splitConn sends its first write byte by byte, in as many segments or in as
// many records of TLS.
type splitConn struct {
	net.Conn
	records, begun bool
}

func (c *splitConn) Write(b []byte) (int, error) {
	if c.begun {
		return c.Conn.Write(b)
	}
	c.begun = true
	unit := func(i int) []byte { return b[i : i+1] }
	from := 0
	if c.records {
		from = 5
		unit = func(i int) []byte { return []byte{b[0], b[1], b[2], 0, 1, b[i]} }
	}
	for i := from; i < len(b); i++ {
		if _, err := c.Conn.Write(unit(i)); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func TestHostileRecords(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	const promised = 8*time.Second + slack

	hello := string(clientHello(t, g.tlsConfig("", "imap")))
	many := func(s string) string { return strings.Repeat(s, 200000) }
	marker := "ECHO-ME-PLEASE"
	for name, input := range map[string]string{
		"nothing":               "",
		"text":                  marker + "\r\n",
		"HTTP/1.1":              "GET /" + marker + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"HTTP/2":                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"SMTP":                  "EHLO " + marker + "\r\n",
		"IMAP":                  "a LOGIN " + marker + " x\r\n",
		"PROXY v1":              "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + hello,
		"PROXY v2":              "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02" + hello,
		"SSLv2":                 "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80\x03\x00\x80\x04\x00\x80\x05\x00\x80\x06\x00\x40\x07\x00\xc0" + strings.Repeat("x", 16),
		"over-long record":      "\x16\x03\x01\xff\xff" + strings.Repeat("x", 1<<16),
		"endless handshake":     "\x16\x03\x01\x40\x00\x01\xff\xff\xff" + strings.Repeat("x", 0x4000-4) + strings.Repeat("\x16\x03\x01\x40\x00"+strings.Repeat("x", 0x4000), 100),
		"half a hello":          hello[:len(hello)/2],
		"a hello alone":         hello,
		"two hellos":            hello + hello,
		"hello, then text":      hello + marker,
		"empty records":         many("\x16\x03\x01\x00\x00"),
		"empty data":            many("\x17\x03\x03\x00\x00"),
		"alerts first":          many("\x15\x03\x01\x00\x02\x01\x00"),
		"alerts":                hello + many("\x15\x03\x03\x00\x02\x01\x5a"),
		"CCS first":             many("\x14\x03\x01\x00\x01\x01"),
		"CCS":                   hello + many("\x14\x03\x03\x00\x01\x01"),
		"empty, after hello":    hello + many("\x16\x03\x03\x00\x00"),
		"heartbeats":            hello + many("\x18\x03\x03\x00\x03\x01\xff\xff"),
		"zeros":                 many("\x00"),
		"megabytes of handmade": "\x16\x03\x01\x40\x00" + many("\x01\x00\x00\x00"),
	} {
		t.Run(name+" ends in 8 s, unechoed", func(t *testing.T) {
			t.Parallel()
			p := g.in(t).clear(g.shared)
			go p.send(input)
			out := p.over(promised)
			if strings.Contains(out, marker) || len(out) > 0 && out[0] != 21 && out[0] != 22 {
				t.Errorf("answered with %.100q", out)
			}
		})
	}

	for name, flood := range map[string]struct {
		typ     byte
		payload string
		reply   bool // a little of it must be answered, and the rest end it
	}{
		"empty data":             {23, "", false},
		"empty handshake":        {22, "", false},
		"KeyUpdate":              {22, "\x18\x00\x00\x01\x00", false},
		"KeyUpdate with request": {22, "\x18\x00\x00\x01\x01", false},
		"warning alerts":         {21, "\x01\x5a", false},
		"hellos":                 {22, hello[5:], false},
		"unknown type":           {99, "x", false},
	} {
		t.Run("a flood of "+name+" after the handshake ends it", func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			config := g.tlsConfig(pemFile, "imap")
			s := newSealed(g.connect(g.shared), config)
			if err := s.tls.Handshake(); err != nil {
				t.Fatal(err)
			}
			for range 2000 {
				if s.write(flood.typ, []byte(flood.payload)) != nil {
					break
				}
			}
			newPeer(t, s.Conn).over(promised)
		})
	}

	t.Run("a corrupted record ends the connection and executes nothing", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			tap := &tapConn{Conn: g.connect(g.shared)}
			config := g.tlsConfig(pemFile, "imap")
			config.MaxVersion = version
			p := newPeer(t, tls.Client(tap, config))
			p.until("* PREAUTH")
			p.do(fmt.Sprint("CREATE whole", version), "OK")
			tap.corrupt.Store(true)
			p.send("t CREATE corrupted\r\n")
			if out := p.over(promised); strings.Contains(out, "OK") {
				t.Errorf("answered %q", out)
			}
		}
		out := g.imapOf(pemFile).do(`LIST "" *`, "OK")
		if strings.Contains(out, "corrupted") || !strings.Contains(out, "whole") {
			t.Errorf("the mailboxes are %s", out)
		}
	})

	t.Run("tickets and greeting come in one write", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		tap := &tapConn{Conn: g.connect(g.shared)}
		config := g.tlsConfig(pemFile, "imap")
		config.ClientSessionCache = new(oneSession) // or it wants no ticket
		newPeer(t, tls.Client(tap, config)).until("* PREAUTH")
		if n := recordsIn(tap.last); n < 2 {
			t.Errorf("the greeting came alone, with %d records", n)
		}
	})

	t.Run("close_notify after LOGOUT, QUIT and BYE", func(t *testing.T) {
		t.Parallel()
		g := g.in(t)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := func(pemFile, protocol string) *tls.Config {
				c := g.tlsConfig(pemFile, protocol)
				c.MaxVersion = version
				return c
			}
			fresh := g.secure(g.shared, config("", "imap"))
			loggedIn := g.secure(g.shared, config(pemFile, "imap"))
			quit := g.secure(g.shared, config("", "smtp"))
			foreign := g.secure(g.shared, config("", "imap"))
			errors := g.secure(g.shared, config("", "smtp"))
			fresh.send("a LOGOUT\r\n")
			loggedIn.send("a LOGOUT\r\n")
			quit.send("QUIT\r\n")
			foreign.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + strings.Repeat("x", 5000)) // BYE
			errors.send(strings.Repeat("BOGUS\r\n", 30))                                          // 421
			for name, p := range map[string]*peer{"LOGOUT": fresh, "LOGOUT after login": loggedIn, "QUIT": quit, "BYE": foreign, "421": errors} {
				if out, err := p.rest(); err != nil {
					t.Errorf("%s: %v after %q", name, err, out)
				}
			}
		}
	})

	t.Run("everybody is served afterwards", func(t *testing.T) {
		t.Cleanup(func() { g.in(t).alive(pemFile) })
	})
}

func TestHostileTickets(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop", "--name", "laptop")
	config := func(version uint16, pemFile string, protocols ...string) *tls.Config {
		c := g.tlsConfig(pemFile, protocols...)
		c.MaxVersion, c.ClientSessionCache = version, new(oneSession)
		return c
	}
	// ticket makes a session and returns a config that resumes it.
	ticket := func(c *tls.Config) *tls.Config {
		p := g.secure(g.shared, c)
		if c.NextProtos[0] == "imap" {
			p.line() // TLS 1.3 has read the ticket by then
		} else {
			p.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			_, _ = p.rest()
		}
		p.Close()
		return c
	}
	resume := func(t *testing.T, c *tls.Config) (*peer, bool) {
		t.Helper()
		p := g.in(t).secure(g.shared, c)
		return p, p.Conn.(*tls.Conn).ConnectionState().DidResume
	}
	versions := []uint16{tls.VersionTLS12, tls.VersionTLS13}

	t.Run("of one class do not resume in another", func(t *testing.T) {
		for _, v := range versions {
			for _, way := range [][2]string{{"http/1.1", "imap"}, {"http/1.1", "smtp"}, {"imap", "http/1.1"}, {"imap", "h2"}} {
				c := ticket(config(v, pemFile, way[0]))
				c.NextProtos = []string{way[1]}
				p, resumed := resume(t, c)
				if resumed {
					t.Errorf("TLS %x: a ticket of %s resumed as %s", v, way[0], way[1])
				}
				if way[1] == "imap" {
					p.until("* PREAUTH") // asked for the key, as if there were no ticket
				}
			}
		}
	})

	t.Run("forged or truncated lead to a full handshake", func(t *testing.T) {
		for _, v := range versions {
			for name, change := range map[string]func([]byte) []byte{
				"first byte": func(b []byte) []byte { b[0] ^= 1; return b },
				"middle":     func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
				"last byte":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
				"half":       func(b []byte) []byte { return b[:len(b)/2] },
				"one byte":   func(b []byte) []byte { return b[:1] },
				"longer":     func(b []byte) []byte { return append(b, make([]byte, 5000)...) },
				"zeros":      func(b []byte) []byte { clear(b); return b },
			} {
				c := ticket(config(v, pemFile, "imap"))
				cache := c.ClientSessionCache.(*oneSession)
				blob, state, err := cache.s.ResumptionState()
				if err != nil {
					t.Fatal(err)
				}
				if cache.s, err = tls.NewResumptionState(change(bytes.Clone(blob)), state); err != nil {
					t.Fatal(err)
				}
				p, resumed := resume(t, c)
				if resumed {
					t.Errorf("TLS %x, %s: resumed", v, name)
				}
				p.until("* PREAUTH")
			}
		}
	})

	t.Run("made without a key never gain one", func(t *testing.T) {
		for _, v := range versions {
			c := ticket(config(v, "", "imap"))
			pair, err := tls.LoadX509KeyPair(pemFile, pemFile)
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{pair}
			p, resumed := resume(t, c)
			if greeting := p.line(); resumed == strings.HasPrefix(greeting, "* PREAUTH") {
				t.Errorf("TLS %x: resumed: %v, greeted with %q", v, resumed, greeting)
			}
		}
	})

	t.Run("of a revoked key never log in", func(t *testing.T) {
		for _, v := range versions {
			name := fmt.Sprint("lost", v)
			lost := g.in(t).key(alice, name, "--name", name)
			c := ticket(config(v, lost, "imap"))
			submission := ticket(config(v, lost, "imap"))
			submission.NextProtos = []string{"smtp"}
			g.posthorn("key", "remove", g.fingerprint(alice, name))
			p, _ := resume(t, c)
			if greeting := p.line(); !strings.HasPrefix(greeting, "* OK") || strings.Contains(greeting, "EXTERNAL") {
				t.Errorf("TLS %x: greeted with %q", v, greeting)
			}
			p.do("AUTHENTICATE EXTERNAL =", "NO")
			p, _ = resume(t, submission)
			p.until("220 ")
			if out := p.ask("EHLO client.example", "250"); strings.Contains(out, "EXTERNAL") {
				t.Errorf("TLS %x: %s", v, out)
			}
			p.ask("AUTH EXTERNAL =", "5")
			p.ask("MAIL FROM:<"+alice+">", "530")
		}
	})

	t.Run("of a moved key log in as its new owner only", func(t *testing.T) {
		g := g.in(t)
		g.account(bob)
		moved := g.key(alice, "moved", "--name", "moved")
		c := ticket(config(tls.VersionTLS13, moved, "imap"))
		c.NextProtos = []string{"smtp"}
		text, err := os.ReadFile(moved)
		if err != nil {
			t.Fatal(err)
		}
		g.posthorn("key", "remove", g.fingerprint(alice, "moved"))
		g.posthornIn(string(text), "key", "add", bob)
		p, _ := resume(t, c)
		p.until("220 ")
		p.ask("EHLO client.example", "250")
		p.ask("AUTH EXTERNAL "+base64Of(alice), "535")
		p.ask("MAIL FROM:<"+alice+">", "550")
		p.ask("MAIL FROM:<"+bob+">", "250")
	})

	t.Run("from before a restart are no error", func(t *testing.T) {
		cs := []*tls.Config{ticket(config(tls.VersionTLS12, pemFile, "imap")), ticket(config(tls.VersionTLS13, pemFile, "imap"))}
		g.end(syscall.SIGTERM)
		g.start()
		for _, c := range cs {
			p, _ := resume(t, c)
			p.until("* PREAUTH")
		}
	})
}
