package admin

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"posthorn/authkeys"
	"posthorn/certs"
)

// Cert is one certificate of one server name. What is not known or does not
// apply is left out.
type Cert struct {
	Name    string        `json:"name"`
	Source  certs.Source  `json:"source"`
	KeyType certs.KeyType `json:"key_type,omitempty"`
	File    string        `json:"file,omitempty"`
	// Issuer is the issuer's common name; empty: there is no certificate yet.
	Issuer    string    `json:"issuer,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	// Names are all that the certificate is for.
	Names       []string             `json:"names,omitempty"`
	Fingerprint authkeys.Fingerprint `json:"fingerprint,omitzero"` // of its public key
	NextRenewal time.Time            `json:"next_renewal,omitzero"`
	Error       string               `json:"error,omitempty"` // of the last attempt to get one
}

// ListCerts describes the certificates of all server names, the default one
// first. A name has several when it has several types of keys.
func (s *Service) ListCerts(_ context.Context, who Actor) ([]Cert, error) {
	if err := s.operator(who, "cert list"); err != nil {
		return nil, err
	}
	return describe(s.Certs.Status()), nil
}

// ShowCert describes the certificates of one server name.
func (s *Service) ShowCert(_ context.Context, who Actor, name string) ([]Cert, error) {
	if err := s.operator(who, "cert show"); err != nil {
		return nil, err
	}
	all, err := s.Certs.StatusOf(hostName(name))
	return describe(all), err
}

func describe(all []certs.Status) []Cert {
	list := make([]Cert, 0, len(all))
	for _, st := range all {
		c := Cert{
			Name: st.Name, Source: st.Source, KeyType: st.KeyType, File: st.File, Issuer: st.Issuer,
			NotBefore: st.NotBefore, NotAfter: st.NotAfter, Names: st.Names, Fingerprint: st.SPKI, NextRenewal: st.NextRenewal,
		}
		if st.Err != nil {
			c.Error = st.Err.Error()
		}
		list = append(list, c)
	}
	return list
}

// hostName is a name as the configuration has it.
func hostName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// RenewCert gets new certificates for a server name at once, and describes them.
// It takes as long as the CA does.
func (s *Service) RenewCert(ctx context.Context, who Actor, name string) ([]Cert, error) {
	const action = "cert renew"
	if err := s.operator(who, action); err != nil {
		return nil, err
	}
	name = hostName(name)
	if _, err := s.Certs.StatusOf(name); err != nil {
		return nil, err // nothing that is worth a place in the audit trail
	}
	err := s.do(ctx, who, &Event{Action: action, Detail: name}, func() error { return s.Certs.Renew(ctx, name) })
	if err != nil {
		return nil, err
	}
	return s.ShowCert(ctx, who, name)
}

// CertCheck is what a client from outside sees of a server name.
type CertCheck struct {
	Name    string `json:"name"`
	Address string `json:"address"` // HOST:PORT, as connected to if it was
	// Issuer, NotAfter and Fingerprint are of the certificate that was shown.
	Issuer      string               `json:"issuer,omitempty"`
	NotAfter    time.Time            `json:"not_after,omitzero"`
	Fingerprint authkeys.Fingerprint `json:"fingerprint,omitzero"`
	// ECH says whether Encrypted Client Hello was accepted; it is tried when it
	// is on.
	ECH bool `json:"ech"`
	// Problems say why a client would not be content; none: it would.
	Problems []string `json:"problems,omitempty"`
	// Records are what the DNS should say about the name.
	Records []Record `json:"records,omitempty"`
}

// CheckCert connects to a server name as a client from outside does: to address,
// which is HOST:PORT, or, when that is empty, to where the DNS leads on the
// shared port.
func (s *Service) CheckCert(ctx context.Context, who Actor, name, address string) (*CertCheck, error) {
	if err := s.operator(who, "cert check"); err != nil {
		return nil, err
	}
	name = hostName(name)
	if address == "" {
		address = net.JoinHostPort(name, strconv.Itoa(s.sharedPort()))
	}
	check := &CertCheck{Name: name, Address: address, Records: s.recordsAbout(name)}
	probe, err := s.Certs.Check(ctx, certs.ProbeConfig{Name: name, Address: address, ECHConfigList: s.Certs.ECHConfigList()})
	if errors.Is(err, certs.ErrNotServed) {
		return nil, err
	}
	if probe != nil {
		check.Address, check.Issuer, check.NotAfter = probe.Address, probe.Issuer, probe.NotAfter
		check.Fingerprint, check.ECH = probe.SPKI, probe.ECH
	}
	if err != nil {
		check.Problems = strings.Split(err.Error(), "\n") // of errors.Join
	}
	return check, nil
}

// sharedPort is where every protocol is served.
func (s *Service) sharedPort() int {
	i := slices.IndexFunc(s.Instance.Listeners, func(l Listener) bool { return l.Name == "shared" })
	if i < 0 {
		return 443
	}
	_, port, err := net.SplitHostPort(s.Instance.Listeners[i].Address)
	if n, bad := strconv.Atoi(port); err == nil && bad == nil {
		return n
	}
	return 443
}
