package certs_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/certs"
	posthornacme "posthorn/certs/acme"
	"posthorn/certs/acmetest"
	"posthorn/loopback"
	"posthorn/store"
	"posthorn/store/storetest"
)

// What a CA can do wrong ends in an error that says so, an attempt later, and
// nothing else; the certificate that there was is served on.
func TestUnreliableCA(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port()})
	m := newManager(t, acmeConfig(ca, "mail.example.org"))
	m.SetBackoff(time.Hour)
	g.serve(m)
	await.Within(t, 30*time.Second, "a certificate", func() bool { return obtained(m) })
	good := m.Status()[0]

	problem := func(status int, kind, retryAfter string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !acmetest.IsOrder(r) {
				return false
			}
			w.Header().Set("Content-Type", "application/problem+json")
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":"no"}`, kind)
			return true
		}
	}
	other := ecKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example.org"}, NotAfter: farOff}
	wrongKey := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, template, template, other.Public(), other))})
	for _, test := range []struct {
		what    string
		answer  func(http.ResponseWriter, *http.Request) bool
		is      error  // that the error is,
		problem string // or the ACME problem in it
		wait    time.Duration
	}{
		{"refuses", problem(403, "rejectedIdentifier", ""), nil, "rejectedIdentifier", time.Hour},
		{"limits", problem(429, "rateLimited", "7200"), nil, "rateLimited", 2 * time.Hour},
		{"limits until", problem(429, "rateLimited", time.Now().Add(3*time.Hour+time.Second).UTC().Format(http.TimeFormat)), nil, "rateLimited", 3 * time.Hour},
		{"limits for ever", problem(429, "rateLimited", "99999999999"), nil, "rateLimited", 7 * 24 * time.Hour},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write([]byte("\x00<html>"))
			return true
		}, posthornacme.ErrUnusable, "", time.Hour},
		{"endless", func(w http.ResponseWriter, r *http.Request) bool {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					break
				}
			}
			return true
		}, posthornacme.ErrUnusable, "", time.Hour},
		{"another key", func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/certZ/") {
				return false
			}
			w.Header().Set("Content-Type", "application/pem-certificate-chain")
			w.Header().Set("Replay-Nonce", "x")
			_, _ = w.Write(wrongKey)
			return true
		}, posthornacme.ErrUnusable, "", time.Hour},
		{"hangs up", func(w http.ResponseWriter, _ *http.Request) bool { panic(http.ErrAbortHandler) }, nil, "", time.Hour},
	} {
		t.Run(test.what, func(t *testing.T) {
			ca.Override(test.answer)
			err := m.Renew(t.Context(), "mail.example.org")
			var said *acme.Error
			switch {
			case err == nil, test.is != nil && !errors.Is(err, test.is):
				t.Errorf("%v", err)
			case test.problem != "" && (!errors.As(err, &said) || !strings.HasSuffix(said.ProblemType, ":"+test.problem)):
				t.Errorf("%v", err)
			}
			now := m.Status()[0]
			if now.SPKI != good.SPKI || !now.NotAfter.Equal(good.NotAfter) || now.Err == nil {
				t.Errorf("%+v", now)
			}
			if wait := time.Until(now.NextRenewal); wait < test.wait-5*time.Second || wait > test.wait+5*time.Second {
				t.Errorf("tried again in %v", wait)
			}
		})
	}
	if leaf, err := g.get(ca, "mail.example.org", "imap"); err != nil || !leaf.NotAfter.Equal(good.NotAfter) {
		t.Error(err)
	}
	ca.Override(nil)
	if err := m.Renew(t.Context(), "mail.example.org"); err != nil || m.Status()[0].Err != nil {
		t.Error(err)
	}
}

// A CA that is not in order says how long to leave it alone; that holds for
// all names.
func TestRetryAfterOfTheWholeCA(t *testing.T) {
	t.Parallel()
	ca, today := acmetest.Start(t, acmetest.Options{}), time.Now().Round(0)
	var asked atomic.Int32
	ca.Override(func(w http.ResponseWriter, _ *http.Request) bool {
		asked.Add(1)
		w.Header().Set("Connection", "close") // no time passes in a bubble that waits for the network
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	config := acmeConfig(ca, "a.example.org", "b.example.org", "c.example.org", "d.example.org", "e.example.org", "f.example.org")
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today)) // the CA's own certificate is valid from then on
		m := newManager(t, config)
		m.SetBackoff(10 * time.Millisecond)
		stop := start(t, m)
		time.Sleep(59 * time.Minute)
		n := asked.Load()
		if n == 0 || n > 4 || m.Status()[0].Err == nil {
			t.Errorf("%d requests, %v", n, m.Status()[0].Err)
		}
		time.Sleep(2 * time.Minute)
		if asked.Load() == n {
			t.Error("the CA is not asked again")
		}
		stop()
	})
}

// A CA that does not answer holds up neither handshakes nor the end.
func TestSlowCA(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port()})
	asked := make(chan struct{}, 10)
	ca.Override(func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		<-r.Context().Done()
		return true
	})
	m := newManager(t, acmeConfig(ca, "mail.example.org", "localhost"))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	<-asked
	for name, served := range map[string]bool{"localhost": true, "mail.example.org": false} {
		start := time.Now()
		c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		if took := time.Since(start); took > 5*time.Second || err != nil || (c != nil) != served || !m.Serves(name) {
			t.Errorf("%s: %v after %v, %v", name, c != nil, took, err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Renew(short, "mail.example.org"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Renew: %v", err)
	}
	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Error("Run waits for the CA")
	}
}

// brokenStore is a KV that takes no more changes once it is broken.
type brokenStore struct {
	store.KV
	broken atomic.Bool
}

var errDisk = errors.New("the disk is full")

// lockless is a KV that cannot be locked, and counts how often one tries.
type lockless struct {
	store.KV
	tried atomic.Int32
}

func (l *lockless) Lock(context.Context, string) (func(), error) {
	l.tried.Add(1)
	return nil, errDisk
}

// A store that cannot be locked is not asked over and over.
func TestStoreCannotBeLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := &lockless{KV: storetest.Memory(t)}
		m := newManager(t, certs.Config{
			Names: []string{"mail.example.org"}, ACME: &certs.ACME{AgreeTerms: true, Directory: "https://127.0.0.1:1/"}, Store: kv,
		})
		stop := start(t, m)
		time.Sleep(29 * time.Second)
		if n, err := kv.tried.Load(), m.Status()[0].Err; n != 1 || !errors.Is(err, errDisk) {
			t.Errorf("%d attempts, %v", n, err)
		}
		time.Sleep(5 * time.Second)
		if n := kv.tried.Load(); n != 2 {
			t.Errorf("%d attempts after half a minute", n)
		}
		stop()
	})
}

func (b *brokenStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if b.broken.Load() {
		return errDisk
	}
	return b.KV.Update(ctx, fn)
}

// What the store does not take is served from memory. Nothing is ordered that
// could not be kept.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port()})
	kv := &brokenStore{KV: storetest.Memory(t)}
	config := acmeConfig(ca, "mail.example.org")
	config.Store = kv
	m := newManager(t, config)
	kv.broken.Store(true)
	g.serve(m)
	await.Within(t, 30*time.Second, "the failure shows", func() bool { return m.Status()[0].Err != nil })
	if err := m.Status()[0].Err; !errors.Is(err, errDisk) || len(ca.Orders()) != 0 {
		t.Errorf("%v; ordered: %v", err, ca.Orders())
	}
	kv.broken.Store(false)
	if err := m.Renew(t.Context(), "mail.example.org"); err != nil {
		t.Fatal(err)
	}
	first := m.Status()[0]
	kv.broken.Store(true)
	if err := m.Renew(t.Context(), "mail.example.org"); err != nil {
		t.Fatal(err)
	}
	leaf, err := g.get(ca, "mail.example.org", "imap")
	if err != nil || leaf.NotBefore.Before(first.NotBefore) || m.Status()[0].NextRenewal.After(time.Now().Add(time.Hour)) {
		t.Errorf("the new certificate is not served, or not stored again soon: %v", err)
	}
	if again := newManager(t, certs.Config{Names: config.Names, ACME: config.ACME, Store: kv.KV}); again.Status()[0].SPKI != first.SPKI {
		t.Error("the store has lost the first certificate")
	}
}

// A damaged certificate or key in the store is replaced, not served and no
// reason to fail.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port()})
	config := acmeConfig(ca, "mail.example.org")
	config.Store = storetest.Memory(t)
	first := newManager(t, config)
	var serving atomic.Pointer[certs.Manager]
	serving.Store(first)
	tl := tls.NewListener(g.ln, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{GetCertificate: serving.Load().GetCertificate, NextProtos: []string{string(alpn.ACME)}}, nil
	}})
	loopback.ServeOn(t, tl, func(c net.Conn) {
		_ = c.(*tls.Conn).Handshake() // the CA's loss
	})
	if err := first.Renew(t.Context(), "mail.example.org"); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"/chain", "/key"} {
		for _, damage := range [][]byte{nil, make([]byte, 500)} {
			err := config.Store.Update(t.Context(), func(tx store.Tx) error {
				for item, err := range tx.Scan(t.Context(), "cert/acme/") {
					if err == nil && strings.HasSuffix(item.Key, part) {
						err = tx.Put(item.Key, damage)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			m := newManager(t, config)
			serving.Store(m)
			if c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "mail.example.org"}); c != nil || err != nil {
				t.Errorf("%s of %d octets is served", part, len(damage))
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()
			await.Within(t, 30*time.Second, part+": another certificate", func() bool {
				c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "mail.example.org"})
				return c != nil && err == nil
			})
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// unreadable is a KV whose records cannot be read for a while.
type unreadable struct {
	store.KV
	broken atomic.Bool
}

func (u *unreadable) Get(ctx context.Context, key string) ([]byte, error) {
	if u.broken.Load() {
		return nil, errDisk
	}
	return u.KV.Get(ctx, key)
}

// A certificate that could not be read once is served as soon as it can be,
// without the CA.
func TestStoreCannotBeRead(t *testing.T) {
	t.Parallel()
	names := []string{"mail.example.org"}
	kv := &unreadable{KV: storetest.Memory(t)}
	config := certs.Config{Names: names, ACME: &certs.ACME{AgreeTerms: true, Directory: "https://127.0.0.1:1/"}, Store: kv}
	fillStore(t, kv, newManager(t, config), names)
	m := newManager(t, config)
	hello := &tls.ClientHelloInfo{ServerName: names[0]}
	kv.broken.Store(true)
	if c, err := m.GetCertificate(hello); c != nil || err != nil {
		t.Fatalf("%v, %v", c, err)
	}
	kv.broken.Store(false)
	run(t, m)
	await.Within(t, 30*time.Second, "the certificate is served", func() bool {
		c, err := m.GetCertificate(hello)
		return c != nil && err == nil
	})
}

// To a gateway whose clock is ahead every certificate is nearly over. It does
// not order them one after the other.
func TestClockIsAheadOfTheCA(t *testing.T) {
	t.Parallel()
	g := listen(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: g.port()})
	c := newClock()
	c.set(80 * 24 * time.Hour)
	config := acmeConfig(ca, "mail.example.org")
	config.Now = c.time
	m := newManager(t, config)
	g.serve(m)
	await.Within(t, 30*time.Second, "a certificate", func() bool { return obtained(m) })
	if wait := m.Status()[0].NextRenewal.Sub(c.time()); wait < 24*time.Hour {
		t.Errorf("the next one is ordered in %v", wait)
	}
}
