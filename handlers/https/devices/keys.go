package devices

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/authkeys"
	"posthorn/handlers/https/account"
	"posthorn/handlers/https/pages"
)

// keyPath is the page of a key.
func keyPath(f authkeys.Fingerprint) string {
	return Root + "/" + strings.TrimPrefix(f.String(), "SHA256:")
}

// view is a key as pages show it.
type view struct {
	admin.Key
	Path    string
	Expired bool
	Place   string // where it was last used from, as far as that is kept
}

func viewOf(k *admin.Key) view {
	return view{Key: *k, Path: keyPath(k.Fingerprint), Expired: !k.Expires.IsZero() && !k.Expires.After(time.Now())}
}

// used fills in when, how and from where a key was used last, as the history of
// logins tells it: it is ahead of the key's record, which is written now and then.
func (v *view) used(history []accounts.Attempt) {
	for _, a := range history { // newest first
		if a.Key == v.Fingerprint && a.Reason == "" {
			if a.Time.After(v.LastUsed) {
				v.LastUsed, v.LastUse = a.Time, a.Protocol+" "+a.Mechanism
			}
			if a.Remote.IsValid() {
				v.Place = a.Remote.String()
			}
			return
		}
	}
}

// Uses returns a text for each protocol in the key's scope.
func (v view) Uses() []pages.Text {
	var all []pages.Text
	for _, u := range []struct {
		scope authkeys.Scope
		text  pages.Text
	}{
		{authkeys.ScopeIMAP, pages.T("devices.scope.imap")},
		{authkeys.ScopeSMTP, pages.T("devices.scope.smtp")},
		{authkeys.ScopeHTTPS, pages.T("devices.scope.https")},
	} {
		if v.Scope.Allows(u.scope) {
			all = append(all, u.text)
		}
	}
	return all
}

// list shows the keys of an account, those used last first.
func (d *Devices) list(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	keys, err := d.Admin.ListKeys(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	history, err := d.Admin.RecentLogins(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	views := make([]view, len(keys))
	for i := range keys {
		views[i] = viewOf(&keys[i])
		views[i].used(history)
	}
	slices.SortStableFunc(views, func(a, b view) int { return b.LastUsed.Compare(a.LastUsed) })
	d.Pages.Render(w, r, http.StatusOK, "devices/list", struct {
		Keys []view
		Ways ways
	}{views, d.ways(v)})
}

// keyOf returns the key that a request's path names. When there is none, it
// answers and returns false; somebody else's looks the same.
func (d *Devices) keyOf(w http.ResponseWriter, r *http.Request, v account.Visitor) (*admin.Key, bool) {
	f, err := authkeys.ParseFingerprint("SHA256:" + r.PathValue("key"))
	if err != nil {
		d.Pages.ErrorBack(w, r, http.StatusNotFound, Root)
		return nil, false
	}
	k, err := d.Admin.ShowKey(r.Context(), v.Actor, f)
	if err != nil {
		d.fail(w, r, err)
		return nil, false
	}
	return k, true
}

// show is the page of a key.
func (d *Devices) show(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	k, ok := d.keyOf(w, r, v)
	if !ok {
		return
	}
	s := settings{Name: k.Name, Login: loginPreauth, Uses: usesOf(k.Scope)}
	if k.NoPreauth {
		s.Login = loginExplicit
	}
	if !k.Expires.IsZero() {
		s.Expires = k.Expires.UTC().Format(time.DateOnly)
	}
	d.renderKey(w, r, v, http.StatusOK, k, s, nil)
}

func (d *Devices) renderKey(w http.ResponseWriter, r *http.Request, v account.Visitor, status int, k *admin.Key, s settings, f *fault) {
	history, err := d.Admin.RecentLogins(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	shown := viewOf(k)
	shown.used(history)
	d.Pages.Render(w, r, status, "devices/key", struct {
		Key    view
		Fields fields
		Setup  []program
	}{shown, fieldsOf(s, f), d.programs(v, fileName(v.Account.Primary(), k.Name), r.FormValue("client"))})
}

// change changes what a key may do, and its name.
func (d *Devices) change(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	k, ok := d.keyOf(w, r, v)
	if !ok || !d.Pages.Form(w, r) {
		return
	}
	s := settingsOf(r)
	scope, expires, err := s.limits()
	if err == nil {
		c := admin.KeyChange{Name: &s.Name, NoPreauth: new(bool), Scope: &scope}
		*c.NoPreauth = s.Login == loginExplicit
		if !expires.Equal(k.Expires) { // one that has passed may stay as it is
			c.Expires = &expires
		}
		_, err = d.Admin.SetKey(r.Context(), v.Actor, k.Fingerprint, c)
	}
	switch f := faultOf(err); {
	case f != nil:
		d.renderKey(w, r, v, http.StatusUnprocessableEntity, k, s, f)
	case err != nil:
		d.fail(w, r, err)
	default:
		d.Pages.Flash(w, pages.Flash{Kind: pages.Done, Text: pages.T("devices.flash.changed", "name", s.Name)})
		http.Redirect(w, r, keyPath(k.Fingerprint), http.StatusSeeOther)
	}
}

// askRemove says what removing a key will do.
func (d *Devices) askRemove(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	k, ok := d.keyOf(w, r, v)
	if !ok {
		return
	}
	conns, err := d.Admin.ListConns(r.Context(), v.Actor, v.Account.ID)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	live := 0
	for _, c := range conns {
		if c.Identity.Key == k.Fingerprint {
			live++
		}
	}
	d.Pages.Render(w, r, http.StatusOK, "devices/remove", struct {
		Key  view
		Live int
	}{viewOf(k), live})
}

// remove removes a key. One that is gone is as good.
func (d *Devices) remove(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	f, err := authkeys.ParseFingerprint("SHA256:" + r.PathValue("key"))
	if err != nil {
		d.Pages.ErrorBack(w, r, http.StatusNotFound, Root)
		return
	}
	name := ""
	if k, err := d.Admin.ShowKey(r.Context(), v.Actor, f); err == nil {
		name = k.Name
	}
	ended, err := d.Admin.EndKey(r.Context(), v.Actor, f)
	switch {
	case errors.Is(err, authkeys.ErrUnknown):
		d.Pages.Flash(w, pages.Flash{Kind: pages.Info, Text: pages.T("devices.flash.gone")})
	case err != nil:
		d.fail(w, r, err)
		return
	case ended == 0:
		d.Pages.Flash(w, pages.Flash{Kind: pages.Done, Text: pages.T("devices.flash.removed.idle", "name", name)})
	default:
		d.Pages.Flash(w, pages.Flash{Kind: pages.Done, Text: pages.T("devices.flash.removed", "name", name, "n", ended)})
	}
	http.Redirect(w, r, Root, http.StatusSeeOther)
}

// fail answers when an operation failed for a reason that is not the visitor's
// to mend.
func (d *Devices) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, authkeys.ErrUnknown):
		d.Pages.ErrorBack(w, r, http.StatusNotFound, Root)
	case errors.Is(err, admin.ErrForbidden), errors.Is(err, accounts.ErrNoAccount): // removed meanwhile
		d.Pages.Error(w, r, http.StatusForbidden)
	case r.Context().Err() != nil:
		d.Pages.Error(w, r, http.StatusServiceUnavailable)
	default:
		d.Log.Error().Err(err).Str("path", r.URL.Path).Msg("keys: request failed")
		d.Pages.Error(w, r, http.StatusInternalServerError)
	}
}
