package e2e

import (
	"crypto/tls"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestHostileUnknownNames: for those who want it, a name that is not served gets
// the default certificate, and nothing else is less strict.
func TestHostileUnknownNames(t *testing.T) {
	g := newGateway(t, "tls: {unknown_name: default, min_version: \"1.3\"}\n")
	g.account(alice)
	pemFile := g.key(alice, "laptop")
	for _, address := range []string{g.shared, g.imaps} {
		for _, name := range []string{"elsewhere.example", "a/b", "x\r\ny", strings.Repeat("a.", 3000) + "b"} {
			config := g.tlsConfig(pemFile, "imap")
			config.ServerName, config.InsecureSkipVerify = name, true
			p := g.secure(address, config)
			p.until("* PREAUTH")
			p.Close()
			config.NextProtos = []string{"xmpp-client"}
			if err := tls.Client(g.connect(address), config).Handshake(); alertOf(err) != alertProtocol {
				t.Errorf("%.20q: %v", name, err)
			}
		}
		config := g.tlsConfig(pemFile, "imap")
		config.MaxVersion = tls.VersionTLS12
		if err := tls.Client(g.connect(address), config).Handshake(); alertOf(err) == "" {
			t.Errorf("TLS 1.2 with min_version 1.3: %v", err)
		}
	}
	g.end(15)
	if line := controls(g.logged()); line != "" {
		t.Errorf("a control character in the log: %q", line)
	}
}

// TestHostileProxyHeaders: only the networks that are configured for it say who
// the client is, and they say it well or not at all.
func TestHostileProxyHeaders(t *testing.T) {
	g := newGateway(t, "proxy_protocol: {from: [127.250.0.0/16]}\n")
	password := g.account(alice)
	const balancer, v2 = "127.250.0.1", "\r\n\r\n\x00\r\nQUIT\n"
	hello := string(clientHello(t, g.tlsConfig("", "imap")))

	for name, header := range map[string]string{
		"PROXY v1": "PROXY TCP4 6.6.6.6 7.7.7.7 1000 443\r\n",
		"PROXY v2": v2 + "\x21\x11\x00\x0c\x06\x06\x06\x06\x07\x07\x07\x07\x03\xe8\x01\xbb",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			c := g.connect(g.shared, balancer)
			for i := range len(header) {
				if _, err := io.WriteString(c, header[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
			tc := tls.Client(c, g.tlsConfig("", "imap"))
			p := newPeer(t, tc)
			p.until("* OK")
			p.do(`ID ("x-originating-ip" "9.9.9.9" "x-originating-port" "1")`, "OK")
			p.do("LOGIN "+alice+" "+password, "OK")
			p.do("LOGOUT", "OK")
			g.awaitLog(`"remote":"6.6.6.6:1000"`)
			if strings.Contains(g.logged(), "9.9.9.9") {
				t.Error("a client's word for its address was taken")
			}
			q := g.clear(g.shared)
			q.send(header + hello)
			if out := q.over(8*time.Second + slack); len(out) > 7 { // an alert has 7
				t.Errorf("a stranger's header was taken: %.100q", out)
			}
		})
	}
	for name, header := range map[string]string{
		"none":               "",
		"no end":             "PROXY TCP4 6.6.6.6 " + strings.Repeat("7", 200),
		"a bad address":      "PROXY TCP4 6.6.6.666 7.7.7.7 1000 443\r\n",
		"a bad port":         "PROXY TCP4 6.6.6.6 7.7.7.7 -1 443\r\n",
		"an unknown family":  "PROXY TCP5 6.6.6.6 7.7.7.7 1000 443\r\n",
		"a bare LF":          "PROXY TCP4 6.6.6.6 7.7.7.7 1000 443\n",
		"v2 too short":       v2 + "\x21\x11\x00\x04\x06\x06\x06\x06",
		"v2 version 3":       v2 + "\x31\x11\x00\x0c\x06\x06\x06\x06\x07\x07\x07\x07\x03\xe8\x01\xbb",
		"v2 with more":       v2 + "\x21\x11\xff\xff" + strings.Repeat("x", 0xffff),
		"v2 of command 9":    v2 + "\x29\x11\x00\x0c\x06\x06\x06\x06\x07\x07\x07\x07\x03\xe8\x01\xbb",
		"v2 of an odd TLV":   v2 + "\x21\x11\x00\x0f\x06\x06\x06\x06\x07\x07\x07\x07\x03\xe8\x01\xbb\x01\xff\xff",
		"one after another":  "PROXY TCP4 6.6.6.6 7.7.7.7 1000 443\r\nPROXY TCP4 6.6.6.6 7.7.7.7 1000 443\r\n",
		"the cleartext port": "",
	} {
		t.Run("malformed: "+name, func(t *testing.T) {
			t.Parallel()
			g := g.in(t)
			address, behind := g.shared, hello
			if name == "the cleartext port" {
				address, behind = g.imap, "a CAPABILITY\r\n"
			}
			p := g.clear(address, balancer)
			go p.send(header + behind)
			out := p.over(11*time.Second + slack)
			if name != "v2 of an odd TLV" && name != "v2 with more" && len(out) > 7 {
				t.Errorf("answered with %.100q", out)
			}
		})
	}
}

// TestHostilePrivacy: with log.privacy, nothing that a client does wrong brings
// an address into the log.
func TestHostilePrivacy(t *testing.T) {
	g := newGateway(t, "log: {privacy: true, level: debug}\n")
	password := g.account(alice)
	pemFile := g.key(alice, "laptop")
	hello := clientHello(t, g.tlsConfig("", "imap"))
	for _, protocol := range []string{"imap", "smtp", "http/1.1", "h2"} {
		for _, input := range []string{"", "\x00\n", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "a NOOP\r\n", "EHLO x\r\nQUIT\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxxx",
			"t LOGIN " + alice + " wrong\r\n", "t LOGIN " + alice + " " + password + "\r\n", "EHLO x\r\nAUTH PLAIN " + base64Of("\x00"+alice+"\x00wrong") + "\r\nMAIL FROM:<" + alice + ">\r\n",
			"EHLO x\r\nMAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\nRCPT TO:<" + alice + ">\r\nDATA\r\nFrom: " + bob + "\r\n\r\n.\r\n"} {
			for _, key := range []string{"", pemFile} {
				p := g.secure(g.shared, g.tlsConfig(key, protocol))
				p.send(input)
				_ = p.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				_, _ = p.rest()
				_ = p.Conn.(*tls.Conn).NetConn().Close() // with bytes unread: a reset
			}
		}
	}
	p := g.clear(g.shared)
	p.send(string(hello[:20]))
	p.Close()
	g.posthorn("key", "list", alice)
	g.posthorn("account", "address", "add", alice, "other@localhost")
	g.posthorn("account", "disable", alice)
	g.end(15)
	log := g.logged()
	_, log, _ = strings.Cut(log, "There are no accounts yet.") // which listening addresses come before
	_, log, _ = strings.Cut(log, "openssl s_client")
	_, log, _ = strings.Cut(log, "\n")
	for line := range strings.Lines(log) {
		if at := private.FindString(line); at != "" {
			t.Errorf("%q in %s", at, line)
		}
	}
	if !strings.Contains(log, `"message":"connection"`) {
		t.Errorf("no connections in the log: %.500s", log)
	}
}

var private = regexp.MustCompile(`127\.[0-9]+\.[0-9]+\.[0-9]+|alice@|bob@|other@`)
