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
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/admin"
	"posthorn/backend/backendtest"
	"posthorn/certs/ech"
)

const echName = "public.example.org"

// wire is a connection that keeps what its client sends.
type wire struct {
	net.Conn
	mu   sync.Mutex
	sent bytes.Buffer // guarded by mu
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent.Write(b)
	return w.Conn.Write(b)
}

// shows reports whether what went over the wire has a name in it.
func (w *wire) shows(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.sent.Bytes(), []byte(name))
}

// hide makes a handshake that is watched.
func (g *gateway) hide(config *tls.Config) (*tls.Conn, *wire, error) {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.shared)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		g.t.Fatal(err)
	}
	w := &wire{Conn: conn}
	c := tls.Client(w, config)
	return c, w, c.Handshake()
}

// talkHidden has a word in the protocol that was hidden.
func talkHidden(t *testing.T, c *tls.Conn, protocol string) string {
	t.Helper()
	if protocol == "h2" {
		tr := &http.Transport{
			Protocols:      new(http.Protocols),
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return c, nil },
		}
		tr.Protocols.SetHTTP2(true)
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("https://imap.example.org/healthz")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err.Error()
		}
		return resp.Proto + " " + string(body)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return line
}

// TestECH hides imap, smtp and h2, on the built binary: what "ech show" prints is
// enough for that, and so is what a rejection tells.
func TestECH(t *testing.T) {
	g := certGateway(t, backendtest.Port(t), 0, "  ech:\n    public_name: "+echName+"\n")
	g.start()
	g.account("alice@example.org")
	key := g.key("alice@example.org", "alice")
	var shown admin.ECH
	if err := json.Unmarshal([]byte(g.posthorn("ech", "show", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	stale, err := ech.Generate(200, echName, 30)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(key, key)
	if err != nil {
		t.Fatal(err)
	}
	for protocol, want := range map[string]string{"imap": "* PREAUTH [CAPABILITY ", "smtp": "220 ", "h2": "HTTP/2.0 ok\n"} {
		config := &tls.Config{
			ServerName: "imap.example.org", RootCAs: g.selfSigned(), NextProtos: []string{protocol},
			Certificates: []tls.Certificate{pair}, EncryptedClientHelloConfigList: shown.ConfigList,
		}
		c, w, err := g.hide(config)
		if err != nil || !c.ConnectionState().ECHAccepted {
			t.Fatalf("%s: %v", protocol, err)
		}
		if got := talkHidden(t, c, protocol); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", protocol, got)
		}
		if w.shows("imap.example.org") || !w.shows(echName) {
			t.Errorf("%s: the wire shows the hidden name, or no public one", protocol)
		}

		config.EncryptedClientHelloConfigList = ech.List(stale)
		_, w, err = g.hide(config)
		var rejected *tls.ECHRejectionError
		if !errors.As(err, &rejected) || !bytes.Equal(rejected.RetryConfigList, shown.ConfigList) || w.shows("imap.example.org") {
			t.Fatalf("%s, with a stale key: %v", protocol, err)
		}
		config.EncryptedClientHelloConfigList = rejected.RetryConfigList
		if c, _, err := g.hide(config); err != nil || !strings.HasPrefix(talkHidden(t, c, protocol), want) {
			t.Errorf("%s, after the rejection: %v", protocol, err)
		}
		// Without ECH all is as before.
		config.EncryptedClientHelloConfigList = nil
		if c, w, err := g.hide(config); err != nil || !w.shows("imap.example.org") || !strings.HasPrefix(talkHidden(t, c, protocol), want) {
			t.Errorf("%s, in the open: %v", protocol, err)
		}
	}
	// A hidden name without ALPN is sorted by the hidden name.
	c, _, err := g.hide(&tls.Config{ServerName: "smtp.example.org", RootCAs: g.selfSigned(), EncryptedClientHelloConfigList: shown.ConfigList})
	if err != nil || !strings.HasPrefix(talkHidden(t, c, ""), "220 ") {
		t.Errorf("by name: %v", err)
	}
	tryOrigin(t, g, &shown)
}

// selfSigned are the roots for a gateway that has but the one certificate.
func (g *gateway) selfSigned() *x509.CertPool { return g.tlsConfig("").RootCAs }

// tryOrigin looks at what is published, and whether it is all the same.
func tryOrigin(t *testing.T, g *gateway, shown *admin.ECH) {
	list := base64.StdEncoding.EncodeToString(shown.ConfigList)
	at := "example.org:443:127.0.0.1:" + port(g.shared)
	var origin struct {
		Endpoints []struct {
			Params struct {
				ALPN []string
				ECH  string
			}
		}
	}
	out := g.run("", "curl", "--silent", "--show-error", "--cacert", g.ca, "--connect-to", at, "https://example.org/.well-known/origin-svcb")
	if err := json.Unmarshal([]byte(out), &origin); err != nil || len(origin.Endpoints) != 1 || origin.Endpoints[0].Params.ECH != list || origin.Endpoints[0].Params.ALPN[0] != "h2" {
		t.Errorf("origin-svcb: %v, %s", err, out)
	}
	if shown.PublicName != echName || len(shown.Records) == 0 {
		t.Errorf("ech show: %+v", shown)
	}
	alpn := make(map[string]bool)
	for _, r := range shown.Records {
		if !strings.Contains(r.Data, `ech="`+list+`"`) {
			t.Errorf("%s has no key", r)
		}
		_, rest, _ := strings.Cut(r.Data, `alpn="`)
		protocols, _, _ := strings.Cut(rest, `"`)
		alpn[protocols] = true
	}
	if !alpn["imap"] || !alpn["smtp"] || !alpn["h2,http/1.1"] {
		t.Errorf("ALPN in the records: %v", alpn)
	}
	if text := g.posthorn("ech", "show"); !strings.Contains(text, list) || !strings.Contains(text, "_imaps.imap.example.org. 3600 IN SVCB ") {
		t.Errorf("ech show:\n%s", text)
	}
}

// TestECHOff: a client that tries all the same hears that there is none.
func TestECHOff(t *testing.T) {
	g := certGateway(t, backendtest.Port(t), 0, "  self_signed: [imap.example.org]\n")
	g.start()
	if _, complaint, err := g.try("", binary, "ech", "show", "--config", g.config); err == nil || !strings.Contains(complaint, "hint: tls.ech.public_name") {
		t.Errorf("ech show: %s", complaint)
	}
	stale, err := ech.Generate(1, "example.org", 30)
	if err != nil {
		t.Fatal(err)
	}
	var rejected *tls.ECHRejectionError
	_, _, err = g.hide(&tls.Config{ServerName: "imap.example.org", RootCAs: g.selfSigned(), NextProtos: []string{"imap"}, EncryptedClientHelloConfigList: ech.List(stale)})
	if !errors.As(err, &rejected) || len(rejected.RetryConfigList) != 0 {
		t.Errorf("rejection: %v", err)
	}
	at := "example.org:443:127.0.0.1:" + port(g.shared)
	if out := g.run("", "curl", "--silent", "--cacert", g.ca, "--connect-to", at, "--output", "/dev/null", "--write-out", "%{http_code}", "https://example.org/.well-known/origin-svcb"); out != "404" {
		t.Errorf("origin-svcb: %s", out)
	}
}
