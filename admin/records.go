package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/certs/ech"
	"posthorn/certs/zone"
)

// ErrNoECH says that Encrypted Client Hello is off.
var ErrNoECH = errors.New("no Encrypted Client Hello: it is off")

// Record is a DNS record that the deployment wants.
type Record = zone.Record

// Records returns the DNS records that the mail domain wants.
func (s *Service) Records(_ context.Context, who Actor, domain string) ([]Record, error) {
	if err := s.operator(who, "dns"); err != nil {
		return nil, err
	}
	domain = hostName(domain)
	for _, d := range s.Zones {
		if d.Domain == domain {
			return zone.Records(s.complete(d)), nil
		}
	}
	return nil, fmt.Errorf("dns: %q: %w", domain, accounts.ErrDomain)
}

// complete adds to a deployment what changes while the gateway runs.
func (s *Service) complete(d zone.Deployment) zone.Deployment {
	d.ECH = s.Certs.ECHConfigList()
	d.Keys = make(map[string][][32]byte)
	for _, st := range s.Certs.Status() {
		if key := [32]byte(st.SPKI); st.SPKI != (authkeys.Fingerprint{}) && !slices.Contains(d.Keys[st.Name], key) {
			d.Keys[st.Name] = append(d.Keys[st.Name], key)
		}
	}
	return d
}

// records returns those of all domains, each once.
func (s *Service) records() (all []Record) {
	for _, d := range s.Zones {
		for _, r := range zone.Records(s.complete(d)) {
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	return all
}

// recordsAbout returns the records of one host.
func (s *Service) recordsAbout(name string) []Record {
	return slices.DeleteFunc(s.records(), func(r Record) bool { return r.About != name })
}

// ECH is what the world has to know to hide what it asks for.
type ECH struct {
	PublicName string `json:"public_name"`
	ConfigList []byte `json:"config_list"` // ECHConfigList (RFC 9849 section 4)
	// Records are those that tell of it.
	Records []Record `json:"records"`
}

// ShowECH returns what to publish for Encrypted Client Hello (ErrNoECH).
func (s *Service) ShowECH(_ context.Context, who Actor) (*ECH, error) {
	if err := s.operator(who, "ech show"); err != nil {
		return nil, err
	}
	list := s.Certs.ECHConfigList()
	if list == nil {
		return nil, ErrNoECH
	}
	_, name, err := ech.Parse(list[2:]) // of one config
	if err != nil {
		return nil, fmt.Errorf("ech show: %w", err)
	}
	records := slices.DeleteFunc(s.records(), func(r Record) bool { return r.Type != "HTTPS" && r.Type != "SVCB" })
	return &ECH{PublicName: name, ConfigList: list, Records: records}, nil
}
