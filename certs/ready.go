package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"posthorn/alpn"
	"posthorn/authkeys"
)

// ready is what handshakes look at. Its names do not change, what is served for
// each of them does.
type ready struct {
	all        []*served // as configured
	byName     map[string]*served
	unknownToo bool // unknown names get the default, which is the first of all
}

// served is what is served for one name.
type served struct {
	name  string
	state atomic.Pointer[servedState]
}

type servedState struct {
	identities []*identity // best first; empty: nothing yet
	source     Source
}

// shown returns the certificates that clients get to see: of each key type, the
// best one.
func (s *servedState) shown() (ids []*identity) {
	for _, id := range s.identities {
		if !slices.ContainsFunc(ids, func(better *identity) bool { return better.keyType == id.keyType }) {
			ids = append(ids, id)
		}
	}
	return ids
}

// newReady makes a place for each of the names. Those of IP addresses are none
// that an SNI can ask for (RFC 6066 section 3).
func newReady(c *Config) ready {
	r := ready{byName: make(map[string]*served, len(c.Names)), unknownToo: c.UnknownNameDefault}
	seen := make(map[string]bool, len(c.Names))
	for _, name := range c.Names {
		if seen[name] {
			continue
		}
		seen[name] = true
		s := &served{name: name}
		s.state.Store(&servedState{})
		r.all = append(r.all, s)
		if _, err := netip.ParseAddr(name); err != nil {
			r.byName[name] = s
		}
	}
	return r
}

// GetCertificate implements tls.Config.GetCertificate. It returns nil and no
// error for a name that is not served, or for which there is no certificate yet,
// which crypto/tls answers with the alert unrecognized_name when its config has
// no other certificate. Where several certificates cover the name, the client
// gets the best one that it supports. A CA that comes with acme-tls/1 gets the
// answer to its challenge, and nobody else does.
func (m *Manager) GetCertificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(h.SupportedProtos) == 1 && h.SupportedProtos[0] == string(alpn.ACME) {
		return m.challenge(h.ServerName), nil
	}
	s := m.ready.find(h.ServerName)
	if s == nil {
		return nil, nil
	}
	var last *tls.Certificate
	for i, ids := 0, s.state.Load().identities; i < len(ids); i++ {
		c := ids[i].pair()
		if c == nil {
			continue
		}
		if i == len(ids)-1 || h.SupportsCertificate(c) == nil {
			return c, nil
		}
		last = c
	}
	return last, nil
}

// Serves reports whether an SNI ("" for none) is one of a name that is served. A
// handshake with it gets a certificate unless the CA has issued none yet.
func (m *Manager) Serves(serverName string) bool { return m.ready.find(serverName) != nil }

// Named reports whether a host name is one of Config.Names, whatever
// UnknownNameDefault has clients get that ask for others.
func (m *Manager) Named(host string) bool { return m.ready.named(host) != nil }

// find returns what is served for an SNI; nil: it is not.
func (r *ready) find(serverName string) *served {
	if serverName == "" {
		return r.all[0]
	}
	if s := r.named(serverName); s != nil {
		return s
	}
	if r.unknownToo {
		return r.all[0]
	}
	return nil
}

// named returns what is served for a name in any case, with or without a final
// dot; nil: it is not.
func (r *ready) named(name string) *served {
	if s, ok := r.byName[name]; ok {
		return s
	}
	if len(name) > maxName+1 {
		return nil
	}
	return r.byName[strings.ToLower(strings.TrimSuffix(name, "."))]
}

// challenge returns the certificate that answers a pending tls-alpn-01 challenge
// (RFC 8737); nil: there is none.
func (m *Manager) challenge(serverName string) *tls.Certificate {
	if m.issuer == nil || len(serverName) > maxName {
		return nil
	}
	return m.issuer.client.Challenge(strings.ToLower(serverName))
}

// Pending reports whether a tls-alpn-01 challenge is pending for a server name. It
// is for alpn.Router.ACMEPending.
func (m *Manager) Pending(serverName string) bool { return m.challenge(serverName) != nil }

// Default returns the certificate for clients that send no SNI, and the
// fingerprint of its public key; nil as long as the CA has issued none.
func (m *Manager) Default() (*x509.Certificate, authkeys.Fingerprint) {
	for _, id := range m.ready.all[0].state.Load().identities {
		if pair := id.pair(); pair != nil {
			return pair.Leaf, sha256.Sum256(pair.Leaf.RawSubjectPublicKeyInfo)
		}
	}
	return nil, authkeys.Fingerprint{}
}
