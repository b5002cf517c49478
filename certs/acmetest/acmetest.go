// Package acmetest runs an ACME CA in the test's own process: Pebble, with a
// resolver that knows every name as this machine. It can be made to fail.
package acmetest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// Options says what a CA is like. The zero value validates on ports that
// nobody listens on.
type Options struct {
	TLSPort, HTTPPort int           // where it validates
	Validity          time.Duration // of certificates; zero: 90 days
	EABKeyID          string        // an external account that it wants, if not empty,
	EABKey            []byte        // with this key
	Blocked           []string      // names that it refuses
}

// CA is a CA that runs until the test ends.
type CA struct {
	// Directory is the URL of its directory, and RootsFile a file with the
	// certificate of its web server.
	Directory, RootsFile string
	// Issuers are what its certificates can be verified with, and IssuersFile is a
	// file of the same.
	Issuers     *x509.CertPool
	IssuersFile string
	// DNS is the resolver that it asks. All CAs of a process ask the one that was
	// started last, so a test that changes what it knows must not be parallel.
	DNS *challtestsrv.ChallSrv

	accounts sync.Mutex // held by the request that makes or looks up an account

	// guards what follows
	mu       sync.Mutex
	override func(http.ResponseWriter, *http.Request) bool
	requests int
	orders   []string
}

// Start starts a CA.
func Start(t testing.TB, o Options) *CA {
	t.Helper()
	// Pebble takes some of its options from here alone. They are the same for all
	// tests.
	check(t, os.Setenv("PEBBLE_VA_NOSLEEP", "1"))
	check(t, os.Setenv("PEBBLE_AUTHZREUSE", "0"))
	quiet := log.New(io.Discard, "", 0)
	c := &CA{}
	address := c.startDNS(t, quiet)
	memory := db.NewMemoryStore()
	for _, name := range o.Blocked {
		check(t, memory.AddBlockedDomain(name))
	}
	if o.EABKeyID != "" {
		check(t, memory.AddExternalAccountKeyByID(o.EABKeyID, base64.RawURLEncoding.EncodeToString(o.EABKey)))
	}
	profiles := map[string]ca.Profile{"default": {ValidityPeriod: uint64(o.Validity / time.Second)}}
	authority := ca.New(quiet, memory, "", "ecdsa", 0, 1, profiles)
	validator := va.New(quiet, o.HTTPPort, o.TLSPort, false, address, memory)
	front := wfe.New(quiet, memory, validator, authority, []string{"ca.invalid"}, false, o.EABKeyID != "", 0, 0)
	c.serve(t, front.Handler())
	root := authority.GetRootCert(0).Cert
	c.Issuers = x509.NewCertPool()
	c.Issuers.AddCert(root)
	c.IssuersFile = certFile(t, root.Raw)
	return c
}

// startDNS starts the resolver, and waits until it answers. It cannot be given a
// socket or tell that it got none, so it has an address that no other test is
// likely to have.
func (c *CA) startDNS(t testing.TB, quiet *log.Logger) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.N(254), rand.N(255), 1+rand.N(254)))
	check(t, err)
	address = ln.Addr().String()
	check(t, ln.Close())
	c.DNS, err = challtestsrv.New(challtestsrv.Config{Log: quiet, DNSAddrs: []string{address}})
	check(t, err)
	c.DNS.SetDefaultDNSIPv4("127.0.0.1")
	c.DNS.SetDefaultDNSIPv6("")
	c.DNS.Run()
	t.Cleanup(c.DNS.Shutdown)
	over, again := time.After(10*time.Second), time.Tick(5*time.Millisecond)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			check(t, conn.Close())
			return address
		}
		select {
		case <-again:
		case <-over:
			t.Fatalf("the CA's resolver did not start: %v", err)
		}
	}
}

func (c *CA) serve(t testing.TB, handler http.Handler) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names := orderedNames(r)
		c.mu.Lock()
		c.requests++
		override := c.override
		c.mu.Unlock()
		if override != nil && override(w, r) {
			return
		}
		if strings.HasSuffix(r.URL.Path, "/sign-me-up") {
			c.accounts.Lock() // Pebble makes accounts with a data race
			defer c.accounts.Unlock()
		}
		answer := &answer{ResponseWriter: w}
		handler.ServeHTTP(answer, r)
		if answer.status == http.StatusCreated {
			c.mu.Lock()
			c.orders = append(c.orders, names...)
			c.mu.Unlock()
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	c.Directory = server.URL + wfe.DirectoryPath
	c.RootsFile = certFile(t, server.Certificate().Raw)
}

// certFile writes a certificate into a PEM file of its own.
func certFile(t testing.TB, der []byte) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return name
}

// answer notes the status of an answer. Some orders are refused for a stale
// nonce first, as Pebble finds too few clients able to stand that.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// orderedNames returns the names that a newOrder request is for, and leaves its
// body to the CA.
func orderedNames(r *http.Request) (names []string) {
	if !IsOrder(r) {
		return nil
	}
	body, _ := io.ReadAll(r.Body) // what is missing will be missed
	r.Body = io.NopCloser(bytes.NewReader(body))
	var signed struct{ Payload string }
	var order struct{ Identifiers []struct{ Value string } }
	_ = json.Unmarshal(body, &signed)
	payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
	_ = json.Unmarshal(payload, &order)
	for _, id := range order.Identifiers {
		names = append(names, id.Value)
	}
	return names
}

// IsOrder reports whether a request is one for a new order.
func IsOrder(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/order-plz") }

// Override has f answer requests, as far as it returns true; nil: none.
func (c *CA) Override(f func(http.ResponseWriter, *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.override = f
}

// Down answers every request as a CA under maintenance does.
func Down(w http.ResponseWriter, _ *http.Request) bool {
	w.WriteHeader(http.StatusServiceUnavailable)
	return true
}

// Orders returns the names of all orders that the CA has taken, in their order.
func (c *CA) Orders() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.orders)
}

// Requests returns how many requests there were so far.
func (c *CA) Requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
