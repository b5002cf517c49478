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
func (g *gateway) zones() []zone.Deployment {
	public, all := g.publicAddresses(), g.cfg.zones()
	for i := range all {
		d := &all[i]
		d.Addresses, d.SharedPort = public, uint16(g.sharedPort())
		d.IMAPSPort, d.SubmissionsPort = g.sockets.port(alpn.IMAPS), g.sockets.port(alpn.Submissions)
	}
	return all
}

// zones are what the configuration says of each domain.
func (c *Config) zones() []zone.Deployment {
	all, of := make([]zone.Deployment, len(c.Domains)), make(map[string]*zone.Deployment, len(c.Domains))
	for i, domain := range c.Domains {
		d := &all[i]
		of[domain] = d
		d.Domain, d.Hostname, d.Web = domain, c.hostname(), []string{domain}
		d.Autoconfig, d.MTASTS = c.webNamesOf(domain)
		d.MTASTSID, d.Issuers = c.WebNames.MTASTS, c.TLS.ACME.issuers()
	}
	// A name is in the zone of the longest domain that it is below of, else in the
	// first one.
	in := func(name string) *zone.Deployment {
		for rest, more := name, true; more; _, rest, more = strings.Cut(rest, ".") {
			if d := of[rest]; d != nil {
				return d
			}
		}
		return &all[0]
	}
	for _, n := range c.imapNames() {
		in(n).IMAP = append(in(n).IMAP, n)
	}
	for _, n := range c.submissionNames() {
		in(n).Submission = append(in(n).Submission, n)
	}
	for _, n := range c.otherNames() {
		if n != "" {
			in(n).Web = append(in(n).Web, n)
		}
	}
	for i := range all { // domains that have no mail names share those of others
		if len(all[i].IMAP) == 0 {
			all[i].IMAP = c.imapNames()
		}
		if len(all[i].Submission) == 0 {
			all[i].Submission = c.submissionNames()
		}
	}
	return all
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
