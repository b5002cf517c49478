package certs_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/certs"
	"posthorn/store"
	"posthorn/store/storetest"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newManager(t testing.TB, c certs.Config) *certs.Manager {
	t.Helper()
	if c.Store == nil {
		c.Store = storetest.Memory(t)
	}
	m, err := certs.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// handshake makes a real one and returns the leaf that the client saw.
func handshake(t *testing.T, m *certs.Manager, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	server := tls.Server(b, &tls.Config{GetCertificate: m.GetCertificate})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Handshake() // the client's error is the one that counts
		b.Close()
	}()
	client = client.Clone()
	client.InsecureSkipVerify = true
	c := tls.Client(a, client)
	err := c.Handshake()
	a.Close()
	<-done
	if err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// testPair writes a self-signed pair for names and returns its files.
func testPair(t testing.TB, dir, name string, key crypto.Signer, notAfter time.Time, names ...string) certs.Files {
	t.Helper()
	template := &x509.Certificate{DNSNames: names, NotBefore: time.Unix(0, 0), NotAfter: notAfter}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	f := certs.Files{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
	write(t, f.Cert, "CERTIFICATE", der)
	write(t, f.Key, "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
	return f
}

func write(t testing.TB, path, label string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func ecKey() crypto.Signer  { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }
func rsaKey() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) }

var farOff = time.Now().Add(365 * 24 * time.Hour)

func TestSelfSigned(t *testing.T) {
	kv := storetest.Memory(t)
	names := []string{"localhost", "imap.example.org", "192.0.2.1"}
	m := newManager(t, certs.Config{Names: names, Store: kv})
	leaf, fingerprint := m.Default()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, name := range []string{"", "localhost", "imap.example.org", "IMAP.Example.Org"} {
			got, err := handshake(t, m, &tls.Config{ServerName: name, MaxVersion: version})
			if err != nil || !got.Equal(leaf) {
				t.Errorf("%q: %v, %v", name, got, err)
			}
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, name := range append(names, "127.0.0.1", "::1") {
		opts := x509.VerifyOptions{DNSName: name, Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if _, err := leaf.Verify(opts); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if days := leaf.NotAfter.Sub(leaf.NotBefore).Hours() / 24; days > 825 || days < 365 {
		t.Errorf("valid for %v days", days)
	}
	if fingerprint != sha256.Sum256(leaf.RawSubjectPublicKeyInfo) {
		t.Errorf("fingerprint %v", fingerprint)
	}

	again, _ := newManager(t, certs.Config{Names: names, Store: kv}).Default()
	if !again.Equal(leaf) {
		t.Error("a restart made another certificate")
	}
	other, key := newManager(t, certs.Config{Names: names[:1], Store: kv}).Default()
	if other.Equal(leaf) || key != fingerprint {
		t.Errorf("other names: same certificate %v, same key %v", other.Equal(leaf), key == fingerprint)
	}
}

func TestDamagedKeyIsNotReplaced(t *testing.T) {
	kv := storetest.Memory(t)
	newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv})
	ctx := t.Context()
	err := kv.Update(ctx, func(tx store.Tx) error { return tx.Put("cert/self-signed/key", []byte("damaged")) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs.New(ctx, certs.Config{Names: []string{"localhost"}, Store: kv}); err == nil {
		t.Error("no error")
	}
	if v, err := kv.Get(ctx, "cert/self-signed/key"); err != nil || string(v) != "damaged" {
		t.Errorf("the key was replaced: %v", err)
	}
}

func TestUnknownName(t *testing.T) {
	m := newManager(t, certs.Config{Names: []string{"localhost", "127.0.0.1"}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		_, err := handshake(t, m, &tls.Config{ServerName: "example.com", MaxVersion: version})
		const unrecognizedName = tls.AlertError(112) // RFC 6066
		var remote *net.OpError
		if !errors.As(err, &remote) || remote.Op != "remote error" || remote.Err.Error() != unrecognizedName.Error() {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	strange := []string{
		"example.com", "localhost.example", "localhos", "localhost\x00", "localhost\r\n", "127.0.0.1", "::1", "[::1]",
		".", "..", ".localhost", "localhost..", "*", "*.localhost", "../localhost", "LOCALHOST/", strings.Repeat("a", 1e5), "\xff",
	}
	for _, name := range strange {
		c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		if c != nil || err != nil || m.Serves(name) {
			t.Errorf("%.20q: %v, %v, served: %v", name, c != nil, err, m.Serves(name))
		}
	}
	for _, name := range []string{"", "localhost", "LocalHost", "localhost."} {
		if c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); c == nil || err != nil || !m.Serves(name) {
			t.Errorf("%q: %v, %v", name, c != nil, err)
		}
	}
	m = newManager(t, certs.Config{Names: []string{"localhost"}, UnknownNameDefault: true})
	if !m.Named("LocalHost.") || m.Named("") {
		t.Error("a name is not what Config.Names says")
	}
	for _, name := range strange {
		if c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); c == nil || err != nil || !m.Serves(name) {
			t.Errorf("default for %.20q: %v, %v", name, c != nil, err)
		}
		if m.Named(name) { // where port 80 would send clients
			t.Errorf("%.20q is a name", name)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	files := []certs.Files{
		testPair(t, dir, "rsa", rsaKey(), farOff, "example.org", "*.example.org"),
		testPair(t, dir, "old", ecKey(), time.Now().Add(-time.Hour), "*.example.org"),
		testPair(t, dir, "ed", ed, farOff, "example.org"),
		testPair(t, dir, "ec", ecKey(), farOff, "example.org"),
		testPair(t, dir, "expired", ecKey(), time.Now().Add(-time.Hour), "expired.example.net"),
	}
	kv := storetest.Memory(t)
	names := []string{"example.org", "imap.example.org", "a.b.example.org", "expired.example.net"}
	m := newManager(t, certs.Config{Names: names, Files: files, Store: kv})
	onlyRSA := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, test := range []struct {
		client *tls.Config
		want   x509.PublicKeyAlgorithm
		names  []string
	}{
		{&tls.Config{ServerName: "example.org"}, x509.ECDSA, []string{"example.org"}},
		{&tls.Config{ServerName: ""}, x509.ECDSA, []string{"example.org"}},
		{&tls.Config{ServerName: "example.org", MaxVersion: tls.VersionTLS12, CipherSuites: onlyRSA}, x509.RSA, []string{"example.org", "*.example.org"}},
		{&tls.Config{ServerName: "imap.example.org"}, x509.RSA, []string{"example.org", "*.example.org"}},
		{&tls.Config{ServerName: "a.b.example.org"}, x509.ECDSA, []string{"a.b.example.org"}},
		{&tls.Config{ServerName: "expired.example.net"}, x509.ECDSA, []string{"expired.example.net"}},
	} {
		got, err := handshake(t, m, test.client)
		if err != nil || got.PublicKeyAlgorithm != test.want || strings.Join(got.DNSNames, " ") != strings.Join(test.names, " ") {
			t.Errorf("%q: %v, %v; want %v for %v", test.client.ServerName, got, err, test.want, test.names)
		}
	}
}

func TestOneFileForBoth(t *testing.T) {
	f := testPair(t, t.TempDir(), "pair", ecKey(), farOff, "example.org")
	both := append(must(os.ReadFile(f.Cert)), must(os.ReadFile(f.Key))...)
	if err := os.WriteFile(f.Cert, both, 0o600); err != nil {
		t.Fatal(err)
	}
	m := newManager(t, certs.Config{Names: []string{"example.org"}, Files: []certs.Files{{Cert: f.Cert}}})
	if leaf, _ := m.Default(); leaf.NotAfter.Unix() != farOff.Unix() {
		t.Errorf("got another certificate, valid until %v", leaf.NotAfter)
	}
}

func TestNewErrors(t *testing.T) {
	dir := t.TempDir()
	good := testPair(t, dir, "good", ecKey(), farOff, "example.org")
	other := testPair(t, dir, "other", ecKey(), farOff, "example.org")
	encrypted := filepath.Join(dir, "encrypted")
	write(t, encrypted, "ENCRYPTED PRIVATE KEY", []byte("x"))
	names := []string{"example.org"}
	for what, test := range map[string]struct {
		config certs.Config
		want   error  // or
		text   string // that the error names
	}{
		"no name":       {certs.Config{}, certs.ErrBadName, ""},
		"upper case":    {certs.Config{Names: []string{"Example.org"}}, certs.ErrBadName, "Example.org"},
		"wildcard":      {certs.Config{Names: []string{"*.example.org"}}, certs.ErrBadName, ""},
		"final dot":     {certs.Config{Names: []string{"example.org."}}, certs.ErrBadName, ""},
		"long label":    {certs.Config{Names: []string{strings.Repeat("a", 64)}}, certs.ErrBadName, ""},
		"ECH name":      {certs.Config{Names: names, ECHPublicName: "example.net"}, certs.ErrNotServed, "example.net"},
		"own name":      {certs.Config{Names: names, SelfSigned: []string{"example.net"}}, certs.ErrNotServed, "example.net"},
		"RSA name":      {certs.Config{Names: names, ACME: &certs.ACME{AgreeTerms: true, RSA: []string{"example.net"}}}, certs.ErrNotServed, "example.net"},
		"no file":       {certs.Config{Names: names, Files: []certs.Files{{dir + "/none", good.Key}}}, fs.ErrNotExist, dir + "/none"},
		"no key file":   {certs.Config{Names: names, Files: []certs.Files{{good.Cert, dir + "/none"}}}, fs.ErrNotExist, dir + "/none"},
		"encrypted key": {certs.Config{Names: names, Files: []certs.Files{{good.Cert, encrypted}}}, certs.ErrEncryptedKey, encrypted},
		"no key":        {certs.Config{Names: names, Files: []certs.Files{{good.Cert, good.Cert}}}, nil, good.Cert},
		"other's key":   {certs.Config{Names: names, Files: []certs.Files{good, {good.Cert, other.Key}}}, nil, other.Key},
	} {
		test.config.Store = storetest.Memory(t)
		_, err := certs.New(t.Context(), test.config)
		if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	a := testPair(t, dir, "a", ecKey(), farOff, "a.example")
	b := testPair(t, dir, "b", ecKey(), farOff, "b.example")
	m := newManager(t, certs.Config{Names: []string{"a.example", "b.example", "c.example"}, Files: []certs.Files{a, b}})
	seen := func(name string) *x509.Certificate {
		return must(handshake(t, m, &tls.Config{ServerName: name}))
	}
	oldA, oldB, oldC := seen("a.example"), seen("b.example"), seen("c.example")

	testPair(t, dir, "b", ecKey(), farOff, "b.example")
	if err := os.WriteFile(a.Key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), a.Key) || strings.Contains(err.Error(), b.Key) {
		t.Errorf("Reload with one broken pair: %v", err)
	}
	if !seen("a.example").Equal(oldA) || seen("b.example").Equal(oldB) || !seen("c.example").Equal(oldC) {
		t.Error("the broken pair did not stay, or the good one did not change")
	}

	// A file that now covers c ends the self-signed certificate for it.
	testPair(t, dir, "a", ecKey(), farOff, "a.example", "c.example")
	if err := m.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if c := seen("c.example"); !c.Equal(seen("a.example")) {
		t.Errorf("c.example gets %v", c.DNSNames)
	}
}

func TestReloadDuringHandshakes(t *testing.T) {
	f := testPair(t, t.TempDir(), "a", ecKey(), farOff, "a.example")
	m := newManager(t, certs.Config{Names: []string{"a.example", "b.example"}, Files: []certs.Files{f}})
	done := make(chan error)
	go func() {
		var err error
		for range 20 {
			err = errors.Join(err, m.Reload(t.Context()))
		}
		done <- err
	}()
	for reloading := true; reloading; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			reloading = false
		default:
			for _, name := range []string{"a.example", "b.example", ""} {
				if c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); c == nil || err != nil {
					t.Fatal(c, err)
				}
			}
		}
	}
}

// clock is a Config.Now that a test sets. It stands still.
type clock struct {
	start  time.Time
	passed atomic.Int64 // nanoseconds
}

func newClock() *clock { return &clock{start: time.Now()} }

func (c *clock) time() time.Time { return c.start.Add(time.Duration(c.passed.Load())) }

// set sets the clock to d after its start.
func (c *clock) set(d time.Duration) { c.passed.Store(int64(d)) }

// runOnce lets m.Run have its first round. It is to be called in a synctest
// bubble, where the hour until then takes a moment; days would take long, as the
// store is never idle.
func runOnce(t *testing.T, m *certs.Manager) {
	t.Helper()
	stop := start(t, m)
	time.Sleep(time.Hour + time.Second)
	stop()
}

// start runs m until the function that it returns is called, which waits for the end.
func start(t *testing.T, m *certs.Manager) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestRenewal(t *testing.T) {
	kv, c := storetest.Memory(t), newClock()
	manager := func() *certs.Manager {
		return newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv, Now: c.time})
	}
	first, key := manager().Default()
	for _, test := range []struct {
		days    int
		renewed bool
	}{{1, false}, {755, false}, {765, true}, {2000, true}} {
		c.set(time.Duration(test.days) * 24 * time.Hour)
		now, keyNow := manager().Default()
		if now.Equal(first) == test.renewed || keyNow != key || now.NotAfter.Before(c.time().Add(30*24*time.Hour)) {
			t.Errorf("day %d: renewed: %v, same key: %v, until %v", test.days, !now.Equal(first), keyNow == key, now.NotAfter)
		}
	}
}

func TestRunRenewsAndRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		m := newManager(t, certs.Config{Names: []string{"localhost"}, Store: storetest.Memory(t), Now: c.time})
		first, key := m.Default()
		tickets := m.TicketKeys(alpn.Mail)
		c.set(800 * 24 * time.Hour)
		runOnce(t, m)
		if now, keyNow := m.Default(); now.Equal(first) || keyNow != key {
			t.Errorf("renewed: %v, same key: %v", !now.Equal(first), keyNow == key)
		}
		if now := m.TicketKeys(alpn.Mail); len(now) != 1 || now[0] == tickets[0] {
			t.Errorf("%d ticket keys, rotated: %v", len(now), now[0] != tickets[0])
		}
	})
}

// A clock that was in the future when the certificate was made must not leave
// one behind that is not valid yet.
func TestClockWasAhead(t *testing.T) {
	kv := storetest.Memory(t)
	c := newClock()
	c.set(10 * 365 * 24 * time.Hour)
	ahead := newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv, Now: c.time})
	future, key := ahead.Default()
	m := newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv})
	if now, keyNow := m.Default(); now.Equal(future) || keyNow != key || now.NotBefore.After(time.Now()) {
		t.Errorf("valid from %v, same key: %v", now.NotBefore, keyNow == key)
	}
	if m.TicketKeys(alpn.Mail)[0] == ahead.TicketKeys(alpn.Mail)[0] {
		t.Error("a ticket key from the future is in use")
	}
}

func TestExpiryIsLogged(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]struct {
		notAfter time.Time
		warns    bool
	}{
		"expired": {time.Now().Add(-time.Hour), true},
		"soon":    {time.Now().Add(24 * time.Hour), true},
		"fine":    {farOff, false},
	} {
		f := testPair(t, dir, name, ecKey(), want.notAfter, "example.org")
		var log strings.Builder
		newManager(t, certs.Config{Names: []string{"example.org"}, Files: []certs.Files{f}, Log: zerolog.New(&log)})
		if got := strings.Contains(log.String(), f.Cert); got != want.warns {
			t.Errorf("%s: %s", name, log.String())
		}
	}
}
