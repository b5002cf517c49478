package certs

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"time"

	"posthorn/certs/acme"
	"posthorn/store"
)

// work orders what is due for a name, or with force all. The caller has taken
// n. It returns the errors of those that it did not get.
func (i *issuer) work(ctx context.Context, n *renewals, force bool) (failed error) {
	unlock, locked := i.vault.Lock(ctx, i.prefix+n.name)
	if locked == nil {
		defer unlock()
	}
	for _, r := range n.all {
		i.mu.Lock()
		due := force || !r.next.After(i.now())
		i.mu.Unlock()
		var err error
		switch {
		case !due:
		case locked != nil:
			err = i.failed(ctx, n, r, fmt.Errorf("lock %s: %w", n.name, locked))
		case force || !i.refresh(ctx, n, r):
			err = i.obtain(ctx, n, r)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// refresh looks whether the store has to be told of a certificate, or has one
// that another node got, and reports whether that is all there was to do.
func (i *issuer) refresh(ctx context.Context, n *renewals, r *renewal) bool {
	i.mu.Lock()
	unsaved, current := r.unsaved, r.current
	i.mu.Unlock()
	if unsaved != nil {
		i.save(ctx, n, r, unsaved)
		return true
	}
	chain, err := i.vault.Get(ctx, i.record(n.name, r.keyType, "chain"))
	if err != nil {
		return false // there is none, or it cannot be told
	}
	id, err := i.stored(ctx, n, r, chain)
	if err != nil || id.pair() == nil {
		return false
	}
	// One that could not be read, but can be now, is news as well.
	if current != nil && current.pair() != nil && !id.notAfter.After(current.notAfter) {
		return false
	}
	i.mu.Lock()
	r.current, r.next, r.failures, r.err = id, renewAt(n.name, id), 0, nil
	due := !r.next.After(i.now())
	i.mu.Unlock()
	i.changed(n.name)
	return !due
}

// obtain makes one attempt.
func (i *issuer) obtain(ctx context.Context, n *renewals, r *renewal) error {
	key, err := i.key(ctx, n, r)
	var chain [][]byte
	if err == nil {
		chain, err = i.client.Obtain(ctx, n.name, key)
	}
	var leaf *x509.Certificate
	if err == nil {
		leaf, err = x509.ParseCertificate(chain[0])
	}
	if err != nil {
		return i.failed(ctx, n, r, err)
	}
	id := newIdentity(&tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf})
	i.mu.Lock()
	r.current, r.next, r.failures, r.err = id, i.renewAfter(n.name, id), 0, nil
	next := r.next
	i.mu.Unlock()
	i.count("ok")
	i.log.Info().Str("name", n.name).Str("key", string(r.keyType)).Str("issuer", leaf.Issuer.CommonName).
		Time("not_after", leaf.NotAfter).Time("next_renewal", next).Msg("certificate obtained")
	i.changed(n.name)
	i.save(ctx, n, r, formatChain(leaf, chain))
	return nil
}

// key returns the private key for a certificate: the one in use, so that what
// has been published of it (TLSA records, pins) stays true, else the one in the
// store, else a new one, which is stored before it is certified.
func (i *issuer) key(ctx context.Context, n *renewals, r *renewal) (key crypto.Signer, err error) {
	i.mu.Lock()
	current := r.current
	i.mu.Unlock()
	if current != nil {
		if pair := current.pair(); pair != nil {
			return pair.PrivateKey.(crypto.Signer), nil
		}
	}
	record := i.record(n.name, r.keyType, "key")
	err = i.vault.Update(ctx, func(tx store.Tx) error {
		key, err = i.vault.keptKey(ctx, tx, record, r.keyType.generate)
		if errors.Is(err, errDamaged) {
			if err = tx.Delete(record); err == nil {
				key, err = i.vault.keptKey(ctx, tx, record, r.keyType.generate)
			}
		}
		return err
	})
	return key, err
}

// saveAgain is when a certificate is stored once more that the store did not
// take.
const saveAgain = 10 * time.Minute

// save puts a chain into the store. When that fails, the certificate is served
// from memory, and saved later.
func (i *issuer) save(ctx context.Context, n *renewals, r *renewal, chain []byte) {
	err := i.vault.Update(ctx, func(tx store.Tx) error {
		return tx.Put(i.record(n.name, r.keyType, "chain"), chain)
	})
	i.mu.Lock()
	defer i.mu.Unlock()
	if err != nil {
		r.unsaved, r.next = chain, i.now().Add(saveAgain)
		i.log.Error().Err(err).Str("name", n.name).Msg("certificate was not stored; it is served from memory")
		return
	}
	r.unsaved, r.next = nil, i.renewAfter(n.name, r.current)
}

// failed notes that an attempt failed, and when the next one is due.
func (i *issuer) failed(ctx context.Context, n *renewals, r *renewal, err error) error {
	if ctx.Err() != nil {
		return err // the gateway stops: nobody's fault
	}
	i.count("failed")
	var f *acme.Failure
	if !errors.As(err, &f) {
		f = &acme.Failure{}
	}
	i.mu.Lock()
	r.failures++
	r.err = err
	wait := max(i.backoff(r.failures, f.Refused), f.RetryAfter)
	r.next = i.now().Add(wait)
	if f.RetryAfter > 0 && !f.Refused {
		i.closed = i.now().Add(f.RetryAfter)
	}
	current, next := r.current, r.next
	i.mu.Unlock()
	e := i.log.Warn()
	if current == nil || current.notAfter.Sub(i.now()) < current.lifetime()/6 {
		e = i.log.Error()
	}
	e.Err(err).Str("name", n.name).Str("key", string(r.keyType)).Time("next_attempt", next).Msg("certificate was not obtained")
	return err
}

// backoff is how long to wait after failures in a row, with a tenth of jitter.
// What the CA has refused counts towards its limits, of which the narrowest is
// five failed validations of a name in an hour.
func backoff(failures int, refused bool) time.Duration {
	first, longest := 30*time.Second, time.Hour
	if refused {
		first, longest = 15*time.Minute, 24*time.Hour
	}
	wait := min(first<<min(failures-1, 20), longest)
	return wait + rand.N(wait/10)
}

// Certificates are renewed when a third of their life is left, but not more than
// a month before their end, and a little earlier for some names than for others,
// so that those issued together are not renewed together.
const longestLead = 30 * 24 * time.Hour

func renewAt(name string, id *identity) time.Time {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	lead := min(id.lifetime()/3, longestLead)
	spread := time.Duration(float64(lead/10) * float64(h.Sum32()) / (1 << 32))
	return id.notAfter.Add(-lead - spread)
}

// renewAfter is renewAt for a certificate that was issued just now. One that is
// nearly over all the same, since the clocks of CA and gateway differ, is not
// renewed over and over: five in a week are the narrowest limit that CAs have, and
// a sixtieth of 90 days is a day and a half.
func (i *issuer) renewAfter(name string, id *identity) time.Time {
	at, soonest := renewAt(name, id), i.now().Add(id.lifetime()/60)
	if at.Before(soonest) {
		return soonest
	}
	return at
}

// readRoots reads the certificates that a CA's own is checked with.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certificates of the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("certificates of the CA: %s has none", file)
	}
	return pool, nil
}

// splitNames says which of the names that files do not cover the CA could
// certify; the others are self-signed.
func (c *Config) splitNames() (fromCA, own []string) {
	selfSigned := set(c.SelfSigned)
	for _, name := range c.Names {
		if c.ACME != nil && acme.Issuable(name) && !selfSigned[name] {
			fromCA = append(fromCA, name)
		} else {
			own = append(own, name)
		}
	}
	return fromCA, own
}
