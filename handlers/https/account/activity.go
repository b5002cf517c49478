package account

import (
	"net/http"
	"strconv"
	"time"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/authkeys"
	"posthorn/handlers/https/pages"
	"posthorn/mux"
)

// activityPage shows where an account is, and was, used.
type activityPage struct {
	Connections []connection
	Logins      []login
}

type connection struct {
	mux.Info
	Device string // the key's name; empty: none
}

type login struct {
	accounts.Attempt
	Device string // the key's name, or its fingerprint when it is gone; empty: none
	Why    pages.Text
}

func (h *Handler) activity(w http.ResponseWriter, r *http.Request, v Visitor) {
	conns, err := h.Admin.ListConns(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		h.fail(w, r, err, Home)
		return
	}
	logins, err := h.Admin.RecentLogins(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		h.fail(w, r, err, Home)
		return
	}
	keys, err := h.Admin.ListKeys(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		h.fail(w, r, err, Home)
		return
	}
	var p activityPage
	for _, c := range conns {
		p.Connections = append(p.Connections, connection{c, deviceName(keys, c.Identity.Key)})
	}
	for _, a := range logins {
		p.Logins = append(p.Logins, login{a, deviceName(keys, a.Key), why(a.Reason)})
	}
	h.Pages.Render(w, r, http.StatusOK, "account/activity", p)
}

// deviceName is what the owner calls a key.
func deviceName(keys []admin.Key, f authkeys.Fingerprint) string {
	if f.IsZero() {
		return ""
	}
	for _, k := range keys {
		if k.Fingerprint == f {
			return k.Name
		}
	}
	return f.String()
}

// Times on the page: a login that stands for several began at Since.
func (l login) Several() bool { return l.Count > 1 && l.Time.Sub(l.Since) >= time.Minute }

var reasons = map[accounts.Reason]string{
	accounts.WrongPassword: "account.reason.password",
	accounts.Throttled:     "account.reason.throttled",
	accounts.Disabled:      "account.reason.disabled",
	accounts.ExpiredKey:    "account.reason.expired",
	accounts.ScopedKey:     "account.reason.scope",
	accounts.NoPassword:    "account.reason.no_password",
	accounts.OtherAccount:  "account.reason.other",
	accounts.BadIdentity:   "account.reason.other",
}

func why(r accounts.Reason) pages.Text {
	if key, ok := reasons[r]; ok {
		return pages.T(key)
	}
	return pages.T("account.reason.unknown")
}

func (h *Handler) endConnection(w http.ResponseWriter, r *http.Request, v Visitor) {
	if !h.Pages.Form(w, r) {
		return
	}
	id, err := strconv.ParseUint(r.PostForm.Get("id"), 10, 64)
	if err != nil {
		h.Pages.ErrorBack(w, r, http.StatusBadRequest, activityPath)
		return
	}
	if err := h.Admin.CloseConn(r.Context(), v.Actor, id); err != nil {
		h.fail(w, r, err, activityPath)
		return
	}
	h.done(w, r, activityPath, pages.T("account.activity.ended"))
}
