package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme/autocert"
)

// maxRenewBefore is the longest time before the end of a certificate at which
// autocert renews it.
const maxRenewBefore = 30 * 24 * time.Hour

// errOver is what an attempt answers that has ended.
var errOver = errors.New("the attempt is over")

// attempt is one try to get one certificate. It is the autocert.Cache and the
// http.RoundTripper of an autocert.Manager of its own, and so sees all that the
// manager does and hears; autocert itself keeps to itself why a renewal failed.
//
// The manager finds a certificate in its cache that ends tomorrow, and starts
// what it would do in the background for the rest of its life: renew when that
// is due, which is at once, store the result, and set a timer for the next time.
// The last is where the attempt ends it.
type attempt struct {
	client *Client
	name   string
	key    crypto.Signer
	stale  []byte          // the certificate that is to be renewed, as autocert stores it
	ctx    context.Context // of Obtain: a round trip has no other way to learn that it ended

	began chan context.Context // autocert's context, which ends with the renewal

	mu      sync.Mutex
	gets    int // how often autocert has read its certificate
	chain   [][]byte
	remove  []func() // the answers to challenges
	failure heard
}

func newAttempt(ctx context.Context, c *Client, name string, key crypto.Signer) (*attempt, error) {
	stale, err := expiring(name, key, time.Now())
	if err != nil {
		return nil, err
	}
	return &attempt{client: c, name: name, key: key, stale: stale, ctx: ctx, began: make(chan context.Context, 1)}, nil
}

// run has autocert renew, and waits for the end of that.
func (a *attempt) run() ([][]byte, error) {
	hello := &tls.ClientHelloInfo{ServerName: a.name}
	if _, ok := a.key.(*ecdsa.PrivateKey); ok {
		// autocert takes a hello without such a suite for one of a client that
		// wants RSA, those of TLS 1.3 too (golang/go#50522).
		hello.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	}
	if _, err := a.client.manager(a).GetCertificate(hello); err != nil {
		return nil, &Failure{Err: err}
	}
	renewal := <-a.began // right away: GetCertificate has set its timer to zero
	<-renewal.Done()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, remove := range a.remove {
		remove()
	}
	switch {
	case a.chain != nil:
		return a.chain, nil
	case a.ctx.Err() != nil:
		return nil, context.Cause(a.ctx)
	}
	return nil, a.failure.failure(a.key)
}

// Get implements autocert.Cache. autocert reads its certificate once when it
// is asked for it, once when it begins to renew it, and once more when it tries
// again after half an hour or more. It has no other end than that of the
// goroutine which does so.
func (a *attempt) Get(ctx context.Context, key string) ([]byte, error) {
	if !a.isCertificate(key) {
		return nil, autocert.ErrCacheMiss
	}
	a.mu.Lock()
	a.gets++
	n := a.gets
	a.mu.Unlock()
	switch n {
	case 1:
	case 2:
		a.began <- ctx
	default:
		runtime.Goexit()
	}
	return a.stale, nil
}

// isCertificate reports whether autocert means the certificate by a cache key,
// and not its answer to a challenge.
func (a *attempt) isCertificate(key string) bool { return strings.TrimSuffix(key, "+rsa") == a.name }

// Put implements autocert.Cache.
func (a *attempt) Put(ctx context.Context, key string, data []byte) error {
	switch {
	case a.isCertificate(key):
		a.mu.Lock()
		a.chain = blocks(data, "CERTIFICATE")
		a.mu.Unlock()
		runtime.Goexit() // instead of setting a timer, see Get
	case strings.HasSuffix(key, "+token"):
		cert, err := tls.X509KeyPair(data, data)
		if err != nil {
			return fmt.Errorf("answer to the tls-alpn-01 challenge: %w", err)
		}
		a.answer(&a.client.challenges, strings.TrimSuffix(key, "+token"), &cert)
	case strings.HasSuffix(key, "+http-01"):
		a.answer(&a.client.responses, challengePath+strings.TrimSuffix(key, "+http-01"), &response{data})
	}
	return nil
}

// answer puts an answer to a challenge where the CA will look for it, and keeps
// in mind how to remove that one and no other: autocert tidies up when the next
// attempt for the name may be under way.
func (a *attempt) answer(where *sync.Map, key string, answer any) {
	where.Store(key, answer)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove = append(a.remove, func() { where.CompareAndDelete(key, answer) })
}

// Delete implements autocert.Cache. It has nothing to do, as run removes all
// answers.
func (a *attempt) Delete(context.Context, string) error { return nil }

// expiring returns a certificate for name and key that ends tomorrow, in the
// form that autocert stores. It is seen by nobody else.
func expiring(name string, key crypto.Signer, now time.Time) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{name},
		NotBefore:    now.Add(-24 * time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	var private *pem.Block
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		b, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, err
		}
		private = &pem.Block{Type: "EC PRIVATE KEY", Bytes: b}
	case *rsa.PrivateKey:
		private = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	default:
		return nil, fmt.Errorf("no certificates for keys of type %T", key)
	}
	return append(pem.EncodeToMemory(private), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...), nil
}

// blocks returns what PEM data holds of a type.
func blocks(data []byte, label string) (all [][]byte) {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return all
		}
		if b.Type == label {
			all = append(all, b.Bytes)
		}
	}
}

var _ autocert.Cache = (*attempt)(nil)
