package acme_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"posthorn/certs/acme"
	"posthorn/certs/acmetest"
	"posthorn/loopback"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Pebble's validation authority has no end.
		goleak.IgnoreTopFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"),
	)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ecKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// start starts a CA and a client of it, whose challenges a listener answers.
func start(t *testing.T, o acmetest.Options, change func(*acme.Config)) (*acmetest.CA, *acme.Client) {
	t.Helper()
	var client *acme.Client
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	tl := tls.NewListener(ln, &tls.Config{
		NextProtos: []string{"acme-tls/1"},
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return client.Challenge(h.ServerName), nil
		},
	})
	o.TLSPort = ln.Addr().(*net.TCPAddr).Port
	ca := acmetest.Start(t, o)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(ca.RootsFile)))
	config := acme.Config{Directory: ca.Directory, Account: ecKey(), Roots: roots}
	if change != nil {
		change(&config)
	}
	client = acme.New(config)
	t.Cleanup(client.Close)
	loopback.ServeOn(t, tl, func(c net.Conn) {
		_ = c.(*tls.Conn).Handshake() // the CA's loss
	})
	return ca, client
}

// Names are obtained side by side, each for the key that it was given, and
// nothing is left of the challenges.
func TestObtain(t *testing.T) {
	t.Parallel()
	ca, client := start(t, acmetest.Options{}, nil)
	var all sync.WaitGroup
	for _, name := range []string{"a.example.org", "b.example.org", "c.example.org"} {
		all.Go(func() {
			key := ecKey()
			for range 2 { // the second time is a renewal
				chain, err := client.Obtain(t.Context(), name, key)
				if err != nil {
					t.Error(err)
					return
				}
				leaf := must(x509.ParseCertificate(chain[0]))
				if !key.PublicKey.Equal(leaf.PublicKey) || leaf.DNSNames[0] != name || len(chain) < 2 {
					t.Errorf("%s: %v, %d in the chain", name, leaf.DNSNames, len(chain))
				}
			}
			if client.Challenge(name) != nil {
				t.Errorf("%s: the challenge is still answered", name)
			}
		})
	}
	all.Wait()
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	chain, err := client.Obtain(t.Context(), "rsa.example.org", key)
	if err != nil || !key.PublicKey.Equal(must(x509.ParseCertificate(chain[0])).PublicKey) {
		t.Error(err)
	}
	if n := len(ca.Orders()); n != 7 {
		t.Errorf("%d orders", n)
	}
}

func TestFailures(t *testing.T) { // not in parallel: it changes the DNS
	ca, client := start(t, acmetest.Options{Blocked: []string{"blocked.example.org"}}, nil)
	ca.DNS.AddDNSServFailRecord("gone.example.org.")
	for name, want := range map[string]string{"blocked.example.org": "rejectedIdentifier", "gone.example.org": "tls-alpn-01"} {
		_, err := client.Obtain(t.Context(), name, ecKey())
		var f *acme.Failure
		if !errors.As(err, &f) || !f.Refused || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Obtain(t.Context(), "a.example.org", private); err == nil {
		t.Error("a certificate for a key that autocert does not know")
	}
	if _, err := client.Obtain(t.Context(), "_a.example.org", ecKey()); err == nil {
		t.Error("a certificate for a name that is none")
	}
	ca.Override(acmetest.Down)
	var f *acme.Failure
	if _, err := client.Obtain(t.Context(), "a.example.org", ecKey()); !errors.As(err, &f) || f.Refused {
		t.Errorf("the CA is down: %v", err)
	}
}

func TestUntrustedCA(t *testing.T) {
	t.Parallel()
	_, client := start(t, acmetest.Options{}, func(c *acme.Config) { c.Roots = x509.NewCertPool() })
	_, err := client.Obtain(t.Context(), "a.example.org", ecKey())
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ca, client := start(t, acmetest.Options{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ca.Override(func(_ http.ResponseWriter, r *http.Request) bool {
		if acmetest.IsOrder(r) {
			cancel()
		}
		return false
	})
	began := time.Now()
	if _, err := client.Obtain(ctx, "a.example.org", ecKey()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v to end", took)
	}
}

func TestHTTPHandler(t *testing.T) {
	t.Parallel()
	var client *acme.Client
	var mu sync.Mutex // a CA looks from several places at once
	var asked []string
	port80 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host)
		mu.Unlock()
		client.HTTPHandler(http.NotFoundHandler()).ServeHTTP(w, r)
	}))
	defer port80.Close()
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port80.Listener.Addr().(*net.TCPAddr).Port})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(ca.RootsFile)))
	client = acme.New(acme.Config{Directory: ca.Directory, Account: ecKey(), Roots: roots, HTTP01: true})
	defer client.Close()
	if _, err := client.Obtain(t.Context(), "a.example.org", ecKey()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if len(asked) == 0 || !strings.HasPrefix(asked[0], "GET a.example.org") {
		t.Errorf("the CA asked %q", asked)
	}
	mu.Unlock()
	for _, path := range []string{"", "x", "../../etc/passwd"} {
		res := must(http.Get(port80.URL + "/.well-known/acme-challenge/" + path))
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %s, %v", path, res.Status, err)
		}
		res.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestIssuable(t *testing.T) {
	for name, want := range map[string]bool{
		"example.org": true, "mail.example.org": true, "xn--bcher-kva.example": true, "mail.corp.internal": true, "a-b.example": true,
		"": false, "localhost": false, "imap.localhost": false, "mail": false, "_chat.example.org": false, "*.example.org": false,
		"192.0.2.1": false, "2001:db8::1": false, "Mail.example.org": false, "bücher.example": false, "-a.example": false,
		"example.org.": false, "a..example": false, strings.Repeat("a.", 130) + "example": false,
	} {
		if acme.Issuable(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
