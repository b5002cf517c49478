package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/await"
	"posthorn/certs"
	"posthorn/certs/acmetest"
	"posthorn/store"
	"posthorn/store/storetest"
)

// The first certificates come while clients of all protocols knock. They are
// turned away at once until there is one for their name, and served after that.
func TestFirstIssue(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port()})
	names := []string{"mail.example.org", "imap.example.org", "smtp.example.org"}
	m := newManager(t, acmeConfig(ca, names...))
	g.serve(m)

	var clients sync.WaitGroup
	for i, protocol := range []string{"imap", "smtp", "h2"} {
		clients.Go(func() {
			refused, pace := 0, time.Tick(10*time.Millisecond)
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
				start := time.Now()
				leaf, greeting, err := g.dial(&tls.Config{ServerName: names[i], RootCAs: ca.Issuers, NextProtos: []string{protocol}})
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("%s: a handshake took %v", protocol, took)
				}
				switch {
				case err == nil && greeting == protocol && leaf.DNSNames[0] == names[i] && leaf.PublicKeyAlgorithm == x509.ECDSA:
					return
				case isAlert(err, unrecognizedName):
					refused++
					<-pace
				default:
					t.Errorf("%s: %q, %v", protocol, greeting, err)
					return
				}
			}
			t.Errorf("%s: no certificate after %d attempts", protocol, refused)
		})
	}
	clients.Wait()
	await.Within(t, 30*time.Second, "all are obtained", func() bool { return obtained(m) })
	if leaf, err := g.get(ca, "mail.example.org", "imap"); err != nil {
		t.Error(leaf, err)
	}
	leaf, _, err := g.dial(&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"imap"}})
	if err != nil || leaf.DNSNames[0] != names[0] {
		t.Errorf("without SNI: %v", err)
	}
	// Nobody but the CA gets to acme-tls/1, and nobody now.
	if _, _, err := g.dial(&tls.Config{ServerName: names[0], InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}}); !isAlert(err, noApplicationProtocol) {
		t.Errorf("acme-tls/1 without a challenge: %v", err)
	}
	if got := slices.Sorted(slices.Values(ca.Orders())); !slices.Equal(got, slices.Sorted(slices.Values(names))) {
		t.Errorf("ordered: %v", got)
	}
}

// Alerts of RFC 8446 section 6.
const (
	unrecognizedName      = tls.AlertError(112)
	noApplicationProtocol = tls.AlertError(120)
)

func isAlert(err error, want tls.AlertError) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" && remote.Err.Error() == want.Error()
}

func TestHTTP01(t *testing.T) {
	t.Parallel()
	var m *certs.Manager
	port80 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.HTTPHandler(http.RedirectHandler("https://example.org/", http.StatusFound)).ServeHTTP(w, r)
	}))
	defer port80.Close()
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port80.Listener.Addr().(*net.TCPAddr).Port})
	config := acmeConfig(ca, "mail.example.org")
	config.ACME.HTTP01 = true
	m = newManager(t, config)
	run(t, m)
	await.Within(t, 30*time.Second, "a certificate by http-01", func() bool { return obtained(m) })

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for path, want := range map[string]int{"/": http.StatusFound, "/.well-known/acme-challenge/x": http.StatusNotFound} {
		res := must(client.Get(port80.URL + path))
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
}

// Certificates are renewed before they end, for the same key, and no client
// sees anything of it.
func TestRenewalByCA(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port(), Validity: 18 * time.Second})
	m := newManager(t, acmeConfig(ca, "mail.example.org"))
	g.serve(m)
	await.Within(t, 30*time.Second, "a certificate", func() bool { return obtained(m) })
	first := m.Status()[0]
	if left := time.Until(first.NextRenewal); left > 12*time.Second || left < 6*time.Second {
		t.Errorf("renewal is due in %v", left)
	}
	pace := time.Tick(50 * time.Millisecond)
	for renewed := false; !renewed; <-pace {
		leaf, err := g.get(ca, "mail.example.org", "imap")
		if err != nil {
			t.Fatal(err)
		}
		if s := m.Status()[0]; s.NotAfter.After(first.NotAfter) {
			if s.SPKI != first.SPKI {
				t.Error("the key has changed")
			}
			first = s
			renewed = true
		}
		if time.Now().After(leaf.NotAfter) {
			t.Fatal("not renewed in time")
		}
	}
	if orders := ca.Orders(); len(orders) != 2 {
		t.Errorf("ordered: %v", orders)
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port(), Validity: 6 * time.Second})
	ca.Override(acmetest.Down)
	m := newManager(t, acmeConfig(ca, "mail.example.org"))
	m.SetBackoff(200 * time.Millisecond)
	g.serve(m)
	failing := func() bool { return m.Status()[0].Err != nil }
	await.Within(t, 30*time.Second, "the outage shows", failing)
	if _, err := g.get(ca, "mail.example.org", "imap"); !isAlert(err, unrecognizedName) {
		t.Errorf("without a certificate: %v", err)
	}
	ca.Override(nil)
	await.Within(t, 30*time.Second, "a certificate after the outage", func() bool { return obtained(m) && !failing() })

	old := m.Status()[0]
	ca.Override(acmetest.Down)
	await.Within(t, 30*time.Second, "the second outage shows", failing)
	await.Within(t, 30*time.Second, "the certificate expires", func() bool { return time.Now().After(old.NotAfter) })
	leaf, _, err := g.dial(&tls.Config{ServerName: "mail.example.org", InsecureSkipVerify: true, NextProtos: []string{"imap"}})
	if err != nil || !leaf.NotAfter.Equal(old.NotAfter) {
		t.Errorf("the expired certificate is not served: %v", err)
	}
	ca.Override(nil)
	await.Within(t, 30*time.Second, "a certificate after the second outage", func() bool {
		_, err := g.get(ca, "mail.example.org", "imap")
		return err == nil
	})
	if now := m.Status()[0]; now.SPKI != old.SPKI {
		t.Error("the key has changed")
	}
}

// One name that fails does not keep the others waiting, nor is it tried over
// and over.
func TestOneNameFails(t *testing.T) { // not in parallel: it changes the DNS
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port(), Blocked: []string{"bad.example.org"}})
	ca.DNS.AddDNSServFailRecord("gone.example.org.")
	m := newManager(t, acmeConfig(ca, "gone.example.org", "bad.example.org", "mail.example.org"))
	g.serve(m)
	await.Within(t, 30*time.Second, "two fail, one does not", func() bool {
		s := m.Status()
		return s[0].Err != nil && s[1].Err != nil && !s[2].NotAfter.IsZero()
	})
	for _, s := range m.Status()[:2] {
		if wait := time.Until(s.NextRenewal); wait < 14*time.Minute || wait > 20*time.Minute {
			t.Errorf("%s: tried again after %v", s.Name, wait)
		}
	}
	if !strings.Contains(m.Status()[0].Err.Error(), "tls-alpn-01") {
		t.Errorf("the error does not name the reason: %v", m.Status()[0].Err)
	}
	if err := m.Renew(t.Context(), "bad.example.org"); err == nil {
		t.Error("a blocked name was renewed")
	}
	if err := m.Renew(t.Context(), "mail.example.org"); err != nil {
		t.Error(err)
	}
	if n := len(m.Status()); n != 3 {
		t.Errorf("%d", n)
	}
}

// A restart goes on with what the store has, encrypted or not, without asking
// the CA for anything.
func TestRestart(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port()})
	config := acmeConfig(ca, "mail.example.org", "imap.example.org")
	config.ACME.RSA = []string{"imap.example.org"}
	config.Store = storetest.Memory(t)
	config.KeyFile = keyFile(t)
	config.ECHPublicName = "mail.example.org"
	m := newManager(t, config)
	g.serve(m)
	await.Within(t, 30*time.Second, "all certificates", func() bool { return obtained(m) })
	await.Within(t, 30*time.Second, "all are in the store", func() bool {
		chains := 0
		for key := range records(t, config.Store) {
			if strings.HasPrefix(key, "cert/acme/") && strings.HasSuffix(key, "/chain") {
				chains++
			}
		}
		return chains == 3
	})
	before := m.Status()
	// Every visit begins at the directory. The first manager's goes on: autocert lets
	// go of the authorizations of an order behind its caller's back.
	var visits atomic.Int32
	ca.Override(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(ca.Directory, r.URL.Path) {
			visits.Add(1)
		}
		return false
	})

	stored := records(t, config.Store)
	config.Now = newClock().time // not the bubble's, for which all certificates are of the future
	synctest.Test(t, func(t *testing.T) {
		config.Store = storetest.Memory(t)
		err := config.Store.Update(t.Context(), func(tx store.Tx) (err error) {
			for key, value := range stored {
				err = errors.Join(err, tx.Put(key, value))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		again := newManager(t, config)
		runOnce(t, again)
		for i, s := range again.Status() {
			if s.SPKI != before[i].SPKI || !s.NotAfter.Equal(before[i].NotAfter) || s.Issuer == "" || !s.NextRenewal.Equal(before[i].NextRenewal) {
				t.Errorf("%+v, before: %+v", s, before[i])
			}
		}
		checkSealed(t, config)
	})
	if n := visits.Load(); n > 0 {
		t.Errorf("%d visits to the CA after the restart", n)
	}
}

func TestBinding(t *testing.T) {
	for what, test := range map[string]struct {
		id   string
		good bool
	}{"none": {"", false}, "good": {"kid", true}, "unknown": {"other", false}} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := listen(t)
			ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port(), EABKeyID: "kid", EABKey: make([]byte, 32)})
			config := acmeConfig(ca, "mail.example.org")
			config.ACME.EABKeyID, config.ACME.EABKey = test.id, make([]byte, 32)
			m := newManager(t, config)
			g.serve(m)
			await.Within(t, 30*time.Second, "an outcome", func() bool { return m.Status()[0].Err != nil || obtained(m) })
			if obtained(m) != test.good {
				t.Error(m.Status()[0].Err)
			}
		})
	}
}

func TestTermsMustBeAgreed(t *testing.T) {
	config := certs.Config{Names: []string{"mail.example.org"}, ACME: &certs.ACME{}, Store: storetest.Memory(t)}
	if _, err := certs.New(t.Context(), config); !errors.Is(err, certs.ErrTerms) {
		t.Error(err)
	}
}

// However many names strangers ask for, the CA hears of those configured alone,
// and of those only once.
func TestHostPolicy(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port()})
	config := acmeConfig(ca, "mail.example.org", "localhost", "_chat.example.org", "192.0.2.1", "own.example.org", "file.example.org")
	config.SelfSigned = []string{"own.example.org"}
	config.Files = []certs.Files{testPair(t, t.TempDir(), "file", ecKey(), farOff, "file.example.org")}
	m := newManager(t, config)
	g.serve(m)
	var clients sync.WaitGroup
	for _, protocol := range []string{"", "imap", "acme-tls/1"} {
		clients.Go(func() {
			config := &tls.Config{InsecureSkipVerify: true}
			if protocol != "" {
				config.NextProtos = []string{protocol}
			}
			for _, name := range []string{"other.example.org", "mail.example.org", "example.org", "www.mail.example.org", "mail.example.com"} {
				for range 5 {
					config.ServerName = name
					_, _, _ = g.dial(config) // whatever comes of it
				}
			}
		})
	}
	clients.Wait()
	await.Within(t, 30*time.Second, "the certificate", func() bool { return obtained(m) })
	if orders := ca.Orders(); !slices.Equal(orders, []string{"mail.example.org"}) {
		t.Errorf("ordered: %v", orders)
	}
	want := []certs.Source{certs.FromACME, certs.SelfSigned, certs.SelfSigned, certs.SelfSigned, certs.SelfSigned, certs.FromFiles}
	for i, s := range m.Status() {
		if s.Source != want[i] {
			t.Errorf("%s: %s", s.Name, s.Source)
		}
	}
	if err := m.Renew(t.Context(), "file.example.org"); !errors.Is(err, certs.ErrNotRenewable) {
		t.Error(err)
	}
	if err := m.Renew(t.Context(), "other.example.org"); !errors.Is(err, certs.ErrNotServed) {
		t.Error(err)
	}
}

func keyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	writeFile(t, path, strings.Repeat("secret", 8))
	return path
}
