package account

import (
	"net/http"
	"net/url"
	"path"
	"strings"
)

// maxNext bounds where to go after signing in.
const maxNext = 512

// safeNext returns where to go after signing in: to the page that was asked for, if
// it is one of ours; a link that somebody made leads nowhere else.
func safeNext(next string) string {
	u, err := url.Parse(next)
	switch {
	case err != nil || len(next) > maxNext,
		u.IsAbs() || u.Host != "" || u.User != nil || u.Opaque != "" || u.Fragment != "",
		!strings.HasPrefix(u.Path, Home) || strings.ContainsAny(u.Path, "\\\r\n\t") || strings.Contains(u.Path, "//"),
		path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/"),
		strings.HasPrefix(u.Path, SignIn), u.Path == signOutPath:
		return Home
	}
	return u.RequestURI()
}

// askToSignIn leads to the page for signing in, and back here after it when that is
// possible.
func (h *Handler) askToSignIn(w http.ResponseWriter, r *http.Request) {
	to := SignIn
	if next := r.URL.RequestURI(); r.Method == http.MethodGet && next != Home && safeNext(next) == next {
		to += "?next=" + url.QueryEscape(next)
	}
	redirect(w, r, to)
}
