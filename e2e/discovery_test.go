package e2e

import (
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// discovered is a gateway with two domains and all that can be looked for.
func discovered(t *testing.T) *gateway {
	t.Helper()
	g := prepareGateway(t, `
hostname: mail.example.org
domains: [example.org, example.net]
web_names: {autoconfig: true, mta_sts: x1}
tls: {names: [autodiscover.example.org, www.example.org]}
mta_sts: {mode: enforce, mx: [mx.example.org]}
security_txt: {contact: ["mailto:security@example.org"], expires: "`+time.Now().AddDate(0, 6, 0).Format(time.DateOnly)+`"}
signup: {domains: [example.org], per_source: 2, total: 2}
`)
	g.name = "mail.example.org"
	g.start()
	return g
}

// look runs curl with the gateway in the place of every host.
func (g *gateway) look(args ...string) string {
	g.t.Helper()
	at := "::127.0.0.1:" + port(g.shared)
	return g.run("", "curl", append([]string{"--silent", "--show-error", "--cacert", g.ca, "--connect-to", at, "--max-time", "60"}, args...)...)
}

func TestDiscoveryWithCurl(t *testing.T) {
	g := discovered(t)
	const body = "<Autodiscover xmlns='http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006'><Request><EMailAddress>%s</EMailAddress></Request></Autodiscover>"
	shared := port(g.shared)
	for _, version := range []string{"--http1.1", "--http2"} {
		for _, c := range []struct {
			want string // the status, and a part of the answer
			args []string
		}{
			{"200 <hostname>imap.example.org</hostname>", []string{"https://autoconfig.example.org/mail/config-v1.1.xml?emailaddress=me%40example.org"}},
			{"200 <hostname>imap.example.net</hostname>", []string{"https://example.net/.well-known/autoconfig/mail/config-v1.1.xml"}},
			{"404 ", []string{"https://example.net/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=me@elsewhere.test"}},
			{"404 ", []string{"https://www.example.org/.well-known/autoconfig/mail/config-v1.1.xml"}},
			{"200 <LoginName>me@example.org</LoginName>", []string{"--data", fmt.Sprintf(body, "me@example.org"), "-H", "Content-Type: text/xml", "https://autodiscover.example.org/Autodiscover/Autodiscover.xml"}},
			{"200 <Server>imap.example.org</Server>", []string{"https://example.org/autodiscover/autodiscover.xml"}},
			{"404 <ErrorCode>500</ErrorCode>", []string{"--data", fmt.Sprintf(body, "me@elsewhere.test"), "https://example.org/autodiscover/autodiscover.xml"}},
			{"400 <ErrorCode>600</ErrorCode>", []string{"--data", "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>" + fmt.Sprintf(body, "&b;"), "https://example.org/autodiscover/autodiscover.xml"}},
			{"200 https://example.org:" + shared + "/autodiscover/autodiscover.xml", []string{"https://example.org/autodiscover/autodiscover.json?Email=me@example.org&Protocol=AutodiscoverV1"}},
			{"400 InvalidProtocol", []string{"https://example.org/autodiscover/autodiscover.json/v1.0/me@example.org?Protocol=EWS"}},
			{"200 com.apple.mail.managed", []string{"https://example.org/email.mobileconfig?email=me@example.org"}},
			{"200 version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmax_age: 604800\r\n", []string{"https://mta-sts.example.net/.well-known/mta-sts.txt"}},
			{"200 Contact: mailto:security@example.org\r\nExpires: ", []string{"https://mail.example.org/.well-known/security.txt"}},
			{"404 ", []string{"https://www.example.org/.well-known/security.txt"}},
			{"302 ", []string{"https://example.org/new"}},
			{"404 ", []string{"--data", "", "https://example.net/new"}},
		} {
			got := g.look(append([]string{version, "--write-out", "\n%{http_code}"}, c.args...)...)
			i := strings.LastIndexByte(got, '\n')
			status, part, _ := strings.Cut(c.want, " ")
			if got[i+1:] != status || !strings.Contains(got[:i], part) {
				t.Errorf("%s %v: got %s", version, c.args, got)
			}
		}
	}
	to := g.look("--output", "/dev/null", "--write-out", "%{redirect_url}", "https://example.org/new")
	if to != "dcaccount:https://example.org:"+shared+"/new" {
		t.Errorf("a browser is sent to %q", to)
	}
	for i, want := range []string{"200", "200", "429"} {
		if got := g.look("--data", "", "--output", "/dev/null", "--write-out", "%{http_code}", "https://example.org/new"); got != want {
			t.Errorf("sign-up %d: %s", i+1, got)
		}
	}
}

// listed is a server as the autoconfiguration document tells of it.
type listed struct {
	Type           string   `xml:"type,attr"`
	Host           string   `xml:"hostname"`
	Port           int      `xml:"port"`
	Security       string   `xml:"socketType"`
	Authentication []string `xml:"authentication"`
}

// TestEveryServerListed: each server in the document takes a connection under the
// name that it has there, without ALPN, and every login that is promised.
func TestEveryServerListed(t *testing.T) {
	g := discovered(t)
	password, key := g.account("me@example.org"), g.key("me@example.org", "me")
	var document struct {
		Incoming []listed `xml:"emailProvider>incomingServer"`
		Outgoing []listed `xml:"emailProvider>outgoingServer"`
	}
	text := g.look("https://autoconfig.example.org/mail/config-v1.1.xml")
	if err := xml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Incoming) != 3 || len(document.Outgoing) != 3 || fmt.Sprint(document.Incoming[0].Port) != port(g.shared) || fmt.Sprint(document.Outgoing[0].Port) != port(g.shared) {
		t.Fatalf("got %s", text)
	}
	for _, s := range document.Incoming {
		for _, method := range s.Authentication {
			if err := g.logInToIMAP(s, method, password, key); err != nil {
				t.Errorf("%s:%d %s, %s: %v", s.Host, s.Port, s.Security, method, err)
			}
		}
	}
	for _, s := range document.Outgoing {
		for _, method := range s.Authentication {
			if err := g.logInToSubmission(s, method, password, key); err != nil {
				t.Errorf("%s:%d %s, %s: %v", s.Host, s.Port, s.Security, method, err)
			}
		}
	}
}

// tlsFor is the TLS of a client that shows a key if the method wants one.
func (g *gateway) tlsFor(s listed, method, key string) *tls.Config {
	if method == "password-cleartext" {
		key = ""
	}
	c := g.tlsConfig(key)
	c.ServerName = s.Host
	return c
}

func (g *gateway) logInToIMAP(s listed, method, password, key string) error {
	at, config := fmt.Sprintf("127.0.0.1:%d", s.Port), g.tlsFor(s, method, key)
	dial, greeting := imapclient.DialTLS, "PREAUTH"
	if s.Security == "STARTTLS" {
		dial, greeting = imapclient.DialStartTLS, "OK"
	}
	c, err := dial(at, &imapclient.Options{TLSConfig: config})
	if err != nil {
		return err
	}
	defer c.Close()
	if method == "password-cleartext" {
		return c.Login("me@example.org", password).Wait()
	}
	if greeting == "OK" {
		return c.Authenticate(sasl.NewExternalClient(""))
	}
	return c.Noop().Wait() // the key has logged in
}

func (g *gateway) logInToSubmission(s listed, method, password, key string) error {
	at, config := fmt.Sprintf("127.0.0.1:%d", s.Port), g.tlsFor(s, method, key)
	dial := smtp.DialTLS
	if s.Security == "STARTTLS" {
		dial = smtp.DialStartTLS
	}
	c, err := dial(at, config)
	if err != nil {
		return err
	}
	defer c.Close()
	if method == "password-cleartext" {
		return c.Auth(sasl.NewPlainClient("", "me@example.org", password))
	}
	return c.Auth(sasl.NewExternalClient(""))
}

// What is not for the gateway's names is not answered, however the request says it.
func TestDiscoveryHosts(t *testing.T) {
	g := discovered(t)
	const target = "/.well-known/autoconfig/mail/config-v1.1.xml"
	for _, c := range []struct{ sni, request, want string }{
		{"example.org", "GET " + target + " HTTP/1.1\r\nHost: example.org", "200"},
		{"example.org", "GET https://example.org" + target + " HTTP/1.1\r\nHost: evil.test", "200"},
		{"example.org", "GET https://evil.test" + target + " HTTP/1.1\r\nHost: example.org", "421"},
		{"example.org", "GET " + target + " HTTP/1.1\r\nHost: example.net", "421"},
		{"example.org", "GET " + target + " HTTP/1.1\r\nHost: [example.org]", "400"},
		{"example.org", "GET " + target + " HTTP/1.1\r\nHost: EXAMPLE.org.", "200"},
		{"example.org", "GET /.well-known/../.well-known/autoconfig/mail/config-v1.1.xml HTTP/1.1\r\nHost: example.org", "400"},
		{"example.org", "GET /%2ewell-known/autoconfig/mail/config-v1.1.xml HTTP/1.1\r\nHost: example.org", "200"},
		{"example.org", "GET //autodiscover/autodiscover.xml HTTP/1.1\r\nHost: example.org", "400"},
	} {
		conn, err := tls.Dial("tcp", g.shared, &tls.Config{ServerName: c.sni, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprintf(conn, "%s\r\nConnection: close\r\n\r\n", c.request)
		if got := firstStatus(conn); got != c.want {
			t.Errorf("%q: got %s, want %s", c.request, got, c.want)
		}
		conn.Close()
	}
}

func firstStatus(c net.Conn) string {
	var version, status string
	fmt.Fscan(c, &version, &status)
	return status
}

// TestChatmailAutoconfig: Delta Chat is led to a relay's domain on 443, under which
// the relay has a certificate and an address, and then to the ports that the relay
// has kept.
func TestChatmailAutoconfig(t *testing.T) {
	t.Parallel()
	r := startChatmail(t, "127.0.0.1:1")
	text := r.look("https://example.org/.well-known/autoconfig/mail/config-v1.1.xml")
	var document struct {
		Incoming []listed `xml:"emailProvider>incomingServer"`
		Outgoing []listed `xml:"emailProvider>outgoingServer"`
	}
	if err := xml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range append(document.Incoming, document.Outgoing...) {
		got = append(got, fmt.Sprintf("%s:%d", s.Host, s.Port))
	}
	want := fmt.Sprintf("[example.org:%[1]s example.org:993 example.org:%[1]s example.org:465]", port(r.shared))
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestUntrustedNameIsLeftOut: where only the host has a certificate, clients are
// not sent to a name that has none.
func TestUntrustedNameIsLeftOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "both.pem")
	pairFile(t, file, 1)
	for _, c := range []struct{ more, first string }{
		{"", "localhost:imaps"}, {"autoconfig: {alpn: true}\n", "localhost:shared"},
	} {
		g := newGateway(t, "tls: {files: [{cert: "+file+"}]}\n"+c.more)
		text := g.look("--insecure", "https://localhost/.well-known/autoconfig/mail/config-v1.1.xml")
		var document struct {
			Incoming []listed `xml:"emailProvider>incomingServer"`
		}
		if err := xml.Unmarshal([]byte(text), &document); err != nil || len(document.Incoming) == 0 {
			t.Fatalf("%v: %s", err, text)
		}
		s := document.Incoming[0]
		want := strings.NewReplacer("imaps", port(g.imaps), "shared", port(g.shared)).Replace(c.first)
		if got := fmt.Sprintf("%s:%d", s.Host, s.Port); got != want || strings.Contains(text, "imap.localhost") {
			t.Errorf("%q: clients are sent to %s, want %s", c.more, got, want)
		}
	}
}
