// Package account serves the pages on which people manage their account: they sign
// in by password, key or passkey, see where their account is used, end connections
// and sessions, and change the password. Other packages add pages for those who have
// signed in, by SignedIn.
package account

import (
	"embed"
	"errors"
	"net/http"

	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/backend"
	"posthorn/handlers/https"
	"posthorn/handlers/https/pages"
	"posthorn/passkeys"
	"posthorn/sessions"
)

//go:embed *.html texts assets
var files embed.FS

// Config is what the pages stand on.
type Config struct {
	Pages    *pages.Pages
	Sessions *sessions.Manager
	Passkeys *passkeys.Store
	Accounts *accounts.Store
	Admin    *admin.Service
	// Backend checks the passwords that mail systems behind the gateway keep.
	Backend backend.Backend
	// Links are entries of the menu for pages that others add.
	Links []pages.Link
	// Quota is how many bytes of mail an account may keep; 0: as many as it likes.
	Quota int64
	// KeySignIn is the address of the page for signing in on a host name that asks
	// browsers for a client certificate; empty: there is none.
	KeySignIn string
	// AsksKey reports whether browsers are asked for one on a host name; nil: nowhere.
	AsksKey func(host string) bool
	Log     zerolog.Logger
}

// Handler serves the pages.
type Handler struct {
	Config
	links []pages.Link
}

// Where the pages are.
const (
	// Home is the first page, SignIn the one for signing in.
	Home         = "/account/"
	SignIn       = "/account/sign-in"
	keyPath      = "/account/sign-in/key"
	signOutPath  = "/account/sign-out"
	activityPath = "/account/activity"
	securityPath = "/account/security"
	passkeyPath  = "/account/passkey"
)

// New returns the pages. An error is a mistake in their files.
func New(c Config) (*Handler, error) {
	if err := c.Pages.Add("account", files); err != nil {
		return nil, err
	}
	h := &Handler{Config: c}
	h.links = append(h.links, pages.Link{Path: Home, Text: "account.menu.overview"})
	h.links = append(h.links, c.Links...)
	h.links = append(h.links, pages.Link{Path: activityPath, Text: "account.menu.activity"},
		pages.Link{Path: securityPath, Text: "account.menu.security"})
	return h, nil
}

// Mount has mount serve the pages, by patterns of http.ServeMux.
func (h *Handler) Mount(mount func(pattern string, handler http.Handler)) {
	mount("GET "+SignIn, h.open(h.showSignIn))
	mount("POST "+SignIn, h.open(h.signIn))
	mount("GET "+Home+"{$}", h.SignedIn(h.overview))
	mount("GET "+activityPath, h.SignedIn(h.activity))
	mount("GET "+securityPath, h.SignedIn(h.security))
	forms := map[string]http.Handler{ // that have no page of their own
		keyPath:                          h.open(h.signInByKey),
		signOutPath:                      h.open(h.signOut),
		activityPath + "/connection":     h.SignedIn(h.endConnection),
		securityPath + "/password":       h.SignedIn(h.changePassword),
		securityPath + "/session":        h.SignedIn(h.endSession),
		securityPath + "/sessions":       h.SignedIn(h.endSessions),
		passkeyPath + "/sign-in/begin":   h.open(h.beginPasskeySignIn),
		passkeyPath + "/sign-in/finish":  h.open(h.finishPasskeySignIn),
		passkeyPath + "/register/begin":  h.SignedIn(h.beginPasskey),
		passkeyPath + "/register/finish": h.SignedIn(h.finishPasskey),
		passkeyPath + "/rename":          h.SignedIn(h.renamePasskey),
		passkeyPath + "/remove":          h.SignedIn(h.removePasskey),
	}
	for path, form := range forms {
		mount("POST "+path, form)
	}
	// For GET alone: http.ServeMux would think that every method is one of a path's.
	mount("GET "+Home, h.open(func(w http.ResponseWriter, r *http.Request) {
		if forms[r.URL.Path] != nil {
			w.Header().Set("Allow", http.MethodPost)
			h.Pages.Error(w, r, http.StatusMethodNotAllowed)
			return
		}
		h.Pages.Error(w, r, http.StatusNotFound)
	}))
	mount("GET "+Home[:len(Home)-1], http.RedirectHandler(Home, http.StatusMovedPermanently))
}

// Visitor is somebody who has signed in.
type Visitor struct {
	Account *accounts.Account // as it is now
	Session *sessions.Session
	// Actor is for operations of admin.Service: the account itself.
	Actor admin.Actor
}

// SignedIn makes a handler of f that serves those who have signed in; others are
// sent to do so. Requests from other sites' pages are refused, and bodies are at most
// pages.MaxBody long.
func (h *Handler) SignedIn(f func(w http.ResponseWriter, r *http.Request, v Visitor)) http.Handler {
	return h.open(func(w http.ResponseWriter, r *http.Request) {
		s, ok := sessions.Current(r.Context())
		if !ok {
			h.askToSignIn(w, r)
			return
		}
		f(w, r, Visitor{Account: s.Owner, Session: s, Actor: h.actor(r, s)})
	})
}

// actor is an account as one who asks for operations. Its name goes into the log,
// which may have no addresses in it.
func (h *Handler) actor(r *http.Request, s *sessions.Session) admin.Actor {
	return admin.Actor{
		Name: "account " + s.Account + " (web)", Account: s.Account, From: h.Admin.From(https.Conn(r).Remote.Addr()),
	}
}

// open makes a handler of f, for those too who have not signed in.
func (h *Handler) open(f http.HandlerFunc) http.Handler {
	menu := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, ok := sessions.Current(r.Context()); ok {
			r = r.WithContext(pages.WithMenu(r.Context(), &pages.Menu{Name: s.Address, Links: h.links, SignOut: signOutPath}))
		}
		f(w, r)
	})
	return h.Pages.Protect(0, h.Sessions.Wrap(menu))
}

// done leaves a message and leads to another page.
func (h *Handler) done(w http.ResponseWriter, r *http.Request, path string, text pages.Text) {
	h.Pages.Flash(w, pages.Flash{Kind: pages.Done, Text: text})
	redirect(w, r, path)
}

func redirect(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, path, http.StatusSeeOther)
}

// fail answers when an operation has failed.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error, back string) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, admin.ErrForbidden):
		status = http.StatusForbidden
	case errors.Is(err, admin.ErrNoConn), errors.Is(err, sessions.ErrNoSession), errors.Is(err, passkeys.ErrNoPasskey),
		errors.Is(err, accounts.ErrNoAccount):
		status = http.StatusNotFound
	case r.Context().Err() != nil:
		status = http.StatusServiceUnavailable
	default:
		h.Log.Error().Err(err).Str("path", r.URL.Path).Msg("account page failed")
	}
	h.Pages.ErrorBack(w, r, status, back)
}
