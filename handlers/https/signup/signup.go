// Package signup creates accounts for whoever asks, in the way of chatmail
// servers: Delta Chat posts to /new and gets an address and a password, and a
// browser that looks at /new is sent to Delta Chat (the scheme dcaccount:).
package signup

import (
	"encoding/json"
	"errors"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/admin"
)

// Handler serves sign-ups. Its fields are set before Mount and not changed after.
type Handler struct {
	Signups *admin.Signups
	// Port is where HTTPS is, as clients see it; zero: 443.
	Port int
	Log  zerolog.Logger
}

// Mounter is what Mount needs of the web server; see https.Server.
type Mounter interface {
	Mount(pattern string, h http.Handler)
}

// The paths of chatmail servers. The second is the one of old, which stands on
// printed QR codes.
const path, oldPath = "/new", "/cgi-bin/newemail.py"

// tokenParameter holds an invitation. It stands in the URL because that is all
// that Delta Chat is given.
const tokenParameter = "t"

// Mount has m serve sign-ups under each domain.
func (h *Handler) Mount(m Mounter) {
	// A form of another site must not use up what a visitor's address may have.
	post := http.NewCrossOriginProtection().Handler(http.HandlerFunc(h.create))
	for _, domain := range h.Signups.Domains() {
		for _, p := range []string{path, oldPath} {
			m.Mount("POST "+domain+p, post)
			m.Mount("GET "+domain+p, http.HandlerFunc(h.redirect))
		}
	}
}

// account is the answer that chatmail clients expect.
type account struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	// Login is a link that sets the account up, for servers with a self-signed
	// certificate; elsewhere it is left out.
	Login string `json:"dclogin_url,omitempty"`
}

// refusal is the answer that chatmail clients show.
type refusal struct {
	Reason string `json:"reason"`
}

func (h *Handler) create(w http.ResponseWriter, r *http.Request) {
	source, _ := netip.ParseAddrPort(r.RemoteAddr) // those without an address are one source
	created, err := h.Signups.Create(r.Context(), admin.Signup{
		Domain: domainOf(r), Token: r.URL.Query().Get(tokenParameter), Source: source.Addr(),
	})
	if err != nil {
		h.refuse(w, err)
		return
	}
	a := account{Email: created.Address, Password: created.Password}
	if strings.HasPrefix(domainOf(r), "_") {
		a.Login = "dclogin:" + url.PathEscape(a.Email) + "?p=" + url.QueryEscape(a.Password) + "&v=1&ic=3&sc=3"
	}
	answer(w, http.StatusOK, a)
}

func (h *Handler) refuse(w http.ResponseWriter, err error) {
	var limit *admin.SignupLimitError
	switch {
	case errors.As(err, &limit):
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(limit.After.Seconds()))))
		answer(w, http.StatusTooManyRequests, refusal{"Too many accounts have been created. Please try again in " + inWords(limit.After) + "."})
	case errors.Is(err, admin.ErrSignupToken):
		answer(w, http.StatusForbidden, refusal{"An invitation is needed to create an account here."})
	case errors.Is(err, accounts.ErrDomain), errors.Is(err, admin.ErrSignupElsewhere):
		answer(w, http.StatusNotFound, refusal{"Accounts are not created here."})
	default:
		h.Log.Error().Err(err).Msg("sign-up failed")
		answer(w, http.StatusServiceUnavailable, refusal{"The account could not be created. Please try again later."})
	}
}

// inWords returns a time that somebody has to wait, rounded up.
func inWords(d time.Duration) string {
	if minutes := int(math.Ceil(d.Minutes())); minutes > 1 {
		return strconv.Itoa(minutes) + " minutes"
	}
	return "a minute"
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client went away; nobody is left to tell
}

// redirect sends a browser to Delta Chat, which will post. The redirection is not
// for good: that would be remembered.
func (h *Handler) redirect(w http.ResponseWriter, r *http.Request) {
	host := domainOf(r)
	if h.Port != 0 && h.Port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(h.Port))
	}
	target := "dcaccount:https://" + host + path
	if token := r.URL.Query().Get(tokenParameter); token != "" {
		target += "?" + tokenParameter + "=" + url.QueryEscape(token)
	}
	w.Header().Set("Location", target)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusFound)
}

// domainOf returns the host that a request is for, which the pattern says is one
// of the domains.
func domainOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		return r.Host
	}
	return host
}
