package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"posthorn/admin"
	"posthorn/await"
	"posthorn/backend/backendtest"
	"posthorn/certs/acmetest"
)

// certGateway makes a gateway for example.org that has yet to be started, on
// ports of which a CA may know: the shared one, and one for HTTP unless it is
// zero. More is added to the part "tls" of its config. "localhost" is among its
// names, and not one for a CA.
func certGateway(t testing.TB, shared, plain int, more string) *gateway {
	t.Helper()
	http := ""
	if plain != 0 {
		http = fmt.Sprintf("%q", fmt.Sprintf("127.0.0.1:%d", plain))
	}
	return gatewayIn(t, t.TempDir(), func(data string) string {
		return fmt.Sprintf(`
data_dir: %s
domains: [example.org]
public_addresses: [192.0.2.1]
listen:
  shared: ["127.0.0.1:%d"]
  imaps: []
  submissions: []
  http: [%s]
tls:
  names: [localhost]
`, data, shared, http) + more
	})
}

// acmeKeys are those of a config that orders from a CA.
func acmeKeys(ca *acmetest.CA) string {
	return fmt.Sprintf("  acme:\n    agree_terms: true\n    email: postmaster@example.org\n    directory: %s\n    ca: %s\n", ca.Directory, ca.RootsFile)
}

// certs returns what "cert list" or "cert show NAME" tells.
func (g *gateway) certs(args ...string) (all []admin.Cert) {
	g.t.Helper()
	if err := json.Unmarshal([]byte(g.posthorn(append([]string{"cert"}, append(args, "--json")...)...)), &all); err != nil {
		g.t.Fatal(err)
	}
	return all
}

// awaitCerts waits until what holds for n certificates.
func (g *gateway) awaitCerts(n int, what func(admin.Cert) bool) {
	g.t.Helper()
	await.Within(g.t, time.Minute, fmt.Sprintf("%d certificates are as they should", n), func() bool {
		return len(slices.DeleteFunc(g.certs("list"), func(c admin.Cert) bool { return !what(c) })) == n
	})
}

func hasCert(c admin.Cert) bool { return !c.NotAfter.IsZero() }

// greets connects to the shared port and reports what it is greeted with, or for
// HTTP answered, and the certificate.
func (g *gateway) greets(config *tls.Config) (string, *x509.Certificate, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", g.shared, config)
	if err != nil {
		return "", nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // a socket that is open
	if p := config.NextProtos; len(p) > 0 && p[0] == "http/1.1" {
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", config.ServerName)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), c.ConnectionState().PeerCertificates[0], err
}

// greetings are how lines begin with which protocols greet, or HTTP answers.
var greetings = map[string]string{"imap": "* OK [CAPABILITY ", "smtp": "220 ", "http/1.1": "HTTP/1.1 200 OK"}

// knock connects under localhost, again and again with each protocol, until the
// function that it returns is called. No connection may fail.
func (g *gateway) knock() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for protocol, want := range greetings {
		config := g.tlsConfig("", protocol)
		clients.Go(func() {
			for pace := time.Tick(20 * time.Millisecond); ctx.Err() == nil; {
				if got, _, err := g.greets(config); err != nil || !strings.HasPrefix(got, want) {
					g.t.Errorf("%s, meanwhile: %q, %v", protocol, got, err)
					return
				}
				select {
				case <-pace:
				case <-ctx.Done():
				}
			}
		})
	}
	return func() {
		cancel()
		clients.Wait()
	}
}

// TestACMEOverTLS has a CA certify every name over the one port there is, while
// clients use it.
func TestACMEOverTLS(t *testing.T) {
	p := backendtest.Port(t)
	secret := bytes.Repeat([]byte("k"), 32)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: p, EABKeyID: "kid-1", EABKey: secret})
	t.Setenv("SSL_CERT_FILE", ca.IssuersFile) // what the gateway takes for the usual CAs
	eab := secretFile(t, base64.StdEncoding.EncodeToString(secret))
	g := certGateway(t, p, 0, acmeKeys(ca)+"    eab_key_id: kid-1\n    eab_key_file: "+eab+"\n    rsa: [smtp.example.org]\n")
	ca.Override(acmetest.Down)
	g.start()
	if _, _, err := g.greets(&tls.Config{ServerName: "imap.example.org", InsecureSkipVerify: true, NextProtos: []string{"imap"}}); alertOf(err) != alertName {
		t.Errorf("a name without a certificate: %v", err)
	}
	g.awaitCerts(5, func(c admin.Cert) bool { return c.Error != "" })
	if out := g.posthorn("status"); !strings.Contains(out, "none yet: the CA has not issued one") {
		t.Errorf("status without a certificate:\n%s", out)
	}
	stop := g.knock()
	ca.Override(nil)
	for _, name := range []string{"example.org", "imap.example.org", "smtp.example.org", "submission.example.org"} {
		g.posthorn("cert", "renew", name)
	}
	g.awaitCerts(6, hasCert)
	stop()

	for protocol, want := range greetings {
		for _, name := range []string{"example.org", "imap.example.org", "smtp.example.org"} {
			got, _, err := g.greets(&tls.Config{ServerName: name, RootCAs: ca.Issuers, NextProtos: []string{protocol}})
			if err != nil || !strings.HasPrefix(got, want) {
				t.Errorf("%s at %s: %q, %v", protocol, name, got, err)
			}
		}
	}
	onlyRSA := &tls.Config{ServerName: "smtp.example.org", RootCAs: ca.Issuers, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	if _, leaf, err := g.greets(onlyRSA); err != nil || leaf.PublicKeyAlgorithm != x509.RSA {
		t.Errorf("RSA: %v", err)
	}
	if n := len(ca.Orders()); n != 5 { // one of them twice, for RSA
		t.Errorf("%d orders: %v", n, ca.Orders())
	}
	for _, name := range []string{"example.org", "stranger.example.org"} {
		if _, _, err := g.greets(&tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}}); alertOf(err) != alertProtocol {
			t.Errorf("acme-tls/1 for %s, when nothing is pending: %v", name, err)
		}
	}
	tryRenewal(t, g, ca)
	tryCheck(t, g)

	orders := len(ca.Orders())
	g.end(syscall.SIGTERM)
	g.start()
	if got, _, err := g.greets(&tls.Config{ServerName: "imap.example.org", RootCAs: ca.Issuers, NextProtos: []string{"imap"}}); err != nil {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	if n := len(ca.Orders()); n != orders {
		t.Errorf("the restart ordered %d certificates", n-orders)
	}
	if log := g.logged(); strings.Contains(log, "a2tra2") || strings.Contains(log, "panic") {
		t.Error("the log has the key, or a panic")
	}
}

// tryRenewal renews by command, and looks at what becomes of the key.
func tryRenewal(t *testing.T, g *gateway, ca *acmetest.CA) {
	config := &tls.Config{ServerName: "imap.example.org", RootCAs: ca.Issuers, NextProtos: []string{"imap"}}
	_, before, err := g.greets(config)
	if err != nil {
		t.Fatal(err)
	}
	renewed := g.certs("renew", "imap.example.org")
	_, after, err := g.greets(config)
	if err != nil || after.SerialNumber.Cmp(before.SerialNumber) == 0 || !bytes.Equal(after.RawSubjectPublicKeyInfo, before.RawSubjectPublicKeyInfo) {
		t.Errorf("renewed: %v, from %x to %x", err, before.SerialNumber, after.SerialNumber)
	}
	shown := g.certs("show", "IMAP.example.org.")
	if len(shown) != 1 || !shown[0].NotAfter.Equal(after.NotAfter) || shown[0].Source != "acme" || shown[0].Issuer == "" ||
		!shown[0].NextRenewal.After(time.Now()) || shown[0].Fingerprint != renewed[0].Fingerprint {
		t.Errorf("shown: %+v", shown)
	}
	ca.Override(func(w http.ResponseWriter, r *http.Request) bool {
		if !acmetest.IsOrder(r) {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no\u001b[31m more"}`)
		return true
	})
	_, complaint, err := g.try("", binary, "cert", "renew", "imap.example.org", "--config", g.config)
	ca.Override(nil)
	if err == nil || !strings.Contains(complaint, "rejectedIdentifier") || strings.Contains(complaint, "\x1b") || !strings.Contains(complaint, "hint: ") {
		t.Errorf("a CA that refuses: %v, %q", err, complaint)
	}
	if shown := g.certs("show", "imap.example.org"); shown[0].Error == "" || !shown[0].NotAfter.Equal(after.NotAfter) {
		t.Errorf("after a refusal: %+v", shown)
	}
	if out := g.run("", "curl", "-s", "--unix-socket", "data/admin.sock", "http://posthorn/metrics"); !strings.Contains(out,
		`posthorn_certificate_expiry_seconds{key="rsa",name="smtp.example.org",source="acme"}`) || !strings.Contains(out, `posthorn_certificate_renewals_total{result="ok"} 6`) {
		t.Errorf("metrics: %s", out)
	}
}

// tryCheck looks at names from outside: where all is well, and where it is not.
func tryCheck(t *testing.T, g *gateway) {
	var good []struct {
		Problems []string
		DNS      []json.RawMessage
	}
	out := g.posthorn("cert", "check", "imap.example.org", "example.org", "--address", g.shared, "--json")
	if err := json.Unmarshal([]byte(out), &good); err != nil || len(good) != 2 || len(good[0].Problems) != 0 || len(good[0].DNS) == 0 {
		t.Errorf("check: %v, %s", err, out)
	}
	other := httptest.NewTLSServer(nil)
	defer other.Close()
	for address, want := range map[string]string{
		other.Listener.Addr().String():                   "shows another key",
		"127.0.0.1:" + strconv.Itoa(backendtest.Port(t)): "refused",
	} {
		out, complaint, err := g.try("", binary, "cert", "check", "imap.example.org", "--address", address, "--config", g.config)
		if err == nil || !strings.Contains(out, want) || !strings.HasPrefix(complaint, "error: ") {
			t.Errorf("check at %s: %v, %s%s", address, err, out, complaint)
		}
	}
	if out, _, err := g.try("", binary, "cert", "check", "localhost", "--address", g.shared, "--config", g.config); err == nil || !strings.Contains(out, "unknown authority") {
		t.Errorf("a self-signed one: %v, %s", err, out)
	}
}

// TestACMEOverHTTP: the CA does not get through to 443, and comes to port 80,
// which otherwise redirects.
func TestACMEOverHTTP(t *testing.T) {
	p, plain := backendtest.Port(t), backendtest.Port(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: backendtest.Port(t), HTTPPort: plain})
	ca.DNS.AddDNSARecord("smtp.example.org.", []string{"127.0.0.9"}) // where nobody is
	g := certGateway(t, p, plain, acmeKeys(ca)+"    http01: true\n")
	g.start()
	g.awaitCerts(4, hasCert)
	g.awaitCerts(1, func(c admin.Cert) bool { return c.Error != "" })
	if got, _, err := g.greets(&tls.Config{ServerName: "imap.example.org", RootCAs: ca.Issuers, NextProtos: []string{"imap"}}); err != nil {
		t.Errorf("%q, %v", got, err)
	}
	// One that the CA cannot validate stops none of the others, and is not asked for at
	// every handshake.
	if c := g.certs("show", "smtp.example.org")[0]; c.Error == "" || !c.NotAfter.IsZero() || time.Until(c.NextRenewal) < time.Minute {
		t.Errorf("not validated: %+v", c)
	}
	requests := ca.Requests()
	for range 20 {
		if _, _, err := g.greets(&tls.Config{ServerName: "smtp.example.org", InsecureSkipVerify: true, NextProtos: []string{"smtp"}}); alertOf(err) != alertName {
			t.Fatal(err)
		}
	}
	if n := ca.Requests(); n != requests {
		t.Errorf("handshakes made %d requests to the CA", n-requests)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for host, want := range map[string]int{"imap.example.org": http.StatusPermanentRedirect, "evil.example": http.StatusMisdirectedRequest} {
		r, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d/x?y", plain), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if to := resp.Header.Get("Location"); resp.StatusCode != want || to != "" && to != fmt.Sprintf("https://%s:%d/x?y", host, p) {
			t.Errorf("%s: %s, %q", host, resp.Status, to)
		}
	}
}

// TestACMERenewal: certificates that last for seconds are renewed while clients
// come and a connection stays; and when the CA is away, the last ones are served
// beyond their end.
func TestACMERenewal(t *testing.T) {
	p := backendtest.Port(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: p, Validity: 6 * time.Second})
	g := certGateway(t, p, 0, acmeKeys(ca))
	g.start()
	g.awaitCerts(5, hasCert)
	stop := g.knock()
	served := func() *x509.Certificate {
		_, leaf, err := g.greets(&tls.Config{ServerName: "imap.example.org", InsecureSkipVerify: true, NextProtos: []string{"imap"}})
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	first := served()
	eventually(t, "it is renewed", func() bool { return served().SerialNumber.Cmp(first.SerialNumber) != 0 })
	second := served()
	if !second.NotBefore.Before(first.NotAfter) || !bytes.Equal(first.RawSubjectPublicKeyInfo, second.RawSubjectPublicKeyInfo) {
		t.Errorf("renewed at %v, %v being the end of the first, or with another key", second.NotBefore, first.NotAfter)
	}
	ca.Override(acmetest.Down)
	eventually(t, "the last one is served beyond its end", func() bool { return time.Now().After(served().NotAfter) })
	stop()
	if c := g.certs("show", "imap.example.org")[0]; !strings.Contains(c.Error, "503") || !c.NextRenewal.After(time.Now()) {
		t.Errorf("shown: %+v", c)
	}
}

// TestACMEWithoutPort80: http-01 with nowhere to answer it is a mistake.
func TestACMEWithoutPort80(t *testing.T) {
	g := certGateway(t, backendtest.Port(t), 0, "  acme: {agree_terms: true, http01: true}\n")
	_, complaint, err := g.try("", binary, "serve", "--config", g.config)
	if err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(complaint, "hint: listen.http names one") {
		t.Errorf("%v, %s", err, complaint)
	}
}
