package devices

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"posthorn/authkeys"
)

// settings are what can be said of a key, as a form holds it.
type settings struct {
	Name    string
	Client  string   // ID
	Login   string   // how IMAP begins: loginPreauth, loginExplicit, or as suits the client
	Uses    []string // the boxes that are ticked: names of protocols in a scope
	Expires string   // YYYY-MM-DD, the last day; empty: never
}

const (
	loginPreauth  = "preauth"
	loginExplicit = "explicit"
)

// settingsOf reads a form.
func settingsOf(r *http.Request) settings {
	return settings{
		Name:    strings.TrimSpace(r.PostFormValue("name")),
		Client:  r.PostFormValue("client"),
		Login:   r.PostFormValue("login"),
		Uses:    r.PostForm["scope"],
		Expires: r.PostFormValue("expires"),
	}
}

// usesOf are the boxes for a scope.
func usesOf(s authkeys.Scope) (uses []string) {
	for _, one := range []authkeys.Scope{authkeys.ScopeIMAP, authkeys.ScopeSMTP, authkeys.ScopeHTTPS} {
		if s.Allows(one) {
			uses = append(uses, one.String())
		}
	}
	return uses
}

// noPreauth is what the settings mean for the key's record.
func (s *settings) noPreauth() bool {
	switch s.Login {
	case loginPreauth:
		return false
	case loginExplicit:
		return true
	}
	return clientNamed(s.Client).Explicit
}

// limits are what the settings allow. All boxes are no limit. None is a mistake: as
// a scope it would be none either, and lift what it seems to impose.
func (s *settings) limits() (scope authkeys.Scope, expires time.Time, err error) {
	if scope, err = authkeys.ParseScope(strings.Join(s.Uses, ",")); err != nil || scope == 0 {
		return 0, time.Time{}, errUses
	}
	if scope == authkeys.ScopeIMAP|authkeys.ScopeSMTP|authkeys.ScopeHTTPS {
		scope = 0
	}
	expires, err = lastMoment(s.Expires)
	return scope, expires, err
}

// lastMoment is the end of a day, which is the last one on which a key works;
// zero for no day.
func lastMoment(day string) (time.Time, error) {
	if day == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return time.Time{}, errDate
	}
	return t.AddDate(0, 0, 1).Add(-time.Second), nil
}

// fields is the part of a form that says how a key is to be.
type fields struct {
	settings
	Clients []client
	fault   *fault // nil: none
}

func fieldsOf(s settings, f *fault) fields { return fields{s, clients(), f} }

// In reports whether a box is ticked.
func (f fields) In(use string) bool { return slices.Contains(f.Uses, use) }

// Wrong returns the pages.Text about a field; nil when nothing is wrong with it.
func (f fields) Wrong(field string) any {
	if f.fault == nil || f.fault.field != field {
		return nil
	}
	return f.fault.text
}
