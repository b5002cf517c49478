package sites

import (
	"net/http"
	"slices"
	"strings"
)

// ownCookie is what the names of the gateway's own cookies begin with. They sign
// somebody in, so a site on the same host neither sees nor sets them.
const ownCookie = "__Host-posthorn"

// hideCookies removes the gateway's own cookies from a request for a site.
func hideCookies(h http.Header) {
	lines := h["Cookie"]
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, ownCookie) }) {
		return
	}
	var kept []string
	for _, line := range lines {
		pairs := strings.Split(line, ";")
		others := slices.DeleteFunc(slices.Clone(pairs), isOwnCookie)
		switch len(others) {
		case 0:
		case len(pairs):
			kept = append(kept, line)
		default:
			kept = append(kept, strings.TrimSpace(strings.Join(others, ";")))
		}
	}
	if h["Cookie"] = kept; len(kept) == 0 {
		delete(h, "Cookie")
	}
}

// keepCookies removes them from a response of a site.
func keepCookies(h http.Header) {
	lines := h["Set-Cookie"]
	if !slices.ContainsFunc(lines, isOwnCookie) {
		return
	}
	if h["Set-Cookie"] = slices.DeleteFunc(lines, isOwnCookie); len(h["Set-Cookie"]) == 0 {
		delete(h, "Set-Cookie")
	}
}

func isOwnCookie(pair string) bool { return strings.HasPrefix(strings.TrimSpace(pair), ownCookie) }
