// Package acme obtains certificates from an ACME CA (RFC 8555) through autocert,
// and answers the CA's challenges meanwhile (RFC 8737, RFC 8555 section 8.3).
//
// autocert wants to decide by itself, in the handshakes of strangers, when it
// orders which certificate for which key. Here each attempt has an
// autocert.Manager of its own, which knows one name and one certificate that is
// about to expire; so all that it can do is what it does well, which is to renew
// that one, with the key that it was given. See attempt.
package acme

import (
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/net/idna"
)

// Directories of Let's Encrypt. The staging one has no limits to speak of, and
// issues certificates that nobody trusts.
const (
	LetsEncrypt        = autocert.DefaultACMEDirectory
	LetsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"
)

// Config says which CA issues, and to whom.
type Config struct {
	// Directory is the URL of the CA's directory; empty: LetsEncrypt.
	Directory string
	// Email is where the CA may write to; empty: nowhere.
	Email string
	// EABKeyID and EABKey bind the account to one that the operator has with the
	// CA (RFC 8555 section 7.3.4), where the CA wants that.
	EABKeyID string
	EABKey   []byte
	// Account is the account's key. Who has it can have certificates for every
	// name that has been proved with it.
	Account crypto.Signer
	// HTTP01 lets the CA try port 80, where HTTPHandler answers, when it fails to
	// validate on port 443.
	HTTP01 bool
	// Roots are what the CA's own certificate is checked with; nil: the
	// system's.
	Roots *x509.CertPool
}

// Client obtains certificates. Having made one means that its user has agreed
// to the CA's terms of service. Its methods may be called concurrently.
type Client struct {
	config     Config
	transport  http.RoundTripper
	challenges sync.Map // server name to *tls.Certificate
	responses  sync.Map // URL path to *response
}

// response answers an http-01 challenge. A pointer to it says which attempt it
// is of.
type response struct{ body []byte }

// challengePath is where the CA looks for it (RFC 8555 section 8.3).
const challengePath = "/.well-known/acme-challenge/"

// New returns a Client. It does not talk to the CA.
func New(c Config) *Client {
	c.Directory = cmp.Or(c.Directory, LetsEncrypt)
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: c.Roots}
	t.IdleConnTimeout = 10 * time.Second // no attempt is silent for longer
	return &Client{config: c, transport: t}
}

// Close lets idle connections to the CA go. Obtain must have returned.
func (c *Client) Close() {
	c.transport.(*http.Transport).CloseIdleConnections()
}

// Issuable reports whether a CA could issue a certificate for name, as far as the
// name itself tells: it is a host name with a dot, and not one of the machine's
// own (RFC 6761 section 6.3).
func Issuable(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 || len(name) > 253 || strings.Contains(name, "..") {
		return false
	}
	if last := name[dot+1:]; last == "localhost" || strings.Trim(last, "0123456789") == "" {
		return false // the latter is an address, or no name at all
	}
	ascii, err := idna.Lookup.ToASCII(name) // as autocert has it: no underscores
	return err == nil && ascii == name
}

// Obtain orders a certificate for name and key, which is an *ecdsa.PrivateKey or
// an *rsa.PrivateKey, and returns its chain in DER, leaf first. It takes as long
// as the CA does. Its error is a *Failure, unless ctx ended.
func (c *Client) Obtain(ctx context.Context, name string, key crypto.Signer) ([][]byte, error) {
	a, err := newAttempt(ctx, c, name, key)
	if err != nil {
		return nil, fmt.Errorf("obtain certificate for %s: %w", name, err)
	}
	chain, err := a.run()
	if err != nil {
		return nil, fmt.Errorf("obtain certificate for %s: %w", name, err)
	}
	return chain, nil
}

// Challenge returns the certificate that answers the pending tls-alpn-01
// challenge for a server name in lower case; nil when there is none.
func (c *Client) Challenge(serverName string) *tls.Certificate {
	cert, ok := c.challenges.Load(serverName)
	if !ok {
		return nil
	}
	return cert.(*tls.Certificate)
}

// HTTPHandler answers http-01 challenges, and leaves all other requests to next.
// It is for port 80.
func (c *Client) HTTPHandler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, challengePath) {
			next.ServeHTTP(w, r)
			return
		}
		answer, ok := c.responses.Load(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(answer.(*response).body) // the CA's loss
	})
}

// ErrUnusable says that the CA answered, but with nothing that this could use: a
// certificate for another key or name, or what is no ACME.
var ErrUnusable = errors.New("the CA's answers are of no use")

// Failure says why there is no certificate, and how long to wait.
type Failure struct {
	Err error
	// Refused says that the CA refused or could not validate the name, which
	// counts towards its limits. Otherwise it could not be reached or was out of
	// order.
	Refused bool
	// RetryAfter is how long the CA wants to be left alone: with this name, or,
	// when Refused is false, altogether. Zero: it did not say.
	RetryAfter time.Duration
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// retryBackoff lets x/crypto/acme repeat a request for a stale nonce (RFC 8555
// section 6.5) and nothing else: what else fails is tried again by whoever calls
// Obtain, hours later if need be.
func retryBackoff(n int, _ *http.Request, r *http.Response) time.Duration {
	if r.StatusCode != http.StatusBadRequest || n > 5 {
		return 0
	}
	return time.Duration(n) * 50 * time.Millisecond
}

// manager returns an autocert.Manager for one attempt.
func (c *Client) manager(a *attempt) *autocert.Manager {
	m := &autocert.Manager{
		Prompt:      autocert.AcceptTOS,
		Cache:       a,
		HostPolicy:  autocert.HostWhitelist(a.name),
		RenewBefore: maxRenewBefore,
		Email:       c.config.Email,
		Client: &acme.Client{
			Key:          c.config.Account,
			DirectoryURL: c.config.Directory,
			HTTPClient:   &http.Client{Transport: a},
			RetryBackoff: retryBackoff,
			UserAgent:    "posthorn",
		},
	}
	if c.config.EABKeyID != "" {
		m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: c.config.EABKeyID, Key: c.config.EABKey}
	}
	if c.config.HTTP01 {
		m.HTTPHandler(nil) // for its side effect: autocert then tries http-01 too
	}
	return m
}
