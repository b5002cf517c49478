package account

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/handlers/https"
	"posthorn/handlers/https/pages"
	"posthorn/passkeys"
	"posthorn/sessions"
)

// Passkeys want a script, which talks JSON with these handlers. A ceremony's ID is
// in a cookie, so that only the browser that began it can finish it.
const (
	ceremonyCookie = "__Host-posthorn-passkey"
	ceremonyAge    = 300 // seconds
	// webAuthn is what the history calls a sign-in with a passkey.
	webAuthn = "WEBAUTHN"
)

func visit(r *http.Request) passkeys.Visit {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return passkeys.Visit{Host: strings.Trim(host, "[]"), Origin: "https://" + r.Host, Source: https.Conn(r).Remote.Addr()}
}

// answer is what a script hears. Texts are for the visitor to read.
type answer struct {
	Options any    `json:"options,omitempty"` // for the browser's call
	Next    string `json:"next,omitempty"`    // where to go
	Error   string `json:"error,omitempty"`
}

func (h *Handler) answer(w http.ResponseWriter, status int, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // the client went away; nobody is left to tell
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, text pages.Text) {
	h.answer(w, status, answer{Error: h.Pages.Text(r, text)})
}

// refusePasskey answers when a ceremony came to nothing.
func (h *Handler) refusePasskey(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, passkeys.ErrTooMany):
		h.refuse(w, r, http.StatusTooManyRequests, pages.T("account.passkey.too_many"))
	case errors.Is(err, passkeys.ErrName):
		h.refuse(w, r, http.StatusUnprocessableEntity, pages.T("account.passkey.bad_name"))
	case errors.Is(err, passkeys.ErrRefused), errors.Is(err, passkeys.ErrNoPasskey), errors.Is(err, sessions.ErrNoSession):
		https.Conn(r).AuthFailed(webAuthn, "refused")
		h.Log.Info().Uint64("id", https.Conn(r).ID).Err(err).Msg("passkey refused")
		h.refuse(w, r, http.StatusForbidden, pages.T("account.passkey.refused"))
	case errors.Is(err, passkeys.ErrHost):
		h.refuse(w, r, http.StatusBadRequest, pages.T("account.passkey.refused"))
	default:
		if r.Context().Err() == nil {
			h.Log.Error().Uint64("id", https.Conn(r).ID).Err(err).Msg("passkey cannot be decided")
		}
		h.refuse(w, r, http.StatusServiceUnavailable, pages.T("frame.error.503.text"))
	}
}

// began answers with the options of a ceremony that has begun.
func (h *Handler) began(w http.ResponseWriter, r *http.Request, options any, id string, err error) {
	if err != nil {
		h.refusePasskey(w, r, err)
		return
	}
	http.SetCookie(w, newCeremonyCookie(id, ceremonyAge))
	h.answer(w, http.StatusOK, answer{Options: options})
}

func newCeremonyCookie(id string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: ceremonyCookie, Value: id, Path: "/", MaxAge: maxAge,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// finished is what a script sends when the browser's call has come back.
type finished struct {
	Response json.RawMessage `json:"response"` // of PublicKeyCredential.toJSON
	Name     string          `json:"name"`     // of a new passkey
	Next     string          `json:"next"`     // after signing in
}

// finish reads what a script sends, and the ceremony that it finishes. When it is
// malformed, finish answers and returns false.
func (h *Handler) finish(w http.ResponseWriter, r *http.Request) (f finished, ceremony string, ok bool) {
	if c, err := r.Cookie(ceremonyCookie); err == nil {
		ceremony = c.Value
	}
	http.SetCookie(w, newCeremonyCookie("", -1))
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	b, err := io.ReadAll(r.Body)
	if kind != "application/json" || err != nil || json.Unmarshal(b, &f) != nil {
		h.refuse(w, r, http.StatusBadRequest, pages.T("frame.error.400.text"))
		return f, "", false
	}
	return f, ceremony, true
}

func (h *Handler) beginPasskeySignIn(w http.ResponseWriter, r *http.Request) {
	options, id, err := h.Passkeys.BeginSignIn(visit(r))
	h.began(w, r, options, id, err)
}

func (h *Handler) finishPasskeySignIn(w http.ResponseWriter, r *http.Request) {
	f, ceremony, ok := h.finish(w, r)
	if !ok {
		return
	}
	p, a, err := h.Passkeys.FinishSignIn(r.Context(), visit(r), ceremony, f.Response)
	if a != nil { // the passkey was right
		attempt := accounts.Attempt{Protocol: "https", Mechanism: webAuthn, Remote: https.Conn(r).Remote.Addr()}
		if err != nil {
			attempt.Reason = accounts.Disabled
		}
		h.Accounts.Record(a.ID, attempt)
	}
	if err == nil {
		err = h.Sessions.SignIn(w, r, sessions.Session{
			Account: a.ID, Address: a.Primary(), How: sessions.Passkey, Passkey: p.ID,
			// Who removes it ends the sessions that there are.
			Confirm: func(ctx context.Context) error { _, err := h.Passkeys.Get(ctx, a.ID, p.ID); return err },
		})
	}
	if err != nil {
		h.refusePasskey(w, r, err)
		return
	}
	h.signedIn(r, a.ID, sessions.Passkey)
	h.answer(w, http.StatusOK, answer{Next: safeNext(f.Next)})
}

// fresh reports whether somebody has just signed in. What lets in for good is not
// for whoever finds a browser open.
func fresh(v Visitor) bool { return time.Since(v.Session.Created) <= recent }

func (h *Handler) beginPasskey(w http.ResponseWriter, r *http.Request, v Visitor) {
	if !fresh(v) {
		h.refuse(w, r, http.StatusForbidden, pages.T("account.passkey.sign_in_again"))
		return
	}
	options, id, err := h.Passkeys.BeginRegistration(r.Context(), visit(r), v.Account.ID, v.Account.Primary())
	h.began(w, r, options, id, err)
}

func (h *Handler) finishPasskey(w http.ResponseWriter, r *http.Request, v Visitor) {
	f, ceremony, ok := h.finish(w, r)
	if !ok {
		return
	}
	_, err := h.Admin.AddPasskey(r.Context(), v.Actor, v.Account.ID, admin.NewPasskey{
		Visit: visit(r), Ceremony: ceremony, Name: strings.TrimSpace(f.Name), Response: f.Response,
	})
	if err != nil {
		h.refusePasskey(w, r, err)
		return
	}
	h.Pages.Flash(w, pages.Flash{Kind: pages.Done, Text: pages.T("account.passkey.added")})
	h.answer(w, http.StatusOK, answer{Next: securityPath})
}

func (h *Handler) renamePasskey(w http.ResponseWriter, r *http.Request, v Visitor) {
	if !h.Pages.Form(w, r) {
		return
	}
	name := strings.TrimSpace(r.PostForm.Get("name"))
	err := h.Admin.RenamePasskey(r.Context(), v.Actor, v.Account.ID, r.PostForm.Get("id"), name)
	switch {
	case errors.Is(err, passkeys.ErrName):
		h.Pages.Flash(w, pages.Flash{Kind: pages.Failed, Text: pages.T("account.passkey.bad_name")})
		redirect(w, r, securityPath)
	case err != nil:
		h.fail(w, r, err, securityPath)
	default:
		h.done(w, r, securityPath, pages.T("account.passkey.renamed"))
	}
}

func (h *Handler) removePasskey(w http.ResponseWriter, r *http.Request, v Visitor) {
	if !h.Pages.Form(w, r) {
		return
	}
	n, err := h.Admin.RemovePasskey(r.Context(), v.Actor, v.Account.ID, r.PostForm.Get("id"), v.Session.ID)
	if err != nil {
		h.fail(w, r, err, securityPath)
		return
	}
	text := pages.T("account.passkey.removed")
	if n > 0 {
		text = pages.T("account.passkey.removed_sessions", "n", n)
	}
	h.done(w, r, securityPath, text)
}
