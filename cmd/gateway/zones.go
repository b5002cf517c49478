package main

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"posthorn/alpn"
	"posthorn/certs/zone"
)

// zones are what the domains' DNS records are computed from.
func (g *gateway) zones() (all []zone.Deployment) {
	public := g.publicAddresses()
	for _, domain := range g.cfg.Domains {
		d := g.cfg.zone(domain)
		d.Addresses, d.SharedPort = public, uint16(g.sharedPort())
		d.IMAPSPort, d.SubmissionsPort = g.sockets.port(alpn.IMAPS), g.sockets.port(alpn.Submissions)
		all = append(all, d)
	}
	return all
}

// zone is what the configuration says of a domain.
func (c *Config) zone(domain string) zone.Deployment {
	within := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return c.domainOf(n) != domain })
	}
	d := zone.Deployment{
		Domain: domain, Hostname: c.hostname(),
		IMAP: within(c.imapNames()...), Submission: within(c.submissionNames()...),
		MTASTSID: c.WebNames.MTASTS,
		Web:      within(append([]string{domain, c.TLS.ECH.PublicName}, c.TLS.Names...)...),
		Issuers:  c.TLS.ACME.issuers(),
	}
	d.Autoconfig, d.MTASTS = c.webNamesOf(domain)
	if len(d.IMAP) == 0 { // all domains share what is set in mail_names
		d.IMAP = c.imapNames()
	}
	if len(d.Submission) == 0 {
		d.Submission = c.submissionNames()
	}
	return d
}

// domainOf returns the domain whose zone a name is most likely in: the longest
// one that it is or is below of, else the first.
func (c *Config) domainOf(name string) string {
	best := ""
	for _, d := range c.Domains {
		if (name == d || strings.HasSuffix(name, "."+d)) && len(d) > len(best) {
			best = d
		}
	}
	if best == "" {
		return c.Domains[0]
	}
	return best
}

// port returns the first port of a kind; 0: there is none.
func (s *sockets) port(p alpn.Port) uint16 {
	for _, l := range s.mail {
		if tcp, ok := l.Addr().(*net.TCPAddr); ok && l.port == p {
			return uint16(tcp.Port)
		}
	}
	return 0
}

// publicAddresses are where the gateway can be reached from outside, as far as
// that can be told from inside.
func (g *gateway) publicAddresses() (all []netip.Addr) {
	for _, text := range g.cfg.PublicAddresses {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, a)
		}
	}
	if len(all) > 0 {
		return all
	}
	add := func(a net.Addr) {
		var ip net.IP
		switch a := a.(type) {
		case *net.TCPAddr:
			ip = a.IP
		case *net.IPNet:
			ip = a.IP
		}
		if n, ok := netip.AddrFromSlice(ip); ok && isPublic(n.Unmap()) && !slices.Contains(all, n.Unmap()) {
			all = append(all, n.Unmap())
		}
	}
	for _, s := range g.sockets.mail {
		if s.port != alpn.Shared {
			continue
		}
		add(s.Addr())
		if tcp, ok := s.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
			own, err := net.InterfaceAddrs()
			if err != nil {
				g.log.Warn().Err(err).Msg("the addresses of this machine are not known: set public_addresses")
			}
			for _, a := range own {
				add(a)
			}
		}
	}
	return all
}

// isPublic reports whether an address is one for the whole Internet.
func isPublic(a netip.Addr) bool { return a.IsGlobalUnicast() && !a.IsPrivate() }
