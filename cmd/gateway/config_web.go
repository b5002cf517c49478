package main

import (
	"fmt"
	"slices"
	"time"

	"posthorn/authkeys"
)

// Web is about the pages for people.
type Web struct {
	// Account serves the account pages at /account/: sign in, devices' keys,
	// password, sessions.
	Account bool `yaml:"account"`
	// Hosts are the server names that have the gateway's own pages; on others
	// their paths are the site's. Certificates cover them too. Empty: every name.
	Hosts []string `yaml:"hosts"`
	// AskCertificate are the server names on which web browsers are asked for a
	// client certificate, so that a key signs in. Certificates cover them too.
	AskCertificate []string `yaml:"ask_certificate"`
	// SessionIdle is after what time without a request somebody is signed out.
	SessionIdle Duration `yaml:"session_idle"`
	// SessionMax is after what time somebody has to sign in again in any case.
	SessionMax Duration `yaml:"session_max"`
	// HSTS is for how long browsers are told to use nothing but HTTPS (RFC 6797),
	// by the gateway's own answers, those of files and redirects too; 0: they are
	// not.
	HSTS Duration `yaml:"hsts"`
	// Transport carries mail inside web requests.
	Transport WebTransport `yaml:"transport"`
}

// Admin is about administration.
type Admin struct {
	// Socket is the unix socket that the commands talk to; empty: admin.sock
	// in DataDir. Root and the gateway's own user can use it.
	Socket string `yaml:"socket"`
	// Host is the server name on which the API and the operator's pages are served
	// on the shared port, and no site is. Browsers are asked for a client certificate
	// there. Empty: they are not.
	Host string `yaml:"host"`
	// Keys are those of the operators, who may do everything. (reload)
	Keys []AdminKey `yaml:"keys"`
}

// AdminKey is the public key of an operator.
type AdminKey struct {
	// Name is what the audit trail calls the operator.
	Name string `yaml:"name"`
	// Fingerprint is that of the key, as SHA256:…
	Fingerprint string `yaml:"fingerprint"`
}

// certNames are the server names on which web clients are asked for a
// certificate.
func (c *Config) certNames() map[string]bool {
	names := make(map[string]bool)
	for _, n := range append(slices.Clone(c.Web.AskCertificate), c.Admin.Host) {
		if n != "" {
			names[n] = true
		}
	}
	return names
}

func defaultWeb() Web {
	return Web{
		Account: true, SessionIdle: Duration(30 * time.Minute), SessionMax: Duration(12 * time.Hour),
		HSTS: Duration(730 * 24 * time.Hour), Transport: defaultTransport(),
	}
}

func (c *Config) checkWeb(p *problems) {
	p.names("web.hosts", c.Web.Hosts)
	for i, n := range c.Web.Hosts {
		c.checkWebName(p, fmt.Sprintf("web.hosts[%d]", i), n)
	}
	p.duration("web.session_idle", c.Web.SessionIdle, time.Minute, 30*24*time.Hour)
	p.duration("web.session_max", c.Web.SessionMax, time.Minute, 90*24*time.Hour)
	p.duration("web.hsts", c.Web.HSTS, 0, 10*365*24*time.Hour)
	c.checkTransport(p)
	p.names("web.ask_certificate", c.Web.AskCertificate)
	for i, n := range c.Web.AskCertificate {
		c.checkWebName(p, fmt.Sprintf("web.ask_certificate[%d]", i), n)
	}
}

// checkWebName refuses a name that leads to mail on the shared port when no
// ALPN is offered.
func (c *Config) checkWebName(p *problems, key, name string) {
	if slices.Contains(c.imapNames(), name) || slices.Contains(c.submissionNames(), name) {
		p.add(key, "leads to mail already: %s", name)
	}
}

func (c *Config) checkAdmin(p *problems) {
	a := &c.Admin
	if a.Host != "" {
		p.name("admin.host", a.Host)
		c.checkWebName(p, "admin.host", a.Host)
	} else if len(a.Keys) > 0 {
		p.add("admin.keys", "are of no use without admin.host")
	}
	seen := make(map[authkeys.Fingerprint]bool)
	for i, k := range a.Keys {
		key := fmt.Sprintf("admin.keys[%d]", i)
		if k.Name == "" || len(k.Name) > 100 {
			p.add(key, "must have a name, of at most 100 bytes")
		}
		f, err := authkeys.ParseFingerprint(k.Fingerprint)
		switch {
		case err != nil:
			p.add(key+".fingerprint", "must be SHA256:… as \"posthorn key gen\" shows it, not %q", k.Fingerprint)
		case seen[f]:
			p.add(key+".fingerprint", "stands there twice")
		}
		seen[f] = true
	}
}

// pageHosts are the names that have the gateway's own pages; none: all of them.
func (c *Config) pageHosts() []string {
	if len(c.Web.Hosts) == 0 {
		return nil
	}
	hosts := slices.Concat(c.Web.Hosts, c.Web.AskCertificate)
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// adminKeys returns the names of the operators by their keys' fingerprints, of a
// configuration that was checked.
func (c *Config) adminKeys() map[authkeys.Fingerprint]string {
	keys := make(map[authkeys.Fingerprint]string)
	for _, k := range c.Admin.Keys {
		if f, err := authkeys.ParseFingerprint(k.Fingerprint); err == nil {
			keys[f] = k.Name
		}
	}
	return keys
}
