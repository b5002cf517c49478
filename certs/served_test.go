package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/certs"
	"posthorn/certs/acmetest"
	"posthorn/mux/muxtest"
	"posthorn/store"
	"posthorn/store/storetest"
)

// One certificate is ordered for a name, and one more where RSA is configured;
// clients of TLS 1.3 and of ECH get the ECDSA one.
func TestKeyTypesByClientHello(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port()})
	config := acmeConfig(ca, publicName, hiddenName, "other.example.org")
	config.ACME.RSA = []string{hiddenName}
	config.ECHPublicName = publicName
	m := newManager(t, config)
	g.serve(m)
	await.Within(t, 30*time.Second, "all are obtained", func() bool { return obtained(m) })
	if orders := slices.Sorted(slices.Values(ca.Orders())); !slices.Equal(orders, []string{hiddenName, hiddenName, "other.example.org", publicName}) {
		t.Errorf("ordered: %v", orders)
	}
	address, _ := echServer(t, m)
	onlyRSA := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for what, test := range map[string]struct {
		config *tls.Config
		want   x509.PublicKeyAlgorithm // unknown: unrecognized_name
	}{
		"TLS 1.3 only": {&tls.Config{ServerName: hiddenName, MinVersion: tls.VersionTLS13}, x509.ECDSA},
		"ECH":          {&tls.Config{ServerName: hiddenName, EncryptedClientHelloConfigList: m.ECHConfigList()}, x509.ECDSA},
		"TLS 1.2":      {&tls.Config{ServerName: hiddenName, MaxVersion: tls.VersionTLS12}, x509.ECDSA},
		"RSA":          {&tls.Config{ServerName: hiddenName, MaxVersion: tls.VersionTLS12, CipherSuites: onlyRSA}, x509.RSA},
	} {
		test.config.RootCAs, test.config.NextProtos = ca.Issuers, []string{"imap"}
		state, _, _, err := hello(t, address, test.config)
		if err != nil || state.PeerCertificates[0].PublicKeyAlgorithm != test.want {
			t.Errorf("%s: %v", what, err)
		}
	}
	if orders := ca.Orders(); len(orders) != 4 {
		t.Errorf("clients made the gateway order: %v", orders)
	}
}

// Files that change under load cost no handshake, and are served soon after.
func TestFilesChangeUnderLoad(t *testing.T) {
	handshakes := int64(10_000)
	if testing.Short() {
		handshakes = 1000
	}
	dir := t.TempDir()
	pair := testPair(t, dir, "a", ecKey(), farOff, "a.example")
	m := newManager(t, certs.Config{Names: []string{"a.example"}, Files: []certs.Files{pair}})
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
				testPair(t, dir, "a", ecKey(), farOff, "a.example")
				_ = m.Reload(context.Background()) // fails when it finds half of a pair
			}
		}
	}()
	var (
		clients sync.WaitGroup
		left    atomic.Int64
		failed  atomic.Int64
	)
	left.Store(handshakes)
	for range 2 * runtime.GOMAXPROCS(0) {
		clients.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := handshake(t, m, &tls.Config{ServerName: "a.example"}); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	clients.Wait()
	close(done)
	<-stopped
	if n := failed.Load(); n != 0 {
		t.Errorf("%d of %d handshakes failed", n, handshakes)
	}
}

// Changed files are noticed without a signal, half of a pair is not taken for
// one, and what is broken is said once.
func TestFilesAreWatched(t *testing.T) {
	dir := t.TempDir()
	pair := testPair(t, dir, "a", ecKey(), farOff, "a.example")
	var log muxtest.Log
	m := newManager(t, certs.Config{Names: []string{"a.example"}, Files: []certs.Files{pair}, Store: storetest.Memory(t), Log: zerolog.New(&log)})
	served := func() *x509.Certificate { return must(handshake(t, m, &tls.Config{ServerName: "a.example"})) }
	synctest.Test(t, func(t *testing.T) {
		stop := start(t, m)
		time.Sleep(20 * time.Second)
		first := served()

		old := must(os.ReadFile(pair.Key))
		testPair(t, dir, "a", ecKey(), farOff, "a.example")
		fresh := must(os.ReadFile(pair.Key))
		writeFile(t, pair.Key, string(old)+"\n") // as if the new key were not written yet
		time.Sleep(time.Minute)
		if !served().Equal(first) {
			t.Error("half of a pair is served")
		}
		if n := strings.Count(log.String(), "cannot be read"); n != 1 {
			t.Errorf("the broken pair was mentioned %d times", n)
		}
		writeFile(t, pair.Key, string(fresh))
		time.Sleep(20 * time.Second)
		if served().Equal(first) {
			t.Error("the new pair is not served")
		}
		stop()
	})
}

// The log warns 20, 10, 3 and 1 days before the end, once each, and every day
// after it.
func TestWarnings(t *testing.T) {
	var log muxtest.Log
	c := newClock()
	pair := testPair(t, t.TempDir(), "a", ecKey(), c.start.Add(30*24*time.Hour), "a.example", "b.example")
	m := newManager(t, certs.Config{Names: []string{"a.example"}, Files: []certs.Files{pair}, Now: c.time, Log: zerolog.New(&log)})
	var days []string
	for hour := range 34 * 24 {
		c.set(time.Duration(hour) * time.Hour)
		before := len(log.String())
		if err := m.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if text := log.String()[before:]; text != "" {
			days = append(days, fmt.Sprint(30-hour/24))
			if strings.Count(text, "\n") != 1 || strings.Contains(text, `"error"`) != (hour >= 30*24) || !strings.Contains(text, "a.example") {
				t.Errorf("hour %d: %s", hour, text)
			}
		}
	}
	if got := strings.Join(days, " "); got != "20 10 3 1 0 -1 -2 -3" {
		t.Errorf("days with warnings: %s", got)
	}
}

// A pair that has been replaced by another one is none to be warned of.
func TestNoWarningOfWhatIsNotServed(t *testing.T) {
	var log muxtest.Log
	c, dir := newClock(), t.TempDir()
	old := testPair(t, dir, "old", ecKey(), c.start.Add(-time.Hour), "a.example")
	fresh := testPair(t, dir, "fresh", ecKey(), c.start.Add(90*24*time.Hour), "a.example")
	newManager(t, certs.Config{
		Names: []string{"a.example"}, Files: []certs.Files{old, fresh}, Now: c.time, Log: zerolog.New(&log),
	})
	if log.String() != "" {
		t.Error(log.String())
	}
}

func TestMetrics(t *testing.T) {
	c := newClock()
	f := testPair(t, t.TempDir(), "a", ecKey(), c.start.Add(24*time.Hour), "a.example")
	m := newManager(t, certs.Config{Names: []string{"a.example", "localhost"}, Files: []certs.Files{f}, Now: c.time})
	r := prometheus.NewRegistry()
	r.MustRegister(m.Collectors()...)
	c.set(25 * time.Hour)
	got := make(map[string]float64)
	for _, family := range must(r.Gather()) {
		for _, metric := range family.Metric {
			key := family.GetName()
			for _, l := range metric.Label {
				key += " " + l.GetValue()
			}
			got[key] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	if s := got["posthorn_certificate_expiry_seconds ecdsa a.example file"]; s > -3599 || s < -3602 {
		t.Errorf("expired an hour ago: %v", s)
	}
	if got["posthorn_certificate_expiry_seconds ecdsa localhost self-signed"] < 800*24*3600 {
		t.Errorf("%v", got)
	}
	for _, result := range []string{"ok", "failed"} {
		if n, ok := got["posthorn_certificate_renewals_total "+result]; !ok || n != 0 {
			t.Errorf("%v", got)
		}
	}
}

// A start with thousands of names in the store takes a moment, and what is held
// for each of them is small, also when all have been asked for.
func TestManyNames(t *testing.T) {
	const names = 10_000
	kv := storetest.Memory(t)
	config := certs.Config{ACME: &certs.ACME{AgreeTerms: true}, Store: kv}
	for i := range names {
		config.Names = append(config.Names, fmt.Sprintf("host-%d.mail.example.org", i))
	}
	first := newManager(t, certs.Config{Names: config.Names[:1], ACME: config.ACME, Store: kv}) // makes the account
	fillStore(t, kv, first, config.Names)

	before := heap()
	start := time.Now()
	m := newManager(t, config)
	took := time.Since(start)
	for _, name := range config.Names {
		if c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); c == nil || err != nil || c.Leaf.DNSNames[0] != name {
			t.Fatal(name, err)
		}
	}
	each := (heap() - before) / names
	t.Logf("start: %v; a name: %d bytes", took, each)
	if each > 10<<10 {
		t.Errorf("%d bytes a name", each)
	}
	if took > 5*time.Second {
		t.Errorf("starting took %v", took)
	}
	runtime.KeepAlive(m)
}

func heap() int64 {
	var s runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// fillStore puts a certificate for each name where the CA's would stand, with an
// intermediate of the usual size.
func fillStore(t *testing.T, kv store.KV, m *certs.Manager, names []string) {
	t.Helper()
	dir := t.TempDir()
	issuer := must(tls.LoadX509KeyPair(pairOf(testPair(t, dir, "issuer", ecKey(), farOff, "issuer.example"))))
	key := ecKey()
	for len(names) > 0 {
		batch := names[:min(len(names), 50)]
		names = names[len(batch):]
		err := kv.Update(t.Context(), func(tx store.Tx) error {
			for _, name := range batch {
				if err := m.Put(tx, name, key, issuer); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func pairOf(f certs.Files) (cert, key string) { return f.Cert, f.Key }

func TestOriginHandler(t *testing.T) {
	m, _ := echManager(t, certs.Config{})
	get := func(m *certs.Manager) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		m.OriginHandler().ServeHTTP(w, httptest.NewRequest("GET", certs.OriginPath, nil))
		return w
	}
	var got struct {
		RegenInterval float64
		Endpoints     []struct {
			Priority int
			Params   struct {
				ALPN []string
				ECH  []byte
			}
		}
	}
	w := get(m)
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d, %v", w.Code, err)
	}
	e := got.Endpoints
	if got.RegenInterval != 86400 || len(e) != 1 || e[0].Priority != 1 || !slices.Equal(e[0].Params.ALPN, []string{"h2", "http/1.1"}) ||
		string(e[0].Params.ECH) != string(m.ECHConfigList()) {
		t.Errorf("%+v", got)
	}
	if w := get(newManager(t, certs.Config{Names: []string{"localhost"}})); w.Code != 404 {
		t.Errorf("without ECH: %d", w.Code)
	}
}

// Check sees what a client would, and tells the gateway from others.
func TestCheck(t *testing.T) {
	m, roots := echManager(t, certs.Config{})
	address, _ := echServer(t, m)
	probe := certs.ProbeConfig{Name: hiddenName, Address: address, Protocol: alpn.IMAP, Roots: roots, ECHConfigList: m.ECHConfigList()}
	p, err := m.Check(t.Context(), probe)
	if err != nil || !p.ECH || p.Name != hiddenName || p.Address != address || p.NotAfter.IsZero() {
		t.Errorf("%+v, %v", p, err)
	}
	probe.Roots, probe.ECHConfigList = nil, nil
	var unknown x509.UnknownAuthorityError
	if p, err := m.Check(t.Context(), probe); !errors.As(err, &unknown) || p.ECH {
		t.Errorf("with the system's roots: %v", err)
	}
	probe.Roots = roots
	other, _ := echManager(t, certs.Config{})
	if _, err := other.Check(t.Context(), probe); !errors.Is(err, certs.ErrOtherKey) {
		t.Errorf("another gateway's: %v", err)
	}
	probe.Name = "none.example.org"
	if _, err := m.Check(t.Context(), probe); !errors.Is(err, certs.ErrNotServed) {
		t.Error(err)
	}
	probe.Name, probe.Address = hiddenName, "127.0.0.1:1"
	if _, err := m.Check(t.Context(), probe); err == nil {
		t.Error("nobody there, and no error")
	}
}

// Ticket keys last as long as configured.
func TestTicketLife(t *testing.T) {
	for _, life := range []time.Duration{-1, time.Minute, 8 * 24 * time.Hour} {
		for _, c := range []certs.Config{{MailTickets: life}, {WebTickets: life}} {
			c.Names, c.Store = []string{"localhost"}, storetest.Memory(t)
			if _, err := certs.New(t.Context(), c); !errors.Is(err, certs.ErrTicketLife) {
				t.Errorf("%v: %v", life, err)
			}
		}
	}
	kv, c := storetest.Memory(t), newClock()
	start := func() *certs.Manager {
		return newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv, Now: c.time, MailTickets: time.Hour, WebTickets: 48 * time.Hour})
	}
	m := start()
	first := [...][32]byte{alpn.Web: m.TicketKeys(alpn.Web)[0], alpn.Mail: m.TicketKeys(alpn.Mail)[0]}
	for _, test := range []struct {
		hours     int
		web, mail bool
	}{{0, true, true}, {1, true, false}, {47, true, false}, {48, false, false}} {
		c.set(time.Duration(test.hours) * time.Hour)
		m := start()
		for class, held := range map[alpn.Class]bool{alpn.Web: test.web, alpn.Mail: test.mail} {
			if got := slices.Contains(m.TicketKeys(class), first[class]); got != held {
				t.Errorf("%d hours, class %d: %v", test.hours, class, got)
			}
		}
	}
}

// More names than one certificate should have are self-signed in several, of
// the same key.
func TestManySelfSigned(t *testing.T) {
	kv, c := storetest.Memory(t), newClock()
	var names []string
	for i := range 250 {
		names = append(names, fmt.Sprintf("_host-%d.example.org", i))
	}
	m := newManager(t, certs.Config{Names: names, Store: kv, Now: c.time})
	before := m.Status()
	for _, s := range before {
		if s.SPKI != before[0].SPKI || len(s.Names) > 100 || !slices.Contains(s.Names, s.Name) {
			t.Errorf("%s: %d names", s.Name, len(s.Names))
		}
	}
	again := newManager(t, certs.Config{Names: names, Store: kv, Now: c.time}).Status()
	if again[0].NotBefore != before[0].NotBefore || again[249].NotBefore != before[249].NotBefore {
		t.Error("a restart made new certificates")
	}
	c.set(time.Second) // what certificates tell apart
	if err := m.Renew(t.Context(), names[200]); err != nil {
		t.Fatal(err)
	}
	if now := m.Status()[200]; now.SPKI != before[0].SPKI || !now.NotBefore.After(before[200].NotBefore) {
		t.Errorf("renewed: %v, before: %v", now.NotBefore, before[200].NotBefore)
	}
}
