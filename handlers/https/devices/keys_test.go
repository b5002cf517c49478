package devices_test

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"posthorn/authkeys"
	"posthorn/mux"
)

// added registers a key for alice and returns the path of its page.
func (w *world) added(certificate string, more url.Values) string {
	w.t.Helper()
	form := url.Values{"public_key": {certificate}, "name": {"laptop"}, "client": {"thunderbird"}}
	for name, v := range more {
		form[name] = v
	}
	a := w.post("/account/keys", form)
	if a.StatusCode != http.StatusOK || !strings.HasPrefix(a.Request.URL.Path, "/account/keys/") {
		w.t.Fatalf("%s at %s: %s", a.Status, a.Request.URL, a.text())
	}
	return a.Request.URL.Path
}

func TestKeys(t *testing.T) {
	w := newWorld(t)
	if text := w.get("/account/keys").text(); !strings.Contains(text, "There are no keys yet.") {
		t.Errorf("an empty list: %s", text)
	}
	_, certificate := newKey(t)
	path := w.added(certificate, url.Values{"scope": {"imap", "smtp"}, "expires": {"2040-02-29"}})
	k := w.keys(w.alice)[0]
	if want := time.Date(2040, 2, 29, 23, 59, 59, 0, time.UTC); k.Name != "laptop" || k.NoPreauth || !k.Expires.Equal(want) ||
		k.Scope != authkeys.ScopeIMAP|authkeys.ScopeSMTP {
		t.Errorf("registered %+v", k)
	}
	for _, page := range []string{"/account/keys", path} {
		text := w.get(page).text()
		for _, want := range []string{"laptop", k.Fingerprint.String(), "ECDSA P-256", "2040-02-29 23:59 UTC", "not yet",
			"read mail (IMAP), send mail (SMTP)", "PREAUTH"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q: %s", page, want, text)
			}
		}
	}
}

func TestChange(t *testing.T) {
	w := newWorld(t)
	_, certificate := newKey(t)
	path := w.added(certificate, nil)
	a := w.post(path, url.Values{"name": {" Alice’s <b>phone</b> "}, "login": {"explicit"}, "scope": {"https"}, "expires": {"2050-01-01"}})
	k := w.keys(w.alice)[0]
	if k.Name != "Alice’s <b>phone</b>" || !k.NoPreauth || k.Scope != authkeys.ScopeHTTPS || k.Expires.Year() != 2050 {
		t.Errorf("changed to %+v", k)
	}
	if strings.Contains(a.body, "<b>phone") || !strings.Contains(a.body, "The key Alice’s &lt;b&gt;phone&lt;/b&gt; has been changed.") {
		t.Errorf("%s", a.body)
	}
	// All boxes are no limit, and no day is no expiry.
	w.post(path, url.Values{"name": {"x"}, "scope": {"imap", "smtp", "https"}, "login": {"preauth"}})
	if k := w.keys(w.alice)[0]; k.Scope != 0 || !k.Expires.IsZero() || k.NoPreauth || k.Name != "x" {
		t.Errorf("changed to %+v", k)
	}
}

func TestChangeRefused(t *testing.T) {
	w := newWorld(t)
	_, certificate := newKey(t)
	path := w.added(certificate, nil)
	before := w.keys(w.alice)[0]
	for name, tt := range map[string]struct {
		form url.Values
		want string
	}{
		"no name":          {url.Values{}, "A name has 1 to 100 characters"},
		"long name":        {url.Values{"name": {strings.Repeat("x", 101)}}, "A name has 1 to 100 characters"},
		"commands":         {url.Values{"name": {"a\x1b[31m\r\nb"}}, "A name has 1 to 100 characters"},
		"right to left":    {url.Values{"name": {"a\u202eb"}}, "A name has 1 to 100 characters"},
		"not UTF-8":        {url.Values{"name": {"\xff"}}, "A name has 1 to 100 characters"},
		"past":             {url.Values{"name": {"x"}, "expires": {"2001-01-01"}}, "This day is over."},
		"no date":          {url.Values{"name": {"x"}, "expires": {"soon"}}, "This is no date."},
		"no use":           {url.Values{"name": {"x"}, "scope": nil}, "Choose at least one use."},
		"strange use":      {url.Values{"name": {"x"}, "scope": {"imap", "everything"}}, "Choose at least one use."},
		"all uses as none": {url.Values{"name": {"x"}, "scope": {""}}, "Choose at least one use."},
		"no day of a year": {url.Values{"name": {"x"}, "expires": {"2041-02-29"}}, "This is no date."},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.post(path, tt.form)
			if a.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(a.text(), tt.want) {
				t.Errorf("%s: %s", a.Status, a.text())
			}
			if after := w.keys(w.alice)[0]; after != before {
				t.Errorf("changed to %+v", after)
			}
		})
	}
}

// TestAddedBefore: a key that is there already is not changed by being added once
// more, and the page says so.
func TestAddedBefore(t *testing.T) {
	w := newWorld(t)
	_, certificate := newKey(t)
	path := w.added(certificate, nil)
	before := w.keys(w.alice)[0]
	a := w.post("/account/keys", url.Values{"public_key": {certificate}, "name": {"phone"}, "scope": {"imap"}, "expires": {"2050-01-01"}})
	if a.Request.URL.Path != path || !strings.Contains(a.text(), "This key was added before, as laptop. Nothing has been changed.") {
		t.Errorf("%s at %s: %s", a.Status, a.Request.URL, a.text())
	}
	if after := w.keys(w.alice); len(after) != 1 || after[0] != before {
		t.Errorf("there are %+v", after)
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	pair, certificate := newKey(t)
	other, otherCertificate := newKey(t)
	path := w.added(certificate, nil)
	w.added(otherCertificate, url.Values{"name": {"other"}})
	one, two, third := w.session(pair), w.session(pair), w.session(other)

	if text := w.get(path + "/remove").text(); !strings.Contains(text, "2 connections that are open with it will end.") {
		t.Errorf("asks: %s", text)
	}
	a := w.post(path+"/remove", nil)
	if !strings.Contains(a.text(), "The key laptop has been removed. 2 open connections were ended.") || a.Request.URL.Path != "/account/keys" {
		t.Errorf("at %s: %s", a.Request.URL, a.text())
	}
	for _, s := range []io.Reader{one, two} {
		if _, err := io.ReadAll(s); err != nil {
			t.Errorf("a session of the key lives: %v", err)
		}
	}
	if keys := w.keys(w.alice); len(keys) != 1 || keys[0].Name != "other" {
		t.Errorf("left are %+v", keys)
	}
	others := func(c mux.Info) bool { return c.Identity.Key == authkeys.Fingerprint(sha256.Sum256(spki(t, other))) }
	if n := w.Mux.CloseAccount(w.alice.ID, others, mux.ErrEvicted); n != 1 {
		t.Errorf("of the other key %d sessions live, want 1", n)
	}
	if _, err := io.ReadAll(third); err != nil {
		t.Error(err)
	}

	// Twice, as by a double click.
	if text := w.post(path+"/remove", nil).text(); !strings.Contains(text, "That key was removed before.") {
		t.Errorf("twice: %s", text)
	}
	for _, gone := range []string{path, path + "/remove"} {
		if a := w.get(gone); a.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: %s", gone, a.Status)
		}
	}
	if a := w.post(path, url.Values{"name": {"x"}}); a.StatusCode != http.StatusNotFound {
		t.Errorf("a change of what is gone: %s", a.Status)
	}
}

// Somebody else's keys are none.
func TestOthers(t *testing.T) {
	w := newWorld(t)
	_, certificate := newKey(t)
	path := w.added(certificate, nil)
	before := w.keys(w.alice)[0]
	bob := []string{"X-Visitor", "bob"}
	for _, p := range []string{path, path + "/remove", "/account/keys/x", "/account/keys/" + strings.Repeat("A", 43)} {
		if a := w.get(p, bob...); a.StatusCode != http.StatusNotFound || strings.Contains(a.body, "laptop") {
			t.Errorf("GET %s: %s", p, a.Status)
		}
	}
	if a := w.post(path, url.Values{"name": {"bob's"}}, bob...); a.StatusCode != http.StatusNotFound {
		t.Errorf("change: %s", a.Status)
	}
	if text := w.post(path+"/remove", nil, bob...).text(); !strings.Contains(text, "That key was removed before.") {
		t.Errorf("remove: %s", text)
	}
	a := w.post("/account/keys", url.Values{"public_key": {certificate}}, bob...)
	if a.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(a.text(), "This key belongs to another account already.") {
		t.Errorf("add: %s %s", a.Status, a.text())
	}
	if after := w.keys(w.alice); len(after) != 1 || after[0] != before {
		t.Errorf("now %+v", after)
	}
	if keys := w.keys(w.bob); len(keys) != 0 {
		t.Errorf("bob has %+v", keys)
	}
}

// What another site's page sends changes nothing.
func TestCrossOrigin(t *testing.T) {
	w := newWorld(t)
	_, certificate := newKey(t)
	path := w.added(certificate, nil)
	for _, p := range []string{"/account/keys", path, path + "/remove"} {
		for _, h := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
			if a := w.post(p, url.Values{"name": {"x"}}, h...); a.StatusCode != http.StatusForbidden {
				t.Errorf("POST %s with %s: %s", p, h, a.Status)
			}
		}
	}
	if keys := w.keys(w.alice); len(keys) != 1 || keys[0].Name != "laptop" {
		t.Errorf("now %+v", keys)
	}
}

// No page is large: with many keys, the frame and all.
func TestPageSizes(t *testing.T) {
	w := newWorld(t)
	var path string
	for range 30 {
		_, certificate := newKey(t)
		path = w.added(certificate, url.Values{"name": {strings.Repeat("ö", 100)}})
	}
	for _, p := range []string{"/account/keys", path, path + "/remove", "/account/keys/new", "/account/keys/by-hand", "/account/keys/setup", "/account/keys/phone"} {
		a := w.get(p)
		if a.StatusCode != http.StatusOK || len(a.body) > 64<<10 {
			t.Errorf("GET %s: %s, %d bytes", p, a.Status, len(a.body))
		}
		if scripts := strings.Contains(a.body, `/newkey-`); scripts != (p == "/account/keys/new") {
			t.Errorf("GET %s: the script that makes keys: %t", p, scripts)
		}
		if strings.Contains(a.Header.Get("Content-Security-Policy"), "unsafe") || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: %v", p, a.Header)
		}
	}
}
