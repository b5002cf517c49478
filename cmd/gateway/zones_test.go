package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthorn/certs/zone"
)

// Each name is in the zone that it belongs to.
func TestZones(t *testing.T) {
	cfg, mistakes := parseConfig([]byte(`
domains: [example.org, sub.example.org, example.net]
hostname: mx.example.com
mail_names: {imap: [imap.example.org, a.sub.example.org]}
web_names: {autoconfig: true, mta_sts: x1}
tls:
  names: [web.sub.example.org, elsewhere.example]
  ech: {public_name: sub.example.org}
  acme: {agree_terms: true, directory: letsencrypt-staging}
`))
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	le := []string{"letsencrypt.org"}
	want := []zone.Deployment{
		{
			Domain: "example.org", Hostname: "mx.example.com", IMAP: []string{"imap.example.org"},
			Submission: []string{"smtp.example.org", "submission.example.org"}, Web: []string{"example.org", "elsewhere.example"},
			Autoconfig: "autoconfig.example.org", MTASTS: "mta-sts.example.org", MTASTSID: "x1", Issuers: le,
		},
		{
			Domain: "sub.example.org", Hostname: "mx.example.com", IMAP: []string{"a.sub.example.org"},
			Submission: []string{"smtp.sub.example.org", "submission.sub.example.org"},
			Web:        []string{"sub.example.org", "sub.example.org", "web.sub.example.org"},
			Autoconfig: "autoconfig.sub.example.org", MTASTS: "mta-sts.sub.example.org", MTASTSID: "x1", Issuers: le,
		},
		{
			Domain: "example.net", Hostname: "mx.example.com", IMAP: []string{"imap.example.org", "a.sub.example.org"},
			Submission: []string{"smtp.example.net", "submission.example.net"}, Web: []string{"example.net"},
			Autoconfig: "autoconfig.example.net", MTASTS: "mta-sts.example.net", MTASTSID: "x1", Issuers: le,
		},
	}
	if diff := cmp.Diff(want, cfg.zones()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What clients connect to has records, whichever key of the configuration names it.
func TestZonesOfAllNames(t *testing.T) {
	cfg, mistakes := parseConfig([]byte(`
domains: [example.org]
hostname: mx.example.org
web_names: {autoconfig: true, mta_sts: x1}
sites:
  - { hosts: [www.example.org, www.example.net], redirect: "https://example.org/" }
web: { hosts: [account.example.org], ask_certificate: [key.example.org] }
admin: { host: admin.example.org }
tls: { names: [more.example.org], ech: {public_name: public.example.org} }
`))
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	d := cfg.zones()[0]
	have := slices.Concat([]string{d.Hostname, d.Autoconfig, d.MTASTS}, d.IMAP, d.Submission, d.Web)
	for _, name := range cfg.serverNames() {
		if !slices.Contains(have, name) {
			t.Errorf("no records for %s", name)
		}
	}
}

// Thousands of domains are no reason to start slowly.
func TestManyZones(t *testing.T) {
	cfg := defaultConfig()
	for i := range 2500 {
		cfg.Domains = append(cfg.Domains, fmt.Sprintf("d%d.example", i))
	}
	cfg.WebNames.Autoconfig = true
	begin := time.Now()
	if p := cfg.check(); len(p) > 0 {
		t.Fatal(p)
	}
	all := cfg.zones()
	if took := time.Since(begin); took > 5*time.Second { // it takes a tenth of a second
		t.Errorf("%d names took %v", len(cfg.serverNames()), took)
	}
	if !slices.Equal(all[2500].IMAP, []string{"imap.d2499.example"}) {
		t.Errorf("%+v", all[2500])
	}
}
