package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/certs"
	"posthorn/certs/ech"
	"posthorn/loopback"
	"posthorn/store/storetest"
)

const (
	publicName = "public.example.org"
	hiddenName = "imap.example.org"
)

// recorder is a net.Conn that keeps what its owner writes.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	sent bytes.Buffer // guarded by mu
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.sent.Write(b)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// echServer is a listener as mux has it: a base config that picks another one by
// what the inner hello says.
func echServer(t *testing.T, m *certs.Manager) (address string, seen func() *tls.ClientHelloInfo) {
	t.Helper()
	var (
		mu   sync.Mutex
		last *tls.ClientHelloInfo
	)
	base := &tls.Config{GetEncryptedClientHelloKeys: m.ECHKeys, SessionTicketsDisabled: true}
	base.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		last = h
		mu.Unlock()
		route, err := new(alpn.Router).Route(alpn.Shared, h.SupportedProtos, h.ServerName)
		if err != nil {
			return nil, err
		}
		c := route.TLSConfig(tls.VersionTLS12)
		c.GetCertificate, c.GetEncryptedClientHelloKeys = m.GetCertificate, m.ECHKeys
		return c, nil
	}
	ln := must(tls.Listen("tcp", "127.0.0.1:0", base))
	loopback.ServeOn(t, ln, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // it is a TCP connection
		if err := c.(*tls.Conn).Handshake(); err != nil {
			return // the client's error is the one that counts
		}
		_, _ = io.WriteString(c, c.(*tls.Conn).ConnectionState().NegotiatedProtocol)
	})
	return ln.Addr().String(), func() *tls.ClientHelloInfo {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}

// hello makes a handshake and returns the state, the greeting, and what the
// client sent on the wire.
func hello(t *testing.T, address string, config *tls.Config) (tls.ConnectionState, string, []byte, error) {
	t.Helper()
	wire := &recorder{Conn: must(net.Dial("tcp", address))}
	conn := tls.Client(wire, config)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := conn.HandshakeContext(ctx)
	var greeting []byte
	if err == nil {
		greeting, err = io.ReadAll(conn)
	}
	wire.mu.Lock()
	defer wire.mu.Unlock()
	return conn.ConnectionState(), string(greeting), bytes.Clone(wire.sent.Bytes()), err
}

func echManager(t *testing.T, c certs.Config) (*certs.Manager, *x509.CertPool) {
	t.Helper()
	c.Names = []string{publicName, hiddenName}
	c.ECHPublicName = publicName
	m := newManager(t, c)
	roots := x509.NewCertPool()
	leaf, _ := m.Default()
	roots.AddCert(leaf)
	return m, roots
}

// A client that hides its server name behind ECH gets to its protocol, and who
// watches sees the public name alone.
func TestECHAccepted(t *testing.T) {
	m, roots := echManager(t, certs.Config{})
	address, seen := echServer(t, m)
	for _, protocol := range []string{"imap", "smtp", "h2"} {
		state, greeting, wire, err := hello(t, address, &tls.Config{
			ServerName: hiddenName, RootCAs: roots, NextProtos: []string{protocol}, EncryptedClientHelloConfigList: m.ECHConfigList(),
		})
		if err != nil || !state.ECHAccepted || greeting != protocol {
			t.Errorf("%s: accepted: %v, %q, %v", protocol, state.ECHAccepted, greeting, err)
		}
		if bytes.Contains(wire, []byte(hiddenName)) || !bytes.Contains(wire, []byte(publicName)) {
			t.Errorf("%s: the wire shows the hidden name, or no public one", protocol)
		}
		if h := seen(); h.ServerName != hiddenName || h.SupportedProtos[0] != protocol {
			t.Errorf("%s: routed by %q, %q", protocol, h.ServerName, h.SupportedProtos)
		}
	}
	for what, config := range map[string]*tls.Config{
		"without ECH": {ServerName: hiddenName, RootCAs: roots, NextProtos: []string{"imap"}},
		"TLS 1.2":     {ServerName: hiddenName, RootCAs: roots, NextProtos: []string{"imap"}, MaxVersion: tls.VersionTLS12},
	} {
		state, greeting, _, err := hello(t, address, config)
		if err != nil || greeting != "imap" || state.ECHAccepted {
			t.Errorf("%s: %q, %v", what, greeting, err)
		}
	}
}

// A client with a key that is no longer accepted is told the new one, and gets
// in with that.
func TestECHRejected(t *testing.T) {
	m, roots := echManager(t, certs.Config{})
	address, _ := echServer(t, m)
	stale := must(ech.Generate(7, publicName, 100))
	for _, protocol := range []string{"imap", "smtp", "h2"} {
		config := &tls.Config{
			ServerName: hiddenName, RootCAs: roots, NextProtos: []string{protocol}, EncryptedClientHelloConfigList: ech.List(stale),
		}
		_, _, wire, err := hello(t, address, config)
		var rejected *tls.ECHRejectionError
		if !errors.As(err, &rejected) || !bytes.Equal(rejected.RetryConfigList, m.ECHConfigList()) {
			t.Fatalf("%s: %v", protocol, err)
		}
		if bytes.Contains(wire, []byte(hiddenName)) {
			t.Errorf("%s: the wire shows the hidden name", protocol)
		}
		config.EncryptedClientHelloConfigList = rejected.RetryConfigList
		if state, greeting, _, err := hello(t, address, config); err != nil || !state.ECHAccepted || greeting != protocol {
			t.Errorf("%s, with the retry configs: %q, %v", protocol, greeting, err)
		}
	}
}

// Where ECH is off, a client that tries it hears so in a handshake that is good
// for the public name.
func TestECHOff(t *testing.T) {
	m := newManager(t, certs.Config{Names: []string{publicName, hiddenName}})
	if m.ECHConfigList() != nil {
		t.Error("there is an ECHConfigList")
	}
	roots := x509.NewCertPool()
	leaf, _ := m.Default()
	roots.AddCert(leaf)
	address, _ := echServer(t, m)
	_, _, _, err := hello(t, address, &tls.Config{
		ServerName: hiddenName, RootCAs: roots, NextProtos: []string{"imap"},
		EncryptedClientHelloConfigList: ech.List(must(ech.Generate(1, publicName, 0))),
	})
	var rejected *tls.ECHRejectionError
	if !errors.As(err, &rejected) || len(rejected.RetryConfigList) != 0 {
		t.Error(err)
	}
}

// Keys are published for a month and accepted for three, over restarts, and a
// new public name makes a new one at once.
func TestECHRotation(t *testing.T) {
	kv, c := storetest.Memory(t), newClock()
	start := func(public string) *certs.Manager {
		return newManager(t, certs.Config{Names: []string{"localhost", publicName}, ECHPublicName: public, Store: kv, Now: c.time})
	}
	first := start(publicName).ECHConfigList()
	for _, test := range []struct {
		days     int
		same     bool
		accepted int
	}{{1, true, 1}, {29, true, 1}, {31, false, 2}, {62, false, 3}, {89, false, 3}, {91, false, 2}} {
		c.set(time.Duration(test.days) * 24 * time.Hour)
		m := start(publicName)
		keys := must(m.ECHKeys(nil))
		held := false
		for i, k := range keys {
			held = held || bytes.Equal(k.Config, first[2:])
			if k.SendAsRetry != (i == 0) {
				t.Errorf("day %d: key %d is sent as retry: %v", test.days, i, k.SendAsRetry)
			}
		}
		if bytes.Equal(m.ECHConfigList(), first) != test.same || len(keys) != test.accepted || held != (test.days < 90) {
			t.Errorf("day %d: published: %v, %d keys, the first among them: %v",
				test.days, bytes.Equal(m.ECHConfigList(), first), len(keys), held)
		}
	}
	before := len(must(start(publicName).ECHKeys(nil)))
	m := start("localhost")
	if _, name, err := ech.Parse(m.ECHConfigList()[2:]); err != nil || name != "localhost" || len(must(m.ECHKeys(nil))) != before+1 {
		t.Errorf("another public name: %q, %v", name, err)
	}
}

func TestECHPublicName(t *testing.T) {
	for name, want := range map[string]error{
		"other.example.org": certs.ErrNotServed, "_chat.example.org": ech.ErrPublicName, "192.0.2.1": ech.ErrPublicName,
	} {
		config := certs.Config{Names: []string{"localhost", "_chat.example.org", "192.0.2.1"}, Store: storetest.Memory(t), ECHPublicName: name}
		if _, err := certs.New(t.Context(), config); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "-a.example", "a-.example", "A.example", "a..b", "1.2", "a.b.7", strings.Repeat("a.", 130) + "b"} {
		if _, err := ech.Generate(0, name, 0); !errors.Is(err, ech.ErrPublicName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
