package pages

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// MaxBody is how large a request's body may be that Protect lets through, unless a
// handler wants more.
const MaxBody = 64 << 10

// Protect stands before a handler that changes something. It refuses what another
// site's page has caused (cookies and client certificates are sent with that too),
// and bounds bodies: by MaxBody where limit is 0.
func (p *Pages) Protect(limit int64, h http.Handler) http.Handler {
	if limit == 0 {
		limit = MaxBody
	}
	refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Error(w, r, http.StatusForbidden) })
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(refuse)
	return cross.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Origin"), "http:") && r.Header.Get("Sec-Fetch-Site") == "" {
			refuse(w, r) // net/http compares the hosts alone, and in the clear anybody may have written the page
			return
		}
		if r.ContentLength > limit {
			w.Header().Set("Connection", "close") // what follows is not read
			p.Error(w, r, http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		h.ServeHTTP(w, r)
	}))
}

// Form reads a request's form. When it is malformed or too large, Form answers and
// returns false.
func (p *Pages) Form(w http.ResponseWriter, r *http.Request) bool {
	err := r.ParseForm()
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		p.Error(w, r, http.StatusRequestEntityTooLarge)
	case err != nil:
		p.Error(w, r, http.StatusBadRequest)
	default:
		return true
	}
	return false
}

// told are the statuses that the frame has texts for.
var told = map[int]bool{400: true, 403: true, 404: true, 405: true, 413: true, 421: true, 429: true, 500: true, 503: true}

// Error answers with a page that says what went wrong.
func (p *Pages) Error(w http.ResponseWriter, r *http.Request, status int) {
	p.ErrorBack(w, r, status, "")
}

// ErrorBack is Error with a link to where the visitor can go on.
func (p *Pages) ErrorBack(w http.ResponseWriter, r *http.Request, status int, back string) {
	shown := status
	if !told[shown] {
		shown = http.StatusBadRequest
		if status >= 500 {
			shown = http.StatusInternalServerError
		}
	}
	key := fmt.Sprintf("frame.error.%d.", shown)
	p.Render(w, r, status, frameName+"/error", struct {
		Title, Text Text
		Back        string
	}{T(key + "title"), T(key + "text"), back})
}
