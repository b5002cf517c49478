package account

import (
	"net/http"
	"time"

	"posthorn/admin"
	"posthorn/handlers/https/pages"
)

// overviewPage is what the first page shows.
type overviewPage struct {
	*admin.AccountDetails
	Quota    int64
	Percent  int
	Warnings []pages.Text
}

const (
	// expiresSoon is how long before it a key's expiry is told of.
	expiresSoon = 14 * 24 * time.Hour
	// nearlyFull is the part of the quota, in percent, from which on it is told of.
	nearlyFull = 90
)

func (h *Handler) overview(w http.ResponseWriter, r *http.Request, v Visitor) {
	details, err := h.Admin.ShowAccount(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		h.fail(w, r, err, "")
		return
	}
	p := overviewPage{AccountDetails: details, Quota: h.Quota}
	if p.Quota > 0 && p.Mail != nil {
		p.Percent = int(min(100, p.Mail.Bytes*100/p.Quota))
	}
	p.Warnings = warnings(&p, time.Now())
	h.Pages.Render(w, r, http.StatusOK, "account/overview", p)
}

// warnings are what somebody should know of their account.
func warnings(p *overviewPage, now time.Time) (all []pages.Text) {
	if p.Percent >= nearlyFull {
		all = append(all, pages.T("account.warning.full", "percent", p.Percent))
	}
	for _, k := range p.Keys {
		switch left := k.Expires.Sub(now); {
		case k.Expires.IsZero() || left > expiresSoon:
		case left <= 0:
			all = append(all, pages.T("account.warning.expired", "name", k.Name))
		default:
			all = append(all, pages.T("account.warning.expires", "name", k.Name, "n", int(left/(24*time.Hour))))
		}
	}
	if !p.Password && !p.Home.KeepsPasswords && len(p.Keys) < 2 {
		all = append(all, pages.T("account.warning.one_way", "n", len(p.Keys)))
	}
	return all
}
