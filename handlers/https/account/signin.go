package account

import (
	"errors"
	"net/http"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/handlers/https"
	"posthorn/handlers/https/pages"
	"posthorn/mux"
	"posthorn/sessions"
)

// signInPage is what the page for signing in shows.
type signInPage struct {
	Next      string
	Address   string // as typed
	Failed    bool   // the one text for every refusal follows
	KeyHere   bool   // browsers are asked for a client certificate on this host name
	KeyShown  bool   // and this one has shown one
	KeyFailed bool
	KeySignIn string // where they are asked; empty: here or nowhere
}

func (h *Handler) signInPage(r *http.Request, next string) signInPage {
	c := https.Conn(r)
	p := signInPage{Next: safeNext(next), KeyHere: h.AsksKey != nil && h.AsksKey(c.ServerName), KeyShown: !c.Key.IsZero()}
	if !p.KeyHere {
		p.KeySignIn = h.KeySignIn
	}
	return p
}

func (h *Handler) showSignIn(w http.ResponseWriter, r *http.Request) {
	next := r.URL.Query().Get("next")
	if _, ok := sessions.Current(r.Context()); ok {
		redirect(w, r, safeNext(next))
		return
	}
	h.Pages.Render(w, r, http.StatusOK, "account/sign-in", h.signInPage(r, next))
}

// auth begins dealings with the door, for one request.
func (h *Handler) auth(r *http.Request) *accounts.Auth {
	c := https.Conn(r)
	client := &backend.Client{ID: c.ID, Remote: c.Remote, Local: c.Local, ServerName: c.ServerName, TLS: c.TLS()}
	return h.Accounts.NewAuth(accounts.Peer{
		Remote: c.Remote.Addr(), Key: c.Key, Scope: authkeys.ScopeHTTPS, TLS: client.TLS,
		Passwords: h.Backend.Passwords(backend.IMAP, client),
	})
}

// Limits of what is looked at as an address and a password.
const (
	maxAddress  = 320
	maxPassword = 1024
)

// signIn signs in by address and password.
func (h *Handler) signIn(w http.ResponseWriter, r *http.Request) {
	if !h.Pages.Form(w, r) {
		return
	}
	p := h.signInPage(r, r.PostForm.Get("next"))
	address, password := r.PostForm.Get("address"), r.PostForm.Get("password")
	if len(address) <= maxAddress {
		p.Address = address
	}
	l, err := h.checkPassword(r, address, password)
	var refused *accounts.RefusedError
	switch {
	case errors.As(err, &refused):
		p.Failed = true
		w.Header().Set("Connection", "close") // the next one counts on a connection of its own
		h.Pages.Render(w, r, http.StatusForbidden, "account/sign-in", p)
		return
	case err != nil:
		h.unavailable(w, r, err)
		return
	}
	h.begin(w, r, sessions.Session{Account: l.Account.ID, Address: l.Address, How: sessions.Password, Stamp: l.PasswordStamp()}, p.Next)
}

// checkPassword logs in by a password. A conversation with the mail system that was
// opened for it is of no use here.
func (h *Handler) checkPassword(r *http.Request, address, password string) (*accounts.Login, error) {
	if len(address) > maxAddress || len(password) > maxPassword {
		address, password = "", "" // refused as malformed
	}
	l, err := h.auth(r).Password(r.Context(), address, password)
	if err != nil {
		return nil, h.note(https.Conn(r), "LOGIN", err)
	}
	if l.Opened != nil {
		if err := l.Opened.Close(); err != nil {
			h.Log.Debug().Err(err).Msg("conversation that checked a password did not close well")
		}
	}
	return l, nil
}

// note tells of a refusal in the connection's log line, and returns err.
func (h *Handler) note(c *mux.Conn, mechanism string, err error) error {
	if refused := new(accounts.RefusedError); errors.As(err, &refused) {
		c.AuthFailed(mechanism, string(refused.Reason))
	}
	return err
}

// signInByKey signs in by the client certificate.
func (h *Handler) signInByKey(w http.ResponseWriter, r *http.Request) {
	if !h.Pages.Form(w, r) {
		return
	}
	p := h.signInPage(r, r.PostForm.Get("next"))
	l, err := h.auth(r).Key(r.Context())
	switch {
	case errors.As(err, new(*accounts.RefusedError)):
		_ = h.note(https.Conn(r), "EXTERNAL", err)
		p.KeyFailed = true
		h.Pages.Render(w, r, http.StatusForbidden, "account/sign-in", p)
		return
	case err != nil:
		h.unavailable(w, r, err)
		return
	}
	h.begin(w, r, sessions.Session{Account: l.Account.ID, Address: l.Address, How: sessions.Key, Key: l.Key}, p.Next)
}

// begin signs somebody in who has proved to be who they say.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, s sessions.Session, next string) {
	if err := h.Sessions.SignIn(w, r, s); err != nil {
		h.unavailable(w, r, err)
		return
	}
	h.signedIn(r, s.Account, s.How)
	redirect(w, r, next)
}

func (h *Handler) signedIn(r *http.Request, account string, how sessions.How) {
	h.Log.Info().Uint64("id", https.Conn(r).ID).Str("account", account).Str("how", string(how)).Msg("signed in to the web pages")
}

func (h *Handler) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		h.Log.Warn().Uint64("id", https.Conn(r).ID).Err(err).Msg("sign-in cannot be decided")
	}
	h.Pages.ErrorBack(w, r, http.StatusServiceUnavailable, SignIn)
}

func (h *Handler) signOut(w http.ResponseWriter, r *http.Request) {
	if err := h.Sessions.SignOut(w, r); err != nil {
		h.unavailable(w, r, err)
		return
	}
	w.Header().Set("Clear-Site-Data", `"cache"`)
	h.done(w, r, SignIn, pages.T("account.sign_out.done"))
}
