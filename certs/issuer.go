package certs

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"posthorn/certs/acme"
	"posthorn/store"
)

// ACME says how certificates come from a CA.
type ACME struct {
	// Directory is the URL of the CA's directory; empty: acme.LetsEncrypt.
	Directory string
	// AgreeTerms says that the operator has read and agrees to the CA's terms of
	// service. Without it nothing is ordered.
	AgreeTerms bool
	// Email, EABKeyID, EABKey, HTTP01 and Roots are those of acme.Config.
	Email string
	// CAFile is a file of PEM certificates that the CA's own is checked with;
	// empty: the system's roots.
	CAFile   string
	EABKeyID string
	EABKey   []byte
	HTTP01   bool
	// RSA are the names that get an RSA certificate too, for clients that know no
	// ECDSA.
	RSA []string
}

// acmePrefix is where certificates from a CA stand: by CA, name and key type, so
// that those of a staging CA never pass for real ones.
const acmePrefix = "cert/acme/"

// parallel is how many certificates are ordered at a time.
const parallel = 4

// issuer orders certificates from the CA before they are needed.
type issuer struct {
	client *acme.Client
	vault  *vault
	prefix string
	now    func() time.Time
	log    zerolog.Logger
	// changed is called, without a lock, when a name has a new certificate.
	changed func(name string)
	count   func(result string)
	backoff func(failures int, refused bool) time.Duration
	wake    chan struct{} // there may be something due

	byName map[string]*renewals // immutable
	order  []*renewals          // of byName, as configured

	mu     sync.Mutex
	closed time.Time // until then the CA wants to hear nothing; guarded by mu
}

// renewals are the certificates of one name, one for each key type. They are
// ordered one after the other, since the CA asks for one proof at a time.
type renewals struct {
	name string
	all  []*renewal
	busy chan struct{} // holds one token, of whoever orders

	idle bool // files cover the name; guarded by issuer.mu
}

// renewal is a certificate that is to be had, and had again in time. Its fields
// are guarded by issuer.mu but for keyType.
type renewal struct {
	keyType  KeyType
	current  *identity // nil: there is none yet
	unsaved  []byte    // the chain that the store did not take
	next     time.Time
	failures int
	err      error // of the last attempt
}

// newIssuer returns the issuer for names. The store is asked for all their
// certificates at once.
func newIssuer(ctx context.Context, c *Config, v *vault, names []string) (*issuer, error) {
	directory := c.ACME.Directory
	if directory == "" {
		directory = acme.LetsEncrypt
	}
	sum := sha256.Sum256([]byte(directory))
	ca := hex.EncodeToString(sum[:6])
	i := &issuer{
		vault: v, prefix: acmePrefix + ca + "/", now: c.Now, log: c.Log,
		backoff: backoff, wake: make(chan struct{}, 1), byName: make(map[string]*renewals, len(names)),
	}
	account, err := i.accountKey(ctx, "cert/account/"+ca+"/key")
	if err != nil {
		return nil, fmt.Errorf("ACME account: %w", err)
	}
	roots, err := readRoots(c.ACME.CAFile)
	if err != nil {
		return nil, err
	}
	i.client = acme.New(acme.Config{
		Directory: directory, Email: c.ACME.Email, EABKeyID: c.ACME.EABKeyID, EABKey: c.ACME.EABKey,
		HTTP01: c.ACME.HTTP01, Roots: roots, Account: account,
	})
	for _, name := range names {
		i.add(name, ECDSA)
	}
	for _, name := range c.ACME.RSA {
		if n := i.byName[name]; n != nil && len(n.all) == 1 {
			i.add(name, RSA)
		}
	}
	return i, i.load(ctx)
}

func (i *issuer) add(name string, t KeyType) {
	r := i.byName[name]
	if r == nil {
		r = &renewals{name: name, busy: make(chan struct{}, 1)}
		i.byName[name] = r
		i.order = append(i.order, r)
	}
	r.all = append(r.all, &renewal{keyType: t})
}

// accountKey returns the key of the account with the CA.
func (i *issuer) accountKey(ctx context.Context, record string) (key crypto.Signer, err error) {
	err = i.vault.Update(ctx, func(tx store.Tx) error {
		key, err = i.vault.keptKey(ctx, tx, record, ECDSA.generate)
		return err
	})
	return key, err
}

func (t KeyType) generate() (crypto.Signer, error) {
	if t == RSA {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// record is where a part of a certificate stands: "chain" or "key".
func (i *issuer) record(name string, t KeyType, part string) string {
	return i.prefix + name + "/" + string(t) + "/" + part
}

// load takes from the store what has been issued.
func (i *issuer) load(ctx context.Context) error {
	for item, err := range i.vault.Scan(ctx, i.prefix) {
		if err != nil {
			return fmt.Errorf("certificates in the store: %w", err)
		}
		part := strings.Split(strings.TrimPrefix(item.Key, i.prefix), "/")
		if len(part) != 3 || part[2] != "chain" || i.byName[part[0]] == nil {
			continue
		}
		for _, r := range i.byName[part[0]].all {
			if r.keyType != KeyType(part[1]) {
				continue
			}
			if r.current, err = i.stored(ctx, i.byName[part[0]], r, item.Value); err != nil {
				i.damaged(i.byName[part[0]], r, err)
				continue
			}
			r.next = renewAt(part[0], r.current)
		}
	}
	return nil
}

// stored returns the identity whose chain stands in the store.
func (i *issuer) stored(ctx context.Context, n *renewals, r *renewal, chain []byte) (id *identity, err error) {
	ctx = context.WithoutCancel(ctx) // the key is read when somebody asks for it
	key := func() (crypto.Signer, error) {
		der, err := i.vault.secret(ctx, i.vault, i.record(n.name, r.keyType, "key"))
		if err != nil {
			return nil, err
		}
		return parseKey(der)
	}
	return storedIdentity(r.keyType, chain, key, func(err error) { i.damaged(n, r, err) })
}

// damaged has a certificate ordered in place of one that the store has damaged.
func (i *issuer) damaged(n *renewals, r *renewal, err error) {
	i.log.Error().Err(err).Str("name", n.name).Str("key", string(r.keyType)).
		Msg("certificate in the store cannot be used; another one is ordered")
	i.mu.Lock()
	r.next = i.now()
	i.mu.Unlock()
	i.poke()
}

func (i *issuer) poke() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// identities returns what has been issued for a name; nil: nothing yet.
func (i *issuer) identities(name string) (ids []*identity) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range i.byName[name].all {
		if r.current != nil {
			ids = append(ids, r.current)
		}
	}
	return ids
}

// setIdle says whether files cover a name, so that nothing is ordered for it.
func (i *issuer) setIdle(name string, idle bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.byName[name].idle = idle
}

// longestWait bounds how long run trusts the clock not to be set.
const longestWait = 10 * time.Minute

// run orders what is due until ctx ends.
func (i *issuer) run(ctx context.Context) error {
	defer i.client.Close()
	i.warm(ctx)
	var group errgroup.Group
	group.SetLimit(parallel)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		due, wait := i.due()
		for _, n := range due {
			if !n.take() {
				continue // somebody is at it
			}
			if !group.TryGo(func() error {
				defer i.poke()
				defer n.release()
				i.work(ctx, n, false)
				return nil
			}) {
				n.release()
				break // whoever ends pokes
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-i.wake:
		case <-timer.C:
		}
	}
	return group.Wait()
}

// warm parses what the store has before clients ask for it, as far as they are
// not faster, and so finds out what is damaged.
func (i *issuer) warm(ctx context.Context) {
	for _, n := range i.order {
		for _, id := range i.identities(n.name) {
			if ctx.Err() != nil {
				return
			}
			id.pair()
		}
	}
}

func (n *renewals) take() bool {
	select {
	case n.busy <- struct{}{}:
		return true
	default:
		return false
	}
}

func (n *renewals) release() { <-n.busy }

// due returns the names of which something is due, and how long to wait for the
// next one.
func (i *issuer) due() (names []*renewals, wait time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.now()
	wait = longestWait
	if left := i.closed.Sub(now); left > 0 {
		return nil, min(wait, left)
	}
	for _, n := range i.order {
		for _, r := range n.all {
			if n.idle {
				continue
			}
			if left := r.next.Sub(now); left > 0 {
				wait = min(wait, left)
				continue
			}
			if len(names) == 0 || names[len(names)-1] != n {
				names = append(names, n)
			}
		}
	}
	return names, wait
}
