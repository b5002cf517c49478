package sites

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Redirect sends a site's visitors somewhere else.
type Redirect struct {
	// To is an absolute URL, http or https.
	To string
	// Status is 301, 302, 307 or 308; zero: 308.
	Status int
	// KeepPath appends what follows the site's path in the request's target, its
	// query included. To ends with a slash then.
	KeepPath bool
}

var (
	errRedirect = errors.New("must be http://HOST/… or https://HOST/…, without user, and end with a slash if the path is kept")
	errStatus   = errors.New("the status must be 301, 302, 307 or 308")
)

func (c *Redirect) check() error {
	u, err := url.Parse(c.To)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "", u.User != nil, strings.ContainsFunc(c.To, unprintable):
		return errRedirect
	case c.KeepPath && (!strings.HasSuffix(c.To, "/") || u.RawQuery != "" || u.Fragment != ""):
		return errRedirect
	case c.Status != 0 && !slices.Contains([]int{301, 302, 307, 308}, c.Status):
		return errStatus
	}
	return nil
}

func unprintable(r rune) bool { return r <= ' ' || r >= 0x7f }

// serve answers a request below path.
func (c *Redirect) serve(w http.ResponseWriter, r *http.Request, path string) {
	to := c.To
	if c.KeepPath {
		to += strings.TrimLeft(escaped(r.URL.Path[len(path)-1:]), "/") + query(r)
	}
	send(w, to, cmp.Or(c.Status, http.StatusPermanentRedirect))
}

// redirect sends the client to another path of the same host, with the query that
// it came with.
func redirect(w http.ResponseWriter, r *http.Request, path string, status int) {
	send(w, escaped(path)+query(r), status)
}

// escaped is a path as it stands in a URL.
func escaped(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// query is that of a request, with a question mark, and as it came but for what
// no URL holds.
func query(r *http.Request) string {
	if r.URL.RawQuery == "" {
		return ""
	}
	b := []byte("?")
	for _, c := range []byte(r.URL.RawQuery) {
		if unprintable(rune(c)) || strings.IndexByte("\"<>\\^`{|}#", c) >= 0 {
			b = fmt.Appendf(b, "%%%02X", c)
			continue
		}
		b = append(b, c)
	}
	return string(b)
}

func send(w http.ResponseWriter, to string, status int) {
	w.Header().Set("Location", to)
	w.WriteHeader(status)
}
