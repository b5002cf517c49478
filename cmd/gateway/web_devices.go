package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"posthorn/alpn"
	"posthorn/autoconf"
	"posthorn/handlers/https/account"
	"posthorn/handlers/https/devices"
	"posthorn/handlers/https/pages"
)

// mountDevices mounts the pages about devices' keys.
func (g *gateway) mountDevices(p *pages.Pages, own *account.Handler, mount func(pattern string, h http.Handler)) error {
	byDomain := make(map[string][]devices.Server)
	var first []devices.Server // for addresses in domains that are not served any more
	for _, d := range g.deployments() {
		servers := append(serversOf(&d.IMAP, devices.IMAP, alpn.IMAP), serversOf(&d.Submission, devices.Submission, alpn.SMTP)...)
		byDomain[d.Domain] = servers
		if first == nil {
			first = servers
		}
	}
	d, err := devices.New(devices.Config{
		Pages: p, Admin: g.admin, Host: g.cfg.hostname(), Log: g.log, Profile: g.profileAddress,
		Servers: func(address string) []devices.Server {
			if s, ok := byDomain[address[strings.LastIndexByte(address, '@')+1:]]; ok {
				return s
			}
			return first
		},
	})
	if err != nil {
		return err
	}
	for pattern, h := range d.Routes() {
		mount(pattern, own.SignedIn(h))
	}
	return nil
}

// profileAddress is the URL of the profile for Apple's systems that discovery serves
// for an address; empty: none of the names under which it does is served.
func (g *gateway) profileAddress(address string) string {
	domain := address[strings.LastIndexByte(address, '@')+1:]
	port := int(g.published(alpn.Shared))
	if !g.cfg.Autoconfig.Enabled || !slices.Contains(g.cfg.Domains, domain) || port == 0 {
		return ""
	}
	for _, host := range []string{domain, "autoconfig." + domain} {
		if g.certs.Named(host) {
			return origin(host, port) + "/email.mobileconfig?email=" + url.QueryEscape(address)
		}
	}
	return ""
}

// serversOf are the ways in to a service, the usual ones first.
func serversOf(s *autoconf.Service, p devices.Protocol, id alpn.Protocol) (all []devices.Server) {
	add := func(d devices.Server) {
		if d.Port != 0 {
			d.Protocol, d.NoKeys = p, !s.Keys
			all = append(all, d)
		}
	}
	add(devices.Server{Host: s.Host, Port: int(s.TLSPort)})
	add(devices.Server{Host: s.SharedName, Port: int(s.SharedPort)})
	add(devices.Server{Host: s.Host, Port: int(s.SharedPort), ALPN: string(id)})
	add(devices.Server{Host: s.Host, Port: int(s.StartTLSPort), StartTLS: true})
	return all
}
