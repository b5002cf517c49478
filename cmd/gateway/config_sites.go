package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v4"

	"posthorn/backend/upstream"
	"posthorn/handlers/https/sites"
)

// Site is the web site behind the gateway, for all names and paths.
type Site struct {
	// Upstream gets the HTTPS requests that are not for the gateway itself, as
	// http://HOST:PORT, https://HOST:PORT or unix:/PATH; empty: nobody does. It is
	// short for the one of Sites that has neither hosts nor a path.
	Upstream string `yaml:"upstream"`
}

// SiteOf is the web site of some names, or of some paths. It has exactly one of
// Upstream, Handover, Root and Redirect.
type SiteOf struct {
	// Hosts are its names; empty: all that are served.
	Hosts []string `yaml:"hosts"`
	// Path is what its requests' paths begin with; it begins and ends with a slash.
	Path string `yaml:"path"`

	// Upstream gets its requests: http://HOST:PORT, https://HOST:PORT, unix:/PATH.
	Upstream string `yaml:"upstream"`
	// CA, Pins and ServerName are for an https upstream, as for backends.
	CA         string   `yaml:"ca"`
	Pins       []string `yaml:"pins"`
	ServerName string   `yaml:"server_name"`
	// AnswerTimeout is how long the upstream may take to begin its answer.
	AnswerTimeout Duration `yaml:"answer_timeout"`

	// Handover gets the whole connections of Hosts after TLS: HOST:PORT, unix:/PATH.
	Handover string `yaml:"handover"`
	// HandoverH2 gets those that speak HTTP/2; empty: it is not offered.
	HandoverH2 string `yaml:"handover_h2"`

	// ConnectTimeout is for a connection to the upstream, or to Handover.
	ConnectTimeout Duration `yaml:"connect_timeout"`

	// Root is a folder of files.
	Root string `yaml:"root"`
	// CacheControl is that of the files; empty: none.
	CacheControl string `yaml:"cache_control"`

	// Redirect is where its visitors are sent to.
	Redirect string `yaml:"redirect"`
	// Status is that of Redirect: 301, 302, 307 or 308.
	Status int `yaml:"status"`
	// KeepPath appends to Redirect what follows Path.
	KeepPath bool `yaml:"keep_path"`
}

func defaultSite() SiteOf {
	return SiteOf{
		Path: "/", AnswerTimeout: Duration(2 * time.Minute), ConnectTimeout: Duration(10 * time.Second), Status: 308,
	}
}

// UnmarshalYAML implements yaml.Unmarshaler: what is left out has its default.
func (s *SiteOf) UnmarshalYAML(n *yaml.Node) error {
	type plain SiteOf
	p := plain(defaultSite())
	err := n.Decode(&p)
	*s = SiteOf(p)
	return err
}

// paths are the files that a site names, to be resolved.
func (s *SiteOf) paths() []*string { return []*string{&s.CA, &s.Root} }

// siteNames are the names of all sites.
func (c *Config) siteNames() (names []string) {
	for _, s := range c.Sites {
		names = append(names, s.Hosts...)
	}
	return names
}

// sites are all of them, as package sites wants them. The error is that of a CA's
// file.
func (c *Config) sites() ([]sites.Site, error) {
	var all []sites.Site
	for i := range c.Sites {
		s, err := c.Sites[i].site()
		if err != nil {
			return nil, fmt.Errorf("sites[%d]: %w", i, err)
		}
		all = append(all, s)
	}
	if c.Site.Upstream != "" {
		all = append(all, sites.Site{Upstream: &sites.Upstream{URL: c.Site.Upstream}})
	}
	if c.Admin.Host != "" { // scripts of a site could do there what the operator can
		all = append(all, sites.Site{Hosts: []string{c.Admin.Host}, Nobody: true})
	}
	return all, nil
}

func (s *SiteOf) site() (sites.Site, error) {
	out := sites.Site{Hosts: s.Hosts, Path: s.Path}
	connect := time.Duration(s.ConnectTimeout)
	if s.Upstream != "" {
		out.Upstream = &sites.Upstream{URL: s.Upstream, ConnectTimeout: connect, AnswerTimeout: time.Duration(s.AnswerTimeout)}
		if s.trusts() {
			config, err := upstream.TrustConfig(s.CA, s.Pins, s.ServerName)
			if err != nil {
				return out, err
			}
			out.Upstream.TLS = config
		}
	}
	if s.Handover != "" {
		out.Handover = &sites.Handover{HTTP1: s.Handover, HTTP2: s.HandoverH2, ConnectTimeout: connect}
	}
	if s.Root != "" {
		out.Folder = &sites.Folder{Dir: s.Root, CacheControl: s.CacheControl}
	}
	if s.Redirect != "" {
		out.Redirect = &sites.Redirect{To: s.Redirect, Status: s.Status, KeepPath: s.KeepPath}
	}
	return out, nil
}

// trusts reports whether a site says which servers to believe.
func (s *SiteOf) trusts() bool { return s.CA != "" || len(s.Pins) > 0 || s.ServerName != "" }

// checkSites reports what is wrong with site and sites, but for what lies on the
// disk.
func (c *Config) checkSites(p *problems) {
	if c.Site.Upstream != "" {
		if err := tryOut(sites.Site{Upstream: &sites.Upstream{URL: c.Site.Upstream}}); err != nil {
			p.add("site.upstream", "%v, not %q", sites.ErrUpstream, c.Site.Upstream)
		}
	}
	before := len(*p)
	for i := range c.Sites {
		key := fmt.Sprintf("sites[%d]", i)
		c.Sites[i].check(p, key)
		c.checkSiteNames(p, &c.Sites[i], key)
	}
	if len(*p) > before {
		return // what follows would say it again
	}
	var all []sites.Site
	for i := range c.Sites {
		all = append(all, c.Sites[i].bare())
	}
	if c.Site.Upstream != "" {
		all = append(all, sites.Site{Redirect: &sites.Redirect{To: anywhere}})
	}
	if at, ok := errors.AsType[*sites.SiteError](tryOut(all...)); ok && at.Site < len(c.Sites) {
		p.add(join(fmt.Sprintf("sites[%d]", at.Site), at.Key), "%v", at.Err)
	} else if ok {
		p.add("site.upstream", "stands among sites already, as the one without hosts and path")
	}
}

// checkSiteNames reports names of a site that are another's.
func (c *Config) checkSiteNames(p *problems, s *SiteOf, key string) {
	own := slices.Concat(c.Web.Hosts, c.Web.AskCertificate)
	for i, host := range s.Hosts {
		key := fmt.Sprintf("%s.hosts[%d]", key, i)
		c.checkWebName(p, key, host)
		if host == c.Admin.Host {
			p.add(key, "has the operator's pages (admin.host), and can have no site")
		}
		if s.Handover != "" && slices.Contains(own, host) {
			p.add(key, "has pages of the gateway's own, and cannot be handed over as a whole")
		}
	}
}

// anywhere is a Redirect that is right.
const anywhere = "https://example.org/"

// bare is a site that has what says which requests it gets, and nothing on disk.
func (s *SiteOf) bare() sites.Site {
	out, _ := (&SiteOf{
		Hosts: s.Hosts, Path: s.Path, Upstream: s.Upstream, Handover: s.Handover, HandoverH2: s.HandoverH2,
		Redirect: s.Redirect, Status: s.Status, KeepPath: s.KeepPath,
	}).site()
	if s.Root != "" && out.Redirect == nil {
		out.Redirect = &sites.Redirect{To: anywhere}
	}
	return out
}

// tryOut returns what is wrong with sites.
func tryOut(all ...sites.Site) error {
	set, err := sites.New(all, zerolog.Nop())
	if err == nil {
		set.Close()
	}
	return err
}

// check reports what is wrong with a site by itself.
func (s *SiteOf) check(p *problems, key string) {
	p.names(key+".hosts", s.Hosts)
	kinds := slices.DeleteFunc([]string{s.Upstream, s.Handover, s.Root, s.Redirect}, func(v string) bool { return v == "" })
	if len(kinds) != 1 {
		p.add(key, "must have exactly one of upstream, handover, root and redirect")
		return
	}
	only := func(name string, there bool, of, value string) {
		if there && value == "" {
			p.add(key+"."+name, "is of no use without %s", of)
		}
	}
	secure := ""
	if strings.HasPrefix(s.Upstream, "https:") {
		secure = s.Upstream
	}
	def := defaultSite()
	only("ca", s.CA != "", "an https upstream", secure)
	only("pins", len(s.Pins) > 0, "an https upstream", secure)
	only("server_name", s.ServerName != "", "an https upstream", secure)
	only("answer_timeout", s.AnswerTimeout != def.AnswerTimeout, "upstream", s.Upstream)
	only("handover_h2", s.HandoverH2 != "", "handover", s.Handover)
	only("connect_timeout", s.ConnectTimeout != def.ConnectTimeout, "upstream or handover", s.Upstream+s.Handover)
	only("cache_control", s.CacheControl != "", "root", s.Root)
	only("status", s.Status != def.Status, "redirect", s.Redirect)
	only("keep_path", s.KeepPath, "redirect", s.Redirect)
	p.duration(key+".answer_timeout", s.AnswerTimeout, time.Second, time.Hour)
	p.duration(key+".connect_timeout", s.ConnectTimeout, 100*time.Millisecond, 5*time.Minute)
	if strings.ContainsFunc(s.CacheControl, func(r rune) bool { return r < ' ' || r > '~' }) {
		p.add(key+".cache_control", "must be what stands in a header field, such as max-age=3600")
	}
	if _, err := upstream.TrustConfig("", s.Pins, ""); err != nil {
		p.add(key+".pins", "must be SHA256: and the hash of a public key in base64: %v", err)
	}
}

// checkSiteFiles reports what is wrong with the files that sites name.
func (c *Config) checkSiteFiles(p *problems) {
	for i := range c.Sites {
		s, key := &c.Sites[i], fmt.Sprintf("sites[%d].", i)
		if s.CA != "" {
			if _, err := upstream.TrustConfig(s.CA, nil, ""); err != nil {
				p.add(key+"ca", "cannot be used: %v", err)
			}
		}
		if s.Root == "" {
			continue
		}
		if err := tryOut(sites.Site{Folder: &sites.Folder{Dir: s.Root}}); err != nil {
			p.add(key+"root", "cannot be used: %v", errors.Unwrap(err))
		}
		if inside(c.DataDir, s.Root) || inside(s.Root, c.DataDir) {
			p.add(key+"root", "must have nothing to do with data_dir, where secrets are")
		}
	}
}

// inside reports whether a path is below a folder, or is it.
func inside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
