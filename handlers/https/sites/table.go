package sites

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"posthorn/handlers/https/sites/folder"
)

// table is the sites by what leads to them. It does not change.
type table struct {
	all    []*site
	hosts  map[string][]*site // by host, longest path first
	others []*site            // of hosts that are not in hosts, longest path first
	handed map[string]*handover
	nobody map[string]bool // hosts that are kept from all sites
}

// site is an open Site.
type site struct {
	path     string
	own      bool // it names its hosts
	proxy    *proxy
	handover *handover
	folder   *folder.Folder
	redirect *Redirect
}

func (s *Set) open(all []Site) (*table, error) {
	t := &table{hosts: make(map[string][]*site), handed: make(map[string]*handover), nobody: make(map[string]bool)}
	for i := range all {
		key, err := t.add(&all[i], s.log)
		if err != nil {
			t.close()
			return nil, &SiteError{i, key, err}
		}
	}
	byPath := func(a, b *site) int {
		if n := cmp.Compare(len(b.path), len(a.path)); n != 0 {
			return n
		}
		return map[bool]int{true: -1, false: 1}[a.own]
	}
	slices.SortStableFunc(t.others, byPath)
	for host := range t.hosts {
		if t.handed[host] == nil && !t.nobody[host] {
			t.hosts[host] = append(t.hosts[host], t.others...)
		}
		slices.SortStableFunc(t.hosts[host], byPath)
	}
	return t, nil
}

// add opens a site and puts it where it is found. With an error comes the key of
// what is wrong.
func (t *table) add(c *Site, log zerolog.Logger) (key string, err error) {
	if kinds(c) != 1 {
		return "", errKinds
	}
	s := &site{path: cmp.Or(c.Path, "/"), own: len(c.Hosts) > 0}
	switch {
	case (c.Handover != nil || c.Nobody) && c.Path != "" && c.Path != "/":
		return "path", errWhole
	case !strings.HasPrefix(s.path, "/") || !strings.HasSuffix(s.path, "/") || !Upright(s.path) || strings.Contains(s.path, "//"):
		return "path", errPath
	case (c.Handover != nil || c.Nobody) && !s.own:
		return "hosts", errHosts
	}
	if key, err := t.place(s, c); err != nil {
		return key, err
	}
	switch {
	case c.Upstream != nil:
		s.proxy, err = newProxy(c.Upstream, log)
		key = "upstream"
	case c.Handover != nil:
		key, err = t.handOver(s, c, log)
	case c.Folder != nil:
		s.folder, err = folder.Open(c.Folder.Dir, c.Folder.CacheControl)
		key = "root"
	case c.Redirect != nil:
		s.redirect, key = c.Redirect, "redirect"
		err = c.Redirect.check()
	}
	if err == nil {
		t.all = append(t.all, s)
	}
	return key, err
}

func kinds(c *Site) (n int) {
	for _, there := range []bool{c.Upstream != nil, c.Handover != nil, c.Folder != nil, c.Redirect != nil, c.Nobody} {
		if there {
			n++
		}
	}
	return n
}

// place puts a site where it is found, unless another one is there.
func (t *table) place(s *site, c *Site) (key string, err error) {
	taken := func(o *site) bool { return o.path == s.path }
	if !s.own {
		if slices.ContainsFunc(t.others, taken) {
			return "path", errTaken
		}
		t.others = append(t.others, s)
	}
	for i, host := range c.Hosts {
		key := fmt.Sprintf("hosts[%d]", i)
		switch {
		case t.nobody[host], c.Nobody && len(t.hosts[host]) > 0:
			return key, errNobody
		case t.handed[host] != nil, c.Handover != nil && len(t.hosts[host]) > 0:
			return key, errHandled
		case slices.ContainsFunc(t.hosts[host], taken):
			return key, errTaken
		}
		t.hosts[host] = append(t.hosts[host], s)
		if c.Nobody {
			t.hosts[host], t.nobody[host] = nil, true
		}
	}
	return "", nil
}

func (t *table) handOver(s *site, c *Site, log zerolog.Logger) (key string, err error) {
	if s.handover, key, err = newHandover(c.Handover, log); err != nil {
		return key, err
	}
	for _, host := range c.Hosts {
		t.handed[host] = s.handover
	}
	return "", nil
}

func (t *table) close() {
	for _, s := range t.all {
		switch {
		case s.proxy != nil:
			s.proxy.close()
		case s.folder != nil:
			_ = s.folder.Close()
		}
	}
}

// of returns the sites of a host, longest path first.
func (t *table) of(host string) []*site {
	if sites, ok := t.hosts[host]; ok {
		return sites
	}
	return t.others
}

// find returns the site of a request; nil: there is none.
func (t *table) find(host, path string) *site {
	for _, s := range t.of(host) {
		if strings.HasPrefix(path, s.path) || path == s.path[:len(s.path)-1] {
			return s
		}
	}
	return nil
}

// SiteError says what is wrong with one of the sites that New was given.
type SiteError struct {
	Site int // which one it is, from 0
	Key  string
	Err  error
}

func (e *SiteError) Error() string { return fmt.Sprintf("site %d: %s: %v", e.Site, e.Key, e.Err) }
func (e *SiteError) Unwrap() error { return e.Err }

var (
	errKinds   = errors.New("must be exactly one of upstream, handover, root and redirect")
	errPath    = errors.New("must begin and end with a slash, and lead down only")
	errTaken   = errors.New("is another site's already, on the same host")
	errHosts   = errors.New("must name the hosts that are handed over")
	errWhole   = errors.New("a handed over host is handed over as a whole: leave the path out")
	errHandled = errors.New("has been handed over as a whole, and can have no other site")
	errNobody  = errors.New("is kept from all sites")
)
