package main

import (
	"fmt"
	"slices"

	"posthorn/authkeys"
)

// Web is about the pages for people.
type Web struct {
	// AskCertificate are the server names on which web browsers are asked for a
	// client certificate, so that a key signs in. Certificates cover them too.
	AskCertificate []string `yaml:"ask_certificate"`
}

// Admin is about administration.
type Admin struct {
	// Socket is the unix socket that the commands talk to; empty: admin.sock
	// in DataDir. Root and the gateway's own user can use it.
	Socket string `yaml:"socket"`
	// Host is the server name on which the API is served on the shared port.
	// Browsers are asked for a client certificate there. Empty: it is not.
	Host string `yaml:"host"`
	// Keys are those of the operators, who may do everything.
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

func (c *Config) checkWeb(p *problems) {
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
