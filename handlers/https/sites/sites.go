// Package sites is the web sites behind the gateway: HTTP servers that requests
// are passed on to, folders of files, redirects, and host names whose connections
// are handed over as they are.
package sites

import (
	"errors"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"sync/atomic"

	"github.com/rs/zerolog"

	"posthorn/handlers/https/sites/folder"
)

// Site says which requests it gets, and who answers them. Exactly one of
// Upstream, Handover, Folder, Redirect and Nobody is set.
type Site struct {
	// Hosts are its names, in lower case; empty: every name that is served.
	Hosts []string
	// Path is what the path of its requests begins with, and itself begins and
	// ends with a slash; empty: "/".
	Path string

	Upstream *Upstream
	Handover *Handover
	Folder   *Folder
	Redirect *Redirect
	// Nobody keeps Hosts from all sites, those of every name too, so that no script of
	// a site is of one origin with pages of the gateway's own.
	Nobody bool
}

// Folder is a folder of files to serve, see folder.Open. The folder stands in the
// place of the site's path.
type Folder struct {
	Dir          string
	CacheControl string // for responses; empty: none
}

// Set is all sites. Its methods may be called concurrently.
type Set struct {
	log   zerolog.Logger
	table atomic.Pointer[table]
	crowd crowd
}

// New opens the sites. Nothing is connected to yet. The error is a *SiteError.
func New(all []Site, log zerolog.Logger) (*Set, error) {
	s := &Set{log: log}
	t, err := s.open(all)
	if err != nil {
		return nil, err
	}
	s.table.Store(t)
	return s, nil
}

// Replace has other sites take the place of all that there are. Requests under
// way finish with those that they began with. After an error nothing has changed.
func (s *Set) Replace(all []Site) error {
	t, err := s.open(all)
	if err != nil {
		return err
	}
	s.table.Swap(t).close()
	return nil
}

// Close closes what the sites have open and is idle. Requests under way finish.
func (s *Set) Close() { s.table.Load().close() }

// Serve answers a request for a host that came through d; false: it is none of a
// site's.
func (s *Set) Serve(w http.ResponseWriter, r *http.Request, host string, d *Door) bool {
	t := s.table.Load()
	at := t.find(host, r.URL.Path)
	if at == nil {
		return false
	}
	switch {
	case at.handover != nil:
		at.handover.refuse(w, r, host, d)
	case len(r.URL.Path) < len(at.path):
		d.secure(w, r)
		redirect(w, r, at.path, http.StatusPermanentRedirect)
	case at.redirect != nil:
		d.secure(w, r)
		at.redirect.serve(w, r, at.path)
	default:
		s.answer(w, r, at, d)
	}
	return true
}

// HasFiles reports whether some requests for a host are for files.
func (s *Set) HasFiles(host string) bool {
	return slices.ContainsFunc(s.table.Load().of(host), func(at *site) bool { return at.folder != nil })
}

// File returns what Serve would answer a plain GET with, if that is a file that is
// at hand.
func (s *Set) File(host, path, acceptEncoding string) (folder.Ready, bool) {
	at := s.table.Load().find(host, path)
	if at == nil || at.folder == nil || len(path) < len(at.path) {
		return folder.Ready{}, false
	}
	return at.folder.Ready(path[len(at.path)-1:], acceptEncoding)
}

// answer answers a request where that may take time.
func (s *Set) answer(w http.ResponseWriter, r *http.Request, at *site, d *Door) {
	leave, ok := s.crowd.enter(d.Conn.Remote.Addr())
	if !ok {
		w.Header().Set("Retry-After", "10")
		d.Refuse(w, r, http.StatusServiceUnavailable)
		return
	}
	a := newAnswer(w, r, d, leave)
	defer a.done()
	if at.proxy != nil {
		at.proxy.serve(a)
		return
	}
	d.secure(w, r)
	if err := at.folder.Serve(a, r, r.URL.Path[len(at.path)-1:]); err != nil {
		s.noFile(w, r, d, err)
	}
}

// noFile answers a request for which a folder has no file, or Replace has just
// closed the folder.
func (s *Set) noFile(w http.ResponseWriter, r *http.Request, d *Door, err error) {
	switch {
	case errors.Is(err, folder.ErrFolder):
		redirect(w, r, path.Clean("/"+r.URL.Path)+"/", http.StatusMovedPermanently)
	case errors.Is(err, folder.ErrMethod):
		w.Header().Set("Allow", "GET, HEAD")
		d.Refuse(w, r, http.StatusMethodNotAllowed)
	case errors.Is(err, fs.ErrNotExist):
		d.Refuse(w, r, http.StatusNotFound)
	default:
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			err = p.Err // the path is the client's
		}
		s.log.Warn().Uint64("id", d.Conn.ID).Err(err).Msg("a file cannot be read")
		w.Header().Set("Retry-After", "1")
		d.Refuse(w, r, http.StatusServiceUnavailable)
	}
}
