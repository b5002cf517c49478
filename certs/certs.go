// Package certs provides the server's certificates and session ticket keys. A
// handshake gets a ready certificate or fails at once: nothing here waits for
// a CA, a disk or a lock while a client does.
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

	"posthorn/store"
)

// ErrBadName says that one of Config.Names is no host name.
var ErrBadName = errors.New("not a host name in lower case")

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
	// name, with keys of different types. Names that no file covers get a
	// self-signed certificate, whose key stays the same over renewals and
	// restarts.
	Files []Files
	// UnknownNameDefault serves the default certificate to names that are not
	// served, instead of the alert unrecognized_name.
	UnknownNameDefault bool
	Store              store.KV
	Log                zerolog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Manager holds ready certificates. Its methods may be called concurrently.
type Manager struct {
	config  Config
	ready   atomic.Pointer[ready]
	tickets atomic.Pointer[ticketKeys]

	mu    sync.Mutex
	pairs []*tls.Certificate // of config.Files, in that order; guarded by mu
}

// New loads or makes every certificate of c. Errors name the file and what is
// wrong with it.
func New(ctx context.Context, c Config) (*Manager, error) {
	if len(c.Names) == 0 {
		return nil, fmt.Errorf("certificates for no name: %w", ErrBadName)
	}
	for _, name := range c.Names {
		if _, err := netip.ParseAddr(name); err != nil && !isHostName(name) {
			return nil, fmt.Errorf("certificate for %q: %w", name, ErrBadName)
		}
	}
	c.Names = slices.Clone(c.Names)
	if c.Now == nil {
		c.Now = time.Now
	}
	m := &Manager{config: c, pairs: make([]*tls.Certificate, len(c.Files))}
	if err := m.Reload(ctx); err != nil {
		return nil, err
	}
	if err := m.rotate(ctx); err != nil {
		return nil, err
	}
	return m, nil
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
		pair, err := load(f)
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		m.pairs[i] = pair
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
	warnOfExpiry(m.config.Log.With().Str("file", f.Cert).Logger(), pair.Leaf, m.config.Now())
}

// prepare makes ready what m.pairs and the self-signed certificate give. The
// caller holds m.mu.
func (m *Manager) prepare(ctx context.Context) error {
	now := m.config.Now()
	r := &ready{byName: make(map[string][]*tls.Certificate), unknownToo: m.config.UnknownNameDefault}
	var uncovered []string
	for _, name := range m.config.Names {
		if r.byName[name] = covering(m.pairs, name, now); r.byName[name] == nil {
			uncovered = append(uncovered, name)
		}
	}
	if uncovered != nil {
		own, err := selfSigned(ctx, m.config.Store, uncovered, now)
		if err != nil {
			return err
		}
		for _, name := range uncovered {
			r.byName[name] = []*tls.Certificate{own}
		}
	}
	r.byDefault = r.byName[m.config.Names[0]]
	for _, name := range m.config.Names {
		if _, err := netip.ParseAddr(name); err == nil {
			delete(r.byName, name)
		}
	}
	m.ready.Store(r)
	return nil
}

// checkEvery is how often Run looks whether something is due.
const checkEvery = time.Hour

// Run renews self-signed certificates and rotates ticket keys until ctx ends.
// What fails is logged and tried again at the next round.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for round := 1; ; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := m.rotate(ctx); err != nil {
			m.config.Log.Error().Err(err).Msg("session ticket keys were not rotated")
		}
		if err := m.renew(ctx, round%24 == 0); err != nil {
			m.config.Log.Error().Err(err).Msg("certificates were not renewed")
		}
	}
}

// renew prepares anew, which renews the self-signed certificate when that is
// due and sorts expired ones behind.
func (m *Manager) renew(ctx context.Context, warn bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if warn {
		for i, f := range m.config.Files {
			warnOfExpiry(m.config.Log.With().Str("file", f.Cert).Logger(), m.pairs[i].Leaf, m.config.Now())
		}
	}
	return m.prepare(ctx)
}
