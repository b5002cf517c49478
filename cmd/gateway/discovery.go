package main

import (
	"fmt"
	"net"
	"slices"
	"time"

	"posthorn/alpn"
	"posthorn/autoconf"
	"posthorn/certs"
	"posthorn/certs/zone"
	"posthorn/handlers/https"
	"posthorn/handlers/https/discovery"
	"posthorn/handlers/https/signup"
)

// mountDiscovery has s tell mail programs and others what they look for.
func (g *gateway) mountDiscovery(s *https.Server) error {
	for _, w := range g.cfg.warnings(time.Now()) {
		g.log.Warn().Msg(w)
	}
	h := &discovery.Handler{Port: int(g.published(alpn.Shared)), PolicyDomains: g.cfg.Domains}
	if g.cfg.Autoconfig.Enabled {
		h.Domains, h.SelfSigned = g.deployments(), g.selfSigned
		for i := range h.Domains {
			g.warnOfUntrusted(&h.Domains[i])
		}
	}
	if g.cfg.WebNames.MTASTS != "" {
		h.Policy = g.cfg.MTASTS.policy()
	}
	var err error
	if h.SecurityTXT, err = g.cfg.SecurityTXT.file(); err != nil {
		return err
	}
	h.SecurityHosts = append(slices.Clone(g.cfg.Domains), g.cfg.hostname())
	slices.Sort(h.SecurityHosts)
	h.SecurityHosts = slices.Compact(h.SecurityHosts)
	h.Mount(s)
	return g.mountSignup(s)
}

// mountSignup has s create accounts for people who ask, where that is configured.
func (g *gateway) mountSignup(s *https.Server) error {
	if len(g.cfg.Signup.Domains) == 0 {
		return nil
	}
	rules, err := g.cfg.Signup.rules()
	if err != nil {
		return fmt.Errorf("signup.token_file: %w", err)
	}
	h := &signup.Handler{Signups: g.admin.Signups(rules), Port: int(g.published(alpn.Shared)), Log: g.log}
	h.Mount(s)
	return nil
}

// deployments are how the mailboxes of each domain are reached from outside.
func (g *gateway) deployments() (all []autoconf.Deployment) {
	for _, z := range g.cfg.zones() {
		imap, submission := g.cfg.waysIn(z.Domain)
		d := autoconf.Deployment{Domain: z.Domain, Name: g.cfg.Autoconfig.Name, ALPN: g.cfg.Autoconfig.ALPN}
		if imap != noWay {
			d.IMAP = g.service(&z, z.IMAP, alpn.IMAPS, alpn.IMAPStartTLS)
			d.IMAP.Keys = imap == byKey
		}
		if submission != noWay {
			d.Submission = g.service(&z, z.Submission, alpn.Submissions, alpn.SubmissionStartTLS)
			d.Submission.Keys = submission == byKey
		}
		all = append(all, d)
	}
	return all
}

func (g *gateway) service(z *zone.Deployment, names []string, tls, startTLS alpn.Port) autoconf.Service {
	return autoconf.Service{
		SharedPort: g.published(alpn.Shared), SharedName: names[0],
		Host: z.Hostname, TLSPort: g.published(tls), StartTLSPort: g.published(startTLS),
	}
}

// warnOfUntrusted says which ways in mail programs are not told of.
func (g *gateway) warnOfUntrusted(d *autoconf.Deployment) {
	_, left := d.Believed(g.selfSigned)
	for _, name := range left {
		g.log.Warn().Str("name", name).Msg("mail programs are not told of the shared port, as no CA's certificate is for this name: " +
			"get one (tls.files, tls.acme), or set autoconfig.alpn where all offer ALPN")
	}
}

// selfSigned reports whether a name has no certificate of a CA at the moment.
func (g *gateway) selfSigned(name string) bool {
	status, err := g.certs.StatusOf(name)
	return err == nil && slices.ContainsFunc(status, func(s certs.Status) bool { return s.Source == certs.SelfSigned })
}

// published returns a port as clients see it; 0: there is none for them. What
// listens on loopback addresses alone is for programs of this machine, unless
// everything does.
func (g *gateway) published(port alpn.Port) uint16 {
	if public := g.cfg.Autoconfig.Ports.of(port); public != 0 {
		return uint16(public)
	}
	var own, anywhere uint16 // the first port of those that are not on loopback addresses
	for _, l := range g.sockets.mail {
		tcp, ok := l.Addr().(*net.TCPAddr)
		if !ok || tcp.IP.IsLoopback() {
			continue
		}
		anywhere = uint16(tcp.Port)
		if l.port == port && own == 0 {
			own = uint16(tcp.Port)
		}
	}
	if anywhere == 0 {
		return g.sockets.port(port)
	}
	return own
}

// way is how clients log in to one protocol of a domain.
type way int

const (
	noWay      way = iota // there is no server for it
	byPassword            // only with a password
	byKey                 // with a key, too
)

// waysIn are how the accounts of a domain log in, unless their records lead them
// to other backends.
func (c *Config) waysIn(domain string) (imap, submission way) {
	for i := range c.Backends {
		if b := &c.Backends[i]; slices.Contains(c.domainsOf(b.Name), domain) {
			return b.IMAP.way(), b.Submission.way()
		}
	}
	return byKey, byKey // embedded
}

func (s *BackendServer) way() way {
	switch {
	case !s.has():
		return noWay
	case s.Login == "":
		return byPassword
	}
	return byKey
}
