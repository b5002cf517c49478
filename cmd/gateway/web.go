package main

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"posthorn/admin"
	"posthorn/certs"
	"posthorn/handlers/https"
	"posthorn/handlers/https/account"
	"posthorn/handlers/https/devices"
	"posthorn/handlers/https/pages"
)

// httpsServer returns who speaks HTTP, with all that is mounted.
func (g *gateway) httpsServer() (*https.Server, error) {
	s := &https.Server{
		Serves:    g.certs.Serves,
		Named:     g.certs.Named,
		Ready:     func() bool { return g.admin.State() == admin.Serving },
		Endpoints: g.endpoints(),
		Sites:     g.sites,
		HSTS:      time.Duration(g.cfg.Web.HSTS),
		Transport: g.transport(),
		Log:       g.log,
	}
	if g.certs.ECHConfigList() != nil { // else it is the site's
		s.Mount("GET "+certs.OriginPath, g.certs.OriginHandler())
	}
	if err := g.mountDiscovery(s); err != nil {
		return nil, err
	}
	if err := g.mountAdmin(s); err != nil {
		return nil, err
	}
	return s, g.mountPages(s)
}

// mountPages mounts the pages for people.
func (g *gateway) mountPages(s *https.Server) error {
	if !g.cfg.Web.Account {
		return nil
	}
	p, err := pages.New(pages.Config{Log: g.log})
	if err != nil {
		return err
	}
	hosts := g.cfg.pageHosts()
	mount := func(pattern string, h http.Handler) { mountOn(s, hosts, pattern, h) }
	mount(p.AssetPattern(), p.Assets())
	own, err := account.New(account.Config{
		Pages: p, Sessions: g.sessions, Passkeys: g.passkeys, Accounts: g.accounts, Admin: g.admin, Backend: g.backends,
		Quota: int64(g.cfg.Quota), KeySignIn: g.keySignIn(), AsksKey: g.asksKey, Log: g.log,
		Links: []pages.Link{devices.Link()},
	})
	if err != nil {
		return err
	}
	own.Mount(mount)
	return g.mountDevices(p, own, mount)
}

// asksKey reports whether browsers are asked for a client certificate on a host
// name to sign in.
func (g *gateway) asksKey(host string) bool { return slices.Contains(g.cfg.Web.AskCertificate, host) }

// keySignIn is the address where a client certificate signs in; empty: none.
func (g *gateway) keySignIn() string {
	if len(g.cfg.Web.AskCertificate) == 0 {
		return ""
	}
	return origin(g.cfg.Web.AskCertificate[0], g.sharedPort()) + account.SignIn
}

// origin is what URLs of a host begin with.
func origin(host string, port int) string {
	if port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(port))
	}
	return "https://" + host
}

// mountOn mounts for requests to some hosts; none: all of them.
func mountOn(s *https.Server, hosts []string, pattern string, h http.Handler) {
	slash := strings.IndexByte(pattern, '/')
	if len(hosts) == 0 {
		s.Mount(pattern, h)
	}
	for _, host := range hosts {
		s.Mount(pattern[:slash]+host+pattern[slash:], h)
	}
}
