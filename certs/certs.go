// Package certs provides the server's certificates, session ticket keys and
// Encrypted Client Hello keys. A handshake gets a ready certificate or fails at
// once: nothing here waits for a CA or a lock while a client does, nor for a
// disk, but for certificates that were asked for before Run got to them.
package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"posthorn/store"
)

var (
	// ErrBadName says that one of Config.Names is no host name.
	ErrBadName = errors.New("not a host name in lower case")
	// ErrTerms says that the operator has not agreed to the CA's terms.
	ErrTerms = errors.New("the terms of service of the ACME CA are not agreed to")
	// ErrTicketLife says that Config.MailTickets or WebTickets is out of range.
	ErrTicketLife = errors.New("session tickets are accepted for an hour to 7 days")
)

// Files names a PEM certificate chain and its private key on disk. An empty
// Key means that the key is in the same file as the chain.
type Files struct{ Cert, Key string }

// Config says where certificates come from.
type Config struct {
	// Names are the server names that are served, in lower case; the first is
	// the default one, for clients that send no SNI. An IP address is a name that
	// certificates are made for, but that no SNI can ask for (RFC 6066 section 3).
	Names []string
	// Files are looked through first, for each of Names. Several may cover a
	// name, with keys of different types. Run reads them again when they change.
	Files []Files
	// ACME orders certificates for the names that no file covers and that a CA
	// can certify; nil: none. What is left gets a self-signed certificate, whose
	// key stays the same over renewals and restarts.
	ACME *ACME
	// SelfSigned are those of Names that no CA is asked for.
	SelfSigned []string
	// UnknownNameDefault serves the default certificate to names that are not
	// served, instead of the alert unrecognized_name.
	UnknownNameDefault bool
	// ECHPublicName is the name that observers see of clients with Encrypted
	// Client Hello; one of Names. Empty: ECH is off.
	ECHPublicName string
	// MailTickets and WebTickets are for how long session tickets are accepted at
	// most, an hour to 7 days; zero: 24 hours and 7 days.
	MailTickets, WebTickets time.Duration
	// KeyFile names a file with a secret, of 32 bytes at least, that private keys
	// in the store are encrypted with. Empty: they are not.
	KeyFile string
	Store   store.KV
	Log     zerolog.Logger
	// Now is the clock; nil: time.Now. What the CA issues is checked with the
	// system's in any case.
	Now func() time.Time
}

// Manager holds ready certificates. Its methods may be called concurrently.
type Manager struct {
	config  Config
	vault   *vault
	ready   ready
	issuer  *issuer // nil: no ACME
	own     map[string]bool
	tickets atomic.Pointer[ticketKeys]
	ech     atomic.Pointer[echKeys]
	warner  warner
	metrics metrics

	mu    sync.Mutex
	pairs []*identity // of config.Files, in that order; guarded by mu
	disk  []fileState // of config.Files, as pairs were read; guarded by mu
}

// New makes ready what files, store and self-signing give. It does not talk to
// the CA; Run does. Errors name the file and what is wrong with it.
func New(ctx context.Context, c Config) (*Manager, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.Names = slices.Clone(c.Names)
	if c.Now == nil {
		c.Now = time.Now
	}
	v, err := openVault(c.Store, c.KeyFile)
	if err != nil {
		return nil, err
	}
	if err := v.sealAll(ctx); err != nil {
		return nil, err
	}
	m := &Manager{
		config: c, vault: v, ready: newReady(&c),
		pairs: make([]*identity, len(c.Files)), disk: make([]fileState, len(c.Files)),
	}
	m.metrics.init(m)
	fromCA, own := c.splitNames()
	m.own = set(own)
	if c.ACME != nil {
		if m.issuer, err = newIssuer(ctx, &c, v, fromCA); err != nil {
			return nil, err
		}
		m.issuer.changed, m.issuer.count = m.issued, m.metrics.renewal
	}
	for _, first := range []func(context.Context) error{m.Reload, m.rotate, m.rotateECH} {
		if err := first(ctx); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (c *Config) check() error {
	if len(c.Names) == 0 {
		return fmt.Errorf("certificates for no name: %w", ErrBadName)
	}
	for _, name := range c.Names {
		if _, err := netip.ParseAddr(name); err != nil && !isHostName(name) {
			return fmt.Errorf("certificate for %q: %w", name, ErrBadName)
		}
	}
	if c.ACME != nil && !c.ACME.AgreeTerms {
		return ErrTerms
	}
	special := slices.Clone(c.SelfSigned)
	if c.ACME != nil {
		special = append(special, c.ACME.RSA...)
	}
	if c.ECHPublicName != "" {
		special = append(special, c.ECHPublicName)
	}
	served := set(c.Names)
	for _, name := range special {
		if !served[name] {
			return fmt.Errorf("%q: %w", name, ErrNotServed)
		}
	}
	for _, life := range []time.Duration{c.MailTickets, c.WebTickets} {
		if life != 0 && (life < time.Hour || life > longestTickets) {
			return ErrTicketLife
		}
	}
	return nil
}

func set(names []string) map[string]bool {
	s := make(map[string]bool, len(names))
	for _, name := range names {
		s[name] = true
	}
	return s
}

// isHostName reports whether s can be an SNI in the form that lookups use.
// Underscores are no part of host names, but of names that clients connect to.
func isHostName(s string) bool {
	if len(s) > maxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// maxName is the length of the longest domain name in text (RFC 1035).
const maxName = 253

// Reload reads the files again (SIGHUP). A pair that is broken now keeps its
// old certificate, and is in the error.
func (m *Manager) Reload(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var broken error
	for i, f := range m.config.Files {
		state := statFiles(f)
		pair, err := load(f)
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		m.pairs[i], m.disk[i] = newIdentity(pair), state
		m.pairs[i].file = f.Cert
		m.inspect(f, pair)
	}
	if slices.Contains(m.pairs, nil) {
		return broken // a pair that was never good: there is nothing to go on with
	}
	return errors.Join(broken, m.prepare(ctx))
}

// inspect warns of a certificate that works, but not as its owner may think.
func (m *Manager) inspect(f Files, pair *tls.Certificate) {
	covers := func(name string) bool { return pair.Leaf.VerifyHostname(name) == nil }
	if !slices.ContainsFunc(m.config.Names, covers) {
		m.config.Log.Warn().Str("file", f.Cert).Strs("names", pair.Leaf.DNSNames).Msg("certificate covers no name that is served")
	}
}

// prepare makes ready what m.pairs, the CA and self-signing give. The caller
// holds m.mu.
func (m *Manager) prepare(ctx context.Context) error {
	var uncovered []*served
	for _, s := range m.ready.all {
		ids := m.covering(s.name)
		switch {
		case ids != nil:
			s.state.Store(&servedState{ids, FromFiles})
		case !m.own[s.name]:
			m.readyFromCA(s)
		default:
			uncovered = append(uncovered, s)
		}
		if !m.own[s.name] {
			m.issuer.setIdle(s.name, ids != nil)
		}
	}
	if m.issuer != nil {
		m.issuer.poke()
	}
	err := m.prepareOwn(ctx, uncovered)
	m.warn()
	return err
}

// readyFromCA makes ready what the CA has issued for a name.
func (m *Manager) readyFromCA(s *served) {
	ids := m.issuer.identities(s.name)
	best(ids, m.config.Now())
	s.state.Store(&servedState{ids, FromACME})
}

// issued makes ready what the CA has issued for a name just now.
func (m *Manager) issued(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.ready.byName[name]; s.state.Load().source == FromACME {
		m.readyFromCA(s)
	}
}

// covering returns the pairs in files that are for a name, best first. The
// caller holds m.mu.
func (m *Manager) covering(name string) (ids []*identity) {
	for _, p := range m.pairs {
		if p.pair().Leaf.VerifyHostname(name) == nil {
			ids = append(ids, p)
		}
	}
	best(ids, m.config.Now())
	return ids
}

// checkEvery is how often Run looks whether something is due. The shortest time
// is that of a ticket key, which is in use for half an hour at least.
const checkEvery = 10 * time.Minute

// Run orders and renews certificates, follows the files, and rotates ticket and
// ECH keys until ctx ends. What fails is logged and tried again.
func (m *Manager) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.tend(ctx) })
	if len(m.config.Files) > 0 {
		group.Go(func() error { return m.watch(ctx) })
	}
	if m.issuer != nil {
		group.Go(func() error { return m.issuer.run(ctx) })
	}
	return group.Wait()
}

// tend does what is to be done every so often.
func (m *Manager) tend(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := m.rotate(ctx); err != nil {
			m.config.Log.Error().Err(err).Msg("session ticket keys were not rotated")
		}
		if err := m.rotateECH(ctx); err != nil {
			m.config.Log.Error().Err(err).Msg("ECH keys were not rotated")
		}
		if err := m.renew(ctx); err != nil {
			m.config.Log.Error().Err(err).Msg("certificates were not renewed")
		}
	}
}

// renew prepares anew, which renews self-signed certificates when that is due,
// and sorts expired ones behind.
func (m *Manager) renew(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.prepare(ctx)
}
