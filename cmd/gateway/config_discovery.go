package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"posthorn/alpn"
	"posthorn/autoconf"
)

// Autoconfig is about what mail programs learn of their own accord.
type Autoconfig struct {
	// Enabled tells them how to reach the mailboxes, under each of Domains and,
	// where those are served, under autoconfig.DOMAIN and autodiscover.DOMAIN.
	Enabled bool `yaml:"enabled"`
	// Name is what people call the service; empty: the domain.
	Name string `yaml:"name"`
	// ALPN says that all mail programs offer ALPN, as Delta Chat does: on the shared
	// port they are sent to the domain's own name, in place of MailNames.
	ALPN bool `yaml:"alpn"`
	// Ports are those that clients come to, where others are listened on.
	Ports PublicPorts `yaml:"ports"`
}

// PublicPorts are the ports of Listen as they are seen from outside, also where
// the mail system behind has them; 0: the same as here, unless it is on a
// loopback address alone.
type PublicPorts struct {
	Shared             int `yaml:"shared"`
	IMAPS              int `yaml:"imaps"`
	Submissions        int `yaml:"submissions"`
	IMAPStartTLS       int `yaml:"imap_starttls"`
	SubmissionStartTLS int `yaml:"submission_starttls"`
}

// of returns the one for a kind of port.
func (p *PublicPorts) of(port alpn.Port) int {
	switch port {
	case alpn.Shared:
		return p.Shared
	case alpn.IMAPS:
		return p.IMAPS
	case alpn.Submissions:
		return p.Submissions
	case alpn.IMAPStartTLS:
		return p.IMAPStartTLS
	case alpn.SubmissionStartTLS:
		return p.SubmissionStartTLS
	}
	return 0
}

// MTASTS is the MTA-STS policy (RFC 8461), whose id is WebNames.MTASTS.
type MTASTS struct {
	// Mode is "enforce", "testing" or "none".
	Mode string `yaml:"mode"`
	// MX are the servers that mail for Domains is delivered to, as names or
	// *.DOMAIN; empty: the policy is the site's to serve, unless Mode is none.
	MX []string `yaml:"mx"`
	// MaxAge is how long other servers keep it.
	MaxAge Duration `yaml:"max_age"`
}

// SecurityTXT is where to report vulnerabilities (RFC 9116).
type SecurityTXT struct {
	// Contact are URIs, the one to try first comes first; empty: the file is the
	// site's to serve.
	Contact []string `yaml:"contact"`
	// Expires is a date, or a time (RFC 3339), within a year.
	Expires            string   `yaml:"expires"`
	Encryption         []string `yaml:"encryption"`
	Acknowledgments    []string `yaml:"acknowledgments"`
	PreferredLanguages []string `yaml:"preferred_languages"`
	Canonical          []string `yaml:"canonical"`
	Policy             []string `yaml:"policy"`
	Hiring             []string `yaml:"hiring"`
}

func defaultAutoconfig() Autoconfig { return Autoconfig{Enabled: true} }

func defaultMTASTS() MTASTS {
	return MTASTS{Mode: autoconf.Testing, MaxAge: Duration(7 * 24 * time.Hour)}
}

// policy is what the gateway serves; nil: nothing.
func (m *MTASTS) policy() *autoconf.Policy {
	if len(m.MX) == 0 && m.Mode != autoconf.None {
		return nil
	}
	return &autoconf.Policy{Mode: m.Mode, MX: m.MX, MaxAge: time.Duration(m.MaxAge)}
}

var errDate = errors.New("must be a date, such as 2027-01-31, or a time, such as 2027-01-31T12:00:00Z")

// file is what the gateway serves; nil: nothing.
func (s *SecurityTXT) file() (*autoconf.SecurityTXT, error) {
	if len(s.Contact) == 0 && s.Expires == "" {
		return nil, nil
	}
	f := &autoconf.SecurityTXT{
		Contact: s.Contact, Encryption: s.Encryption, Acknowledgments: s.Acknowledgments, Languages: s.PreferredLanguages,
		Canonical: s.Canonical, Policy: s.Policy, Hiring: s.Hiring,
	}
	if s.Expires == "" {
		return f, nil
	}
	var err error
	if f.Expires, err = time.Parse(time.DateOnly, s.Expires); err != nil {
		if f.Expires, err = time.Parse(time.RFC3339, s.Expires); err != nil {
			return nil, errDate
		}
	}
	return f, nil
}

func (c *Config) checkDiscovery(p *problems) {
	if strings.ContainsFunc(c.Autoconfig.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		p.add("autoconfig.name", "must be one line of text")
	}
	for _, l := range c.listens() {
		if public := c.Autoconfig.Ports.of(l.port); public < 0 || public > 65535 {
			p.add("autoconfig.ports."+strings.TrimPrefix(l.key, "listen."), "must be a port, not %d", public)
		}
	}
	c.checkMTASTS(p)
	switch file, err := c.SecurityTXT.file(); {
	case err != nil:
		p.add("security_txt.expires", "%v, not %q", err, c.SecurityTXT.Expires)
	case file != nil:
		// One that has run out meanwhile is no reason not to start: see warnings.
		if field, err := file.Check(time.Now()); err != nil && !errors.Is(err, autoconf.ErrExpired) {
			p.add("security_txt."+strings.ReplaceAll(field, "-", "_"), "%v", err)
		}
	}
}

func (c *Config) checkMTASTS(p *problems) {
	m := &c.MTASTS
	p.oneOf("mta_sts.mode", m.Mode, autoconf.Enforce, autoconf.Testing, autoconf.None)
	for i, mx := range m.MX {
		p.name(fmt.Sprintf("mta_sts.mx[%d]", i), strings.TrimPrefix(mx, "*."))
	}
	p.duration("mta_sts.max_age", m.MaxAge, 24*time.Hour, 365*24*time.Hour)
	if len(m.MX) > 0 && c.WebNames.MTASTS == "" {
		p.add("mta_sts.mx", "is of no use without web_names.mta_sts, the policy's id")
	}
}

// warnings are what is no mistake, but not what its author wants either.
func (c *Config) warnings(now time.Time) (all []string) {
	file, err := c.SecurityTXT.file()
	if err != nil || file == nil {
		return nil
	}
	switch left := file.Expires.Sub(now); {
	case left <= 0:
		all = append(all, "security_txt.expires: "+c.SecurityTXT.Expires+" is over, so the file is not served")
	case left < 30*24*time.Hour:
		all = append(all, "security_txt.expires: the file is served until "+c.SecurityTXT.Expires+" only")
	}
	return all
}
