package main

import (
	"net/http"
	"strings"
	"time"

	"posthorn/admin"
	"posthorn/certs"
	"posthorn/handlers/https"
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
	mountOn(s, g.cfg.pageHosts(), p.AssetPattern(), p.Assets())
	return nil
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
