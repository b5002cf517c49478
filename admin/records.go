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
	i := slices.IndexFunc(s.Zones, func(d zone.Deployment) bool { return d.Domain == domain })
	if i < 0 {
		return nil, fmt.Errorf("dns: %q: %w", domain, accounts.ErrDomain)
	}
	return s.records(s.Zones[i]), nil
}

// records returns the records of deployments, each once. It adds to them what
// changes while the gateway runs.
func (s *Service) records(zones ...zone.Deployment) (all []Record) {
	keys := make(map[string][][32]byte)
	for _, st := range s.Certs.Status() {
		if key := [32]byte(st.SPKI); st.SPKI != (authkeys.Fingerprint{}) && !slices.Contains(keys[st.Name], key) {
			keys[st.Name] = append(keys[st.Name], key)
		}
	}
	seen := make(map[Record]bool)
	for _, d := range zones {
		d.ECH, d.Keys = s.Certs.ECHConfigList(), keys
		for _, r := range zone.Records(d) {
			if !seen[r] {
				seen[r] = true
				all = append(all, r)
			}
		}
	}
	return all
}

// recordsAbout returns the records of one host.
func (s *Service) recordsAbout(name string) []Record {
	return slices.DeleteFunc(s.records(s.Zones...), func(r Record) bool { return r.About != name })
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
	records := slices.DeleteFunc(s.records(s.Zones...), func(r Record) bool { return r.Type != "HTTPS" && r.Type != "SVCB" })
	return &ECH{PublicName: name, ConfigList: list, Records: records}, nil
}
