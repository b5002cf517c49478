package account

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/handlers/https/pages"
	"posthorn/passkeys"
	"posthorn/sessions"
)

// securityPage is about the ways to sign in.
type securityPage struct {
	HasPassword   bool
	Elsewhere     bool // the mail system keeps the password
	MinPassword   int
	Wrong         field // what is wrong with the form
	Passkeys      []passkeys.Passkey
	Host          string // of this page: passkeys for others do not sign in here
	CanAdd        bool   // a passkey: somebody has just signed in
	Sessions      []session
	Current       string // ID of this session
	OtherSessions int
}

// field names the field of a form that is wrong, and says why.
type field struct {
	Name string // empty: none is
	Text pages.Text
}

type session struct {
	sessions.Session
	Program string // the browser, in short
}

func (h *Handler) security(w http.ResponseWriter, r *http.Request, v Visitor) {
	h.showSecurity(w, r, v, http.StatusOK, field{})
}

func (h *Handler) showSecurity(w http.ResponseWriter, r *http.Request, v Visitor, status int, wrong field) {
	details, err := h.Admin.ShowAccount(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		h.fail(w, r, err, Home)
		return
	}
	all, err := h.Admin.ListSessions(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		h.fail(w, r, err, Home)
		return
	}
	keys, err := h.Admin.ListPasskeys(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		h.fail(w, r, err, Home)
		return
	}
	p := securityPage{
		HasPassword: details.Password, Elsewhere: details.Home.KeepsPasswords, MinPassword: admin.MinPassword,
		Passkeys: keys, Host: visit(r).Host, CanAdd: fresh(v),
		Wrong: wrong, Current: v.Session.ID, OtherSessions: len(all) - 1,
	}
	for _, s := range all {
		p.Sessions = append(p.Sessions, session{s, program(s.UserAgent)})
	}
	if i := slices.IndexFunc(p.Sessions, func(s session) bool { return s.ID == p.Current }); i > 0 { // to the front
		own := p.Sessions[i]
		p.Sessions = slices.Insert(slices.Delete(p.Sessions, i, i+1), 0, own)
	}
	h.Pages.Render(w, r, status, "account/security", p)
}

// recent is how long after signing in a password can be set without another one, and
// a passkey added.
const recent = 15 * time.Minute

// changePassword sets the password. The session goes on under a new token, all
// others end.
func (h *Handler) changePassword(w http.ResponseWriter, r *http.Request, v Visitor) {
	if !h.Pages.Form(w, r) {
		return
	}
	wrong, err := h.newPassword(r, v)
	switch {
	case err != nil:
		h.unavailable(w, r, err)
		return
	case wrong.Name != "":
		h.showSecurity(w, r, v, http.StatusUnprocessableEntity, wrong)
		return
	}
	if err := h.Sessions.Renew(w, r); err != nil {
		h.fail(w, r, err, securityPath)
		return
	}
	h.done(w, r, securityPath, pages.T("account.password.done"))
}

// newPassword sets the password that a form asks for, or says what is wrong with it.
func (h *Handler) newPassword(r *http.Request, v Visitor) (wrong field, err error) {
	old, password, again := r.PostForm.Get("old"), r.PostForm.Get("new"), r.PostForm.Get("again")
	switch {
	case password == "":
		return field{"new", pages.T("account.password.short", "n", admin.MinPassword)}, nil
	case password != again:
		return field{"again", pages.T("account.password.differs")}, nil
	case !v.Account.Password && !fresh(v):
		return field{"new", pages.T("account.password.sign_in_again")}, nil
	}
	if v.Account.Password {
		l, err := h.checkPassword(r, v.Session.Address, old)
		switch {
		case errors.As(err, new(*accounts.RefusedError)), err == nil && l.Account.ID != v.Account.ID:
			return field{"old", pages.T("account.password.wrong")}, nil
		case err != nil:
			return field{}, err
		}
	}
	_, err = h.Admin.SetPassword(r.Context(), v.Actor, v.Account.ID, admin.NewPassword{Chosen: password})
	var invalid *admin.InvalidError
	switch {
	case errors.As(err, &invalid):
		return field{"new", pages.T("account.password.short", "n", admin.MinPassword)}, nil
	case errors.Is(err, accounts.ErrPassword):
		return field{"new", pages.T("account.password.unusable")}, nil
	case errors.Is(err, admin.ErrPasswordElsewhere):
		return field{"new", pages.T("account.password.elsewhere")}, nil
	}
	return field{}, err
}

func (h *Handler) endSession(w http.ResponseWriter, r *http.Request, v Visitor) {
	if !h.Pages.Form(w, r) {
		return
	}
	id := r.PostForm.Get("id")
	if err := h.Admin.EndSession(r.Context(), v.Actor, id); err != nil {
		h.fail(w, r, err, securityPath)
		return
	}
	if id == v.Session.ID {
		h.signOut(w, r)
		return
	}
	h.done(w, r, securityPath, pages.T("account.sessions.ended", "n", 1))
}

// endSessions signs out everywhere, or with keep everywhere else.
func (h *Handler) endSessions(w http.ResponseWriter, r *http.Request, v Visitor) {
	if !h.Pages.Form(w, r) {
		return
	}
	keep := ""
	if r.PostForm.Get("keep") != "" {
		keep = v.Session.ID
	}
	n, err := h.Admin.EndSessions(r.Context(), v.Actor, v.Account.ID, keep)
	if err != nil {
		h.fail(w, r, err, securityPath)
		return
	}
	if keep == "" {
		h.signOut(w, r)
		return
	}
	h.done(w, r, securityPath, pages.T("account.sessions.ended", "n", n))
}

// program tells the browser and system that a User-Agent field stands for, as far as
// it is one of the usual ones.
func program(userAgent string) string {
	find := func(names ...string) string {
		for i := 0; i < len(names); i += 2 {
			if strings.Contains(userAgent, names[i]) {
				return names[i+1]
			}
		}
		return ""
	}
	browser := find("Edg", "Edge", "OPR/", "Opera", "SamsungBrowser", "Samsung Internet", "Firefox/", "Firefox", "FxiOS", "Firefox",
		"Chromium", "Chromium", "Chrome/", "Chrome", "CriOS", "Chrome", "Safari/", "Safari")
	system := find("Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "CrOS", "ChromeOS", "Windows", "Windows",
		"Macintosh", "macOS", "Linux", "Linux")
	switch {
	case browser != "" && system != "":
		return browser + ", " + system
	case browser != "" || system != "":
		return browser + system
	}
	return userAgent
}
