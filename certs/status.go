package certs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"posthorn/authkeys"
)

var (
	// ErrNotServed says that a name is none of Config.Names.
	ErrNotServed = errors.New("the name is not served")
	// ErrNotRenewable says that a name's certificate is in a file, and that the
	// gateway reads it again by itself.
	ErrNotRenewable = errors.New("the certificate is in a file, which whoever wrote it renews")
)

// Source is where the certificates of a name come from.
type Source string

const (
	FromFiles  Source = "file"
	FromACME   Source = "acme"
	SelfSigned Source = "self-signed"
)

// Status describes one certificate of one name. What is not known or does not
// apply is zero.
type Status struct {
	Name    string
	Source  Source
	KeyType KeyType
	File    string // of the certificate
	// Issuer is the issuer's common name; empty: there is no certificate yet.
	Issuer              string
	NotBefore, NotAfter time.Time
	// Names are all DNS names and IP addresses that the certificate is for.
	Names []string
	// SPKI is the SHA-256 of the public key, as a TLSA record "3 1 1" has it.
	SPKI authkeys.Fingerprint
	// NextRenewal is when the CA is asked next, or self-signing renews.
	NextRenewal time.Time
	// Err is why the last attempt to get one failed.
	Err error
}

// Status describes what is served for each name, in the order of Config.Names.
// A name has several entries when it has several certificates.
func (m *Manager) Status() (all []Status) {
	for _, s := range m.ready.all {
		all = append(all, m.status(s)...)
	}
	return all
}

// StatusOf does so for one name (ErrNotServed).
func (m *Manager) StatusOf(name string) ([]Status, error) {
	for _, s := range m.ready.all {
		if s.name == name {
			return m.status(s), nil
		}
	}
	return nil, fmt.Errorf("%q: %w", name, ErrNotServed)
}

func (m *Manager) status(s *served) (all []Status) {
	state := s.state.Load()
	if state.source == FromACME {
		return m.issuer.status(s.name)
	}
	for _, id := range state.identities {
		st := id.status(s.name, state.source)
		if state.source == SelfSigned {
			st.NextRenewal = id.notAfter.Add(-ownRenewal)
		}
		all = append(all, st)
	}
	return all
}

// status describes the certificates that a name has, or will have, from the CA.
func (i *issuer) status(name string) (all []Status) {
	i.mu.Lock()
	list := make([]renewal, 0, len(i.byName[name].all))
	for _, r := range i.byName[name].all {
		list = append(list, *r)
	}
	i.mu.Unlock()
	for _, r := range list {
		st := Status{Name: name, Source: FromACME}
		if r.current != nil {
			st = r.current.status(name, FromACME)
		}
		st.KeyType, st.NextRenewal, st.Err = r.keyType, r.next, r.err
		all = append(all, st)
	}
	return all
}

func (i *identity) status(name string, from Source) Status {
	st := Status{Name: name, Source: from, KeyType: i.keyType, File: i.file, NotBefore: i.notBefore, NotAfter: i.notAfter}
	if pair := i.pair(); pair != nil {
		st.Issuer = pair.Leaf.Issuer.CommonName
		st.SPKI = sha256.Sum256(pair.Leaf.RawSubjectPublicKeyInfo)
		st.Names = pair.Leaf.DNSNames
		for _, ip := range pair.Leaf.IPAddresses {
			st.Names = append(st.Names[:len(st.Names):len(st.Names)], ip.String())
		}
	}
	return st
}

// Renew gets new certificates for a name at once, from the CA or by
// self-signing, and waits for them. The keys stay the same. It takes as long as
// the CA does; other names are not affected. Errors are ErrNotServed,
// ErrNotRenewable, and what the CA said.
func (m *Manager) Renew(ctx context.Context, name string) error {
	for _, s := range m.ready.all {
		if s.name != name {
			continue
		}
		switch s.state.Load().source {
		case FromACME:
			return m.issuer.renew(ctx, name)
		case SelfSigned:
			return m.renewOwn(ctx)
		}
		return fmt.Errorf("%q: %w", name, ErrNotRenewable)
	}
	return fmt.Errorf("%q: %w", name, ErrNotServed)
}

// renew orders the certificates of a name, due or not.
func (i *issuer) renew(ctx context.Context, name string) error {
	n := i.byName[name]
	select {
	case n.busy <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer i.poke()
	defer n.release()
	return i.work(ctx, n, true)
}
