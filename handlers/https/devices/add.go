package devices

import (
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strings"

	"posthorn/admin"
	"posthorn/authkeys"
	"posthorn/handlers/https/account"
	"posthorn/handlers/https/pages"
)

// add registers a key. A script that has made one asks for JSON; a form gets a
// page.
func (d *Devices) add(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	text, ok := d.readKey(w, r)
	if !ok {
		return
	}
	s := settingsOf(r)
	k, added, err := d.register(r, v, s, text)
	switch fault := faultOf(err); {
	case fault == nil && err != nil:
		d.fail(w, r, err)
	case wantsJSON(r):
		d.answerScript(w, r, v, k, fault)
	case fault != nil:
		d.renderByHand(w, r, v, http.StatusUnprocessableEntity, s, string(shown(text)), fault)
	default:
		said := pages.Flash{Kind: pages.Done, Text: pages.T("devices.flash.added", "name", k.Name)}
		if !added {
			said = pages.Flash{Kind: pages.Info, Text: pages.T("devices.flash.there", "name", k.Name)}
		}
		d.Pages.Flash(w, said)
		http.Redirect(w, r, keyPath(k.Fingerprint)+"?client="+clientNamed(s.Client).ID+"#setup", http.StatusSeeOther)
	}
}

// readKey returns the key in a form: a file, or else a text. When the form is
// malformed or too large, it answers and returns false.
func (d *Devices) readKey(w http.ResponseWriter, r *http.Request) (text []byte, ok bool) {
	parse := r.ParseForm
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		parse = func() error { return r.ParseMultipartForm(pages.MaxBody) } // in memory, as nothing of it is to be on disk
	}
	err := parse()
	switch {
	case errors.As(err, new(*http.MaxBytesError)), errors.Is(err, multipart.ErrMessageTooLarge):
		d.Pages.ErrorBack(w, r, http.StatusRequestEntityTooLarge, Root+"/by-hand")
		return nil, false
	case err != nil:
		d.Pages.ErrorBack(w, r, http.StatusBadRequest, Root+"/by-hand")
		return nil, false
	}
	f, _, err := r.FormFile("file")
	if err != nil {
		return []byte(r.PostFormValue("public_key")), true
	}
	defer f.Close()
	if text, err = io.ReadAll(f); err != nil {
		d.fail(w, r, err)
		return nil, false
	}
	if len(text) == 0 {
		text = []byte(r.PostFormValue("public_key"))
	}
	return text, true
}

// register adds a key to the visitor's account. One that is there already is as
// good: a form that was sent twice, or whose answer was lost.
func (d *Devices) register(r *http.Request, v account.Visitor, s settings, text []byte) (k *admin.Key, added bool, err error) {
	if err := inspect(text); err != nil {
		return nil, false, err
	}
	scope, expires, err := s.limits()
	if err != nil {
		return nil, false, err
	}
	name := s.Name
	if c := clientNamed(s.Client); name == "" && c.ID == s.Client {
		name = d.Pages.Text(r, c.Name)
	}
	k, err = d.Admin.AddKey(r.Context(), v.Actor, admin.NewKey{
		Account: v.Account.ID, PublicKey: string(text), Name: name,
		NoPreauth: s.noPreauth(), Expires: expires, Scope: scope,
	})
	if !errors.Is(err, authkeys.ErrTaken) {
		return k, true, err
	}
	pub, perr := authkeys.ParsePublicKey(text)
	if perr != nil {
		return nil, false, err
	}
	if own, oerr := d.Admin.ShowKey(r.Context(), v.Actor, pub.Fingerprint); oerr == nil {
		return own, false, nil
	}
	return nil, false, err
}

func wantsJSON(r *http.Request) bool { return r.Header.Get("Accept") == "application/json" }

// answerScript tells newkey.ts how a registration went.
func (d *Devices) answerScript(w http.ResponseWriter, r *http.Request, v account.Visitor, k *admin.Key, f *fault) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	var answer any
	if f != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		answer = struct {
			Error string `json:"error"`
		}{d.Pages.Text(r, f.text)}
	} else {
		w.WriteHeader(http.StatusCreated)
		answer = struct {
			Page  string `json:"page"`
			File  string `json:"file"`
			Label string `json:"label"`
		}{keyPath(k.Fingerprint), fileName(v.Account.Primary(), k.Name), v.Account.Primary() + ", " + k.Name}
	}
	_ = json.NewEncoder(w).Encode(answer) // the client went away; nobody is left to tell
}
