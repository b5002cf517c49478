package admin_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"posthorn/admin"
	"posthorn/authkeys"
	"posthorn/mux"
	"posthorn/store"
)

const adminHost = "admin.example.org"

// port is the gate of a world, without the network in front.
type port struct {
	*world
	gate     http.Handler
	operator authkeys.Fingerprint // the operator's key
	conn     *mux.Conn            // what requests come on
}

func newPort(t testing.TB) *port {
	t.Helper()
	w := newWorld(t)
	w.certify(t, "example.org")
	w.Metrics = prometheus.NewRegistry()
	w.Limits = func() []admin.Limit { return []admin.Limit{{Name: "limits.idle", InForce: "35m", Configured: "1h"}} }
	return portOf(w)
}

// portOf opens a world's port.
func portOf(w *world) *port {
	p := &port{world: w, operator: authkeys.Fingerprint{1, 2, 3}, conn: new(mux.Conn)}
	g := &admin.Gate{Service: w.Service, Host: adminHost, Conn: func(*http.Request) *mux.Conn { return p.conn }}
	g.SetKeys(map[authkeys.Fingerprint]string{p.operator: "olga"})
	p.gate = g.Handler()
	return p
}

// token makes a token of a scope.
func (p *port) token(t *testing.T, scope admin.Scope) *admin.CreatedToken {
	t.Helper()
	tok, err := p.AddToken(t.Context(), operator, admin.NewToken{Name: "test", Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// do sends a request with headers, given as name and value in turn.
func (p *port) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://"+adminHost+path, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.7:1234"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for pair := range slices.Chunk(headers, 2) {
		if pair[0] == "Host" {
			r.Host = pair[1]
			continue
		}
		r.Header.Set(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	p.gate.ServeHTTP(w, r)
	return w
}

// listing is a request that every reader may make.
const listing = admin.APIPath + "/accounts"

func TestGate(t *testing.T) {
	p := newPort(t)
	all := p.token(t, admin.ScopeAll)
	expired := p.token(t, admin.ScopeAll)
	p.expire(t, expired.ID)
	removed := p.token(t, admin.ScopeAll)
	if err := p.RemoveToken(t.Context(), operator, removed.ID); err != nil {
		t.Fatal(err)
	}
	stranger := authkeys.Fingerprint{9}
	for _, tt := range []struct {
		name    string
		key     authkeys.Fingerprint
		headers []string
		want    int
	}{
		{"nobody", authkeys.Fingerprint{}, nil, 401},
		{"a stranger's key", stranger, nil, 401},
		{"an operator's key", p.operator, nil, 200},
		{"a key, same origin", p.operator, []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://" + adminHost}, 200},
		{"a key, typed by the user", p.operator, []string{"Sec-Fetch-Site", "none"}, 200},
		{"a key, another site", p.operator, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a key, a sister site", p.operator, []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"a key, another origin", p.operator, []string{"Origin", "https://evil.example"}, 403},
		{"a key, an opaque origin", p.operator, []string{"Origin", "null"}, 403},
		{"a key, another scheme", p.operator, []string{"Origin", "http://" + adminHost}, 403},
		{"a token", authkeys.Fingerprint{}, []string{"Authorization", "Bearer " + all.Text}, 200},
		{"a token in lower case", authkeys.Fingerprint{}, []string{"Authorization", "bearer " + all.Text}, 200},
		{"a token and a stranger's key", stranger, []string{"Authorization", "Bearer " + all.Text}, 200},
		{"a wrong token and a key", p.operator, []string{"Authorization", "Bearer " + all.Text + "x"}, 401},
		{"another scheme", authkeys.Fingerprint{}, []string{"Authorization", "Basic " + all.Text}, 401},
		{"an expired token", authkeys.Fingerprint{}, []string{"Authorization", "Bearer " + expired.Text}, 401},
		{"a removed token", authkeys.Fingerprint{}, []string{"Authorization", "Bearer " + removed.Text}, 401},
		{"an ID alone", authkeys.Fingerprint{}, []string{"Authorization", "Bearer posthorn_" + all.ID + "_"}, 401},
		{"a path for an ID", authkeys.Fingerprint{}, []string{"Authorization", "Bearer posthorn_../" + all.ID + "_x"}, 401},
		{"another host", p.operator, []string{"Host", "example.org"}, 404},
		{"a host that looks like it", p.operator, []string{"Host", adminHost + ".evil.example"}, 404},
		{"a port", p.operator, []string{"Host", adminHost + ":8443"}, 200},
	} {
		p.conn.Key = tt.key
		w := p.do("GET", listing, "", tt.headers...)
		if w.Code != tt.want {
			t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
		}
		if w.Code == 401 && (w.Header().Get("WWW-Authenticate") == "" || w.Header().Get("Content-Type") != "application/problem+json") {
			t.Errorf("%s: headers %v", tt.name, w.Header())
		}
		if strings.Contains(w.Body.String(), all.Text) {
			t.Errorf("%s: the token is in the answer", tt.name)
		}
	}
	for _, secret := range []string{all.Text, expired.Text, all.Text[len("posthorn_")+11:]} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log has a token: %s", p.log)
		}
		for item := range p.Store.Scan(t.Context(), "") {
			if bytes.Contains(item.Value, []byte(secret)) {
				t.Errorf("%s has a token", item.Key)
			}
		}
	}
}

// expire makes a token one that has expired.
func (p *port) expire(t *testing.T, id string) {
	t.Helper()
	err := p.Store.Update(t.Context(), func(tx store.Tx) error {
		b, err := tx.Get(t.Context(), "token/"+id)
		if err != nil {
			return err
		}
		b = regexp.MustCompile(`"expires":"[^"]*"`).ReplaceAll(b, []byte(`"expires":"2020-01-01T00:00:00Z"`))
		return tx.Put("token/"+id, b)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Wrong tokens are slowed, and nobody else is.
func TestWrongTokens(t *testing.T) {
	p := newPort(t)
	good := p.token(t, admin.ScopeRead)
	codes := map[int]int{}
	for range 30 {
		codes[p.do("GET", listing, "", "Authorization", "Bearer posthorn_nope_nope").Code]++
	}
	if codes[401] != 10 || codes[429] != 20 {
		t.Errorf("answers %v", codes)
	}
	if w := p.do("GET", listing, "", "Authorization", "Bearer "+good.Text); w.Code != 200 {
		t.Errorf("the right one: %d", w.Code)
	}
}

// An operation of the document.
type documented struct {
	method, path, id, scope string
	statuses                []string
}

func operations(t *testing.T) (all []documented) {
	t.Helper()
	b, err := admin.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Paths map[string]map[string]struct {
			OperationID string
			Security    []map[string][]string
			Responses   map[string]any
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	for path, methods := range d.Paths {
		for method, op := range methods {
			o := documented{method: strings.ToUpper(method), path: path, id: op.OperationID}
			for _, need := range op.Security {
				if s := need["token"]; len(s) > 0 {
					o.scope = s[0]
				}
			}
			for status := range op.Responses {
				o.statuses = append(o.statuses, status)
			}
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b documented) int { return strings.Compare(a.id, b.id) })
	return all
}

// example fills in a path and a body that an operation understands, of something
// that is not there.
func (o documented) example() (path, body string) {
	path = regexp.MustCompile(`\{(\w+)\}`).ReplaceAllStringFunc(o.path, func(name string) string {
		switch name {
		case "{fingerprint}":
			return authkeys.Fingerprint{7}.String()
		case "{id}":
			return "123456"
		case "{address}":
			return "new@example.org"
		case "{source}":
			return "192.0.2.99"
		}
		return "nobody"
	})
	switch o.id {
	case "closeConnections", "endSessions":
		path += "?account=nobody"
	case "addAccount":
		body = `{"address":"x@nowhere.example"}`
	case "changeAccount":
		body = `{"disabled":true}`
	case "setPassword":
		body = `{"generate":true}`
	case "addKey":
		body = `{"account":"nobody","public_key":"x"}`
	case "changeKey":
		body = `{"name":"x"}`
	case "addToken":
		body = `{"name":"x","scope":"read"}`
	}
	return admin.APIPath + path, body
}

// TestRoles: every role × every operation. What a role may do is not refused, and
// what it may not do is, whatever there is.
func TestRoles(t *testing.T) {
	p := newPort(t)
	order := []string{"none", "read", "accounts", "all"}
	roles := map[string]*admin.CreatedToken{
		"read": p.token(t, admin.ScopeRead), "accounts": p.token(t, admin.ScopeAccounts), "all": p.token(t, admin.ScopeAll),
	}
	for _, o := range operations(t) {
		if !slices.Contains(order[1:], o.scope) {
			t.Errorf("%s wants scope %q", o.id, o.scope)
			continue
		}
		path, body := o.example()
		for role, token := range roles {
			may := slices.Index(order, role) >= slices.Index(order, o.scope)
			w := p.do(o.method, path, body, "Authorization", "Bearer "+token.Text)
			if refused := w.Code == http.StatusForbidden; refused == may {
				t.Errorf("%s as %s: %d %s", o.id, role, w.Code, w.Body)
			}
			if !slices.Contains(o.statuses, fmt.Sprint(w.Code)) {
				t.Errorf("%s as %s: %d is not in the document: %s", o.id, role, w.Code, w.Body)
			}
		}
		if w := p.do(o.method, path, body); w.Code != http.StatusUnauthorized {
			t.Errorf("%s as nobody: %d", o.id, w.Code)
		}
	}
}

// Every change is in the trail, with who and from where and what has changed, and
// without secrets.
func TestTrailOfChanges(t *testing.T) {
	p := newPort(t)
	token := p.token(t, admin.ScopeAll)
	call := func(method, path, body string, want int) string {
		t.Helper()
		w := p.do(method, admin.APIPath+path, body, "Authorization", "Bearer "+token.Text)
		if w.Code != want {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		return w.Body.String()
	}
	const secret = "open sesame and more"
	call("POST", "/accounts", `{"address":"alice@example.org","password":{"chosen":"`+secret+`"}}`, 201)
	call("PATCH", "/accounts/alice@example.org", `{"disabled":true}`, 200)
	call("PUT", "/accounts/alice@example.org/addresses/ally@example.org", "", 200)
	call("PUT", "/accounts/alice@example.org/password", `{"chosen":"`+secret+`2"}`, 200)
	call("DELETE", "/accounts/alice@example.org", "", 204)
	made := call("POST", "/tokens", `{"name":"x","scope":"read"}`, 201)
	var text struct {
		ID    string `json:"id"`
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(made), &text); err != nil || text.Token == "" {
		t.Fatal(made)
	}
	call("DELETE", "/tokens/"+text.ID, "", 204)
	events, err := p.Audit(t.Context(), operator, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(events)
	if err != nil || strings.Contains(string(b), secret) || strings.Contains(string(b), text.Token) {
		t.Errorf("the trail has a secret: %s, %v", b, err)
	}
	want := []struct{ action, before, after string }{
		{"token add", "", `"scope":"all"`}, // the test's own
		{"account add", "", "alice@example.org"},
		{"account disable", `{"disabled":false}`, `{"disabled":true}`},
		{"account address add", `{"addresses":["alice@example.org"]}`, "ally@example.org"},
		{"account password", "", ""},
		{"account remove", "alice@example.org", ""},
		{"token add", "", `"scope":"read"`},
		{"token remove", `"scope":"read"`, ""},
	}
	if len(events) != len(want) {
		t.Fatalf("%d entries: %s", len(events), b)
	}
	for i, e := range events {
		w := want[i]
		if e.Action != w.action || !strings.Contains(string(e.Before), w.before) || !strings.Contains(string(e.After), w.after) {
			t.Errorf("entry %d: %s, before %s, after %s", i, e.Action, e.Before, e.After)
		}
		if i > 0 && (e.From != "192.0.2.7" || !strings.Contains(e.Actor, token.ID)) {
			t.Errorf("entry %d: by %q from %q", i, e.Actor, e.From)
		}
	}
	p.Privacy = true
	call("POST", "/accounts", `{"address":"bob@example.org"}`, 201)
	if events, _ := p.Audit(t.Context(), operator, 1); len(events) != 1 || events[0].From != "" {
		t.Errorf("with log.privacy: %+v", events)
	}
}

// Pages tell each item once that is there all the time.
func TestPages(t *testing.T) {
	for _, filter := range []string{"", "&domain=example.org"} {
		t.Run(filter, func(t *testing.T) { pages(t, filter) })
	}
}

func pages(t *testing.T, filter string) {
	p := newPort(t)
	for i := range 25 {
		p.account(t, fmt.Sprintf("user%02d@example.org", i))
	}
	p.conn.Key = p.operator
	var seen []string
	cursor, pages := "", 0
	for {
		w := p.do("GET", listing+"?limit=4&cursor="+cursor+filter, "")
		var page admin.Page[struct{ Addresses []string }]
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if page.Total != 25 {
			t.Errorf("there are %d in all", page.Total)
		}
		for _, a := range page.Items {
			seen = append(seen, a.Addresses[0])
		}
		// One comes before, and the one that the cursor names goes.
		p.account(t, fmt.Sprintf("aaa%02d@example.org", pages))
		if last := seen[len(seen)-1]; strings.HasPrefix(last, "user") && page.Next != "" {
			if err := p.RemoveAccount(t.Context(), operator, last); err != nil {
				t.Fatal(err)
			}
		}
		pages++
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	for i := range 25 {
		n := 0
		for _, s := range seen {
			if s == fmt.Sprintf("user%02d@example.org", i) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("user%02d was told %d times", i, n)
		}
	}
	if w := p.do("GET", listing+"?cursor=%21%21", ""); w.Code != 422 {
		t.Errorf("a bad cursor: %d", w.Code)
	}
	if w := p.do("GET", listing+"?text=USER03&domain=example.org&disabled=false", ""); !strings.Contains(w.Body.String(), `"total":0`) && !strings.Contains(w.Body.String(), "user03") {
		t.Errorf("filters: %s", w.Body)
	}
}

// The page is made here, of every operation, without anything from elsewhere.
func TestDocs(t *testing.T) {
	p := newPort(t)
	page := p.do("GET", "/admin/api/docs", "")
	if page.Code != 200 || !strings.Contains(page.Header().Get("Content-Security-Policy"), "style-src 'self'") {
		t.Fatalf("%d %v", page.Code, page.Header())
	}
	for _, o := range operations(t) {
		if !strings.Contains(page.Body.String(), `id="`+o.id+`"`) {
			t.Errorf("the page lacks %s", o.id)
		}
	}
	if m := regexp.MustCompile(`https?://|<script|style=`).FindString(page.Body.String()); m != "" {
		t.Errorf("the page has %q", m)
	}
	doc := p.do("GET", "/admin/api/openapi.json", "")
	if want, _ := admin.OpenAPI(); !bytes.Equal(doc.Body.Bytes(), want) {
		t.Error("another document")
	}
	if w := p.do("GET", "/admin/api/docs.css", ""); w.Code != 200 {
		t.Errorf("style: %d", w.Code)
	}
	if w := p.do("GET", "/admin/api/docs", "", "Host", "example.org"); w.Code != 404 {
		t.Errorf("on another host: %d", w.Code)
	}
}

// A token tells when it was last used, and for how long it is good.
func TestTokens(t *testing.T) {
	p := newPort(t)
	tok := p.token(t, admin.ScopeRead)
	if d := time.Until(tok.Expires); d < 89*24*time.Hour || d > 91*24*time.Hour || tok.By != "test" {
		t.Errorf("%+v", tok)
	}
	p.do("GET", listing, "", "Authorization", "Bearer "+tok.Text)
	got, err := p.ShowToken(t.Context(), operator, tok.ID)
	if err != nil || time.Since(got.LastUsed) > time.Minute {
		t.Errorf("%+v, %v", got, err)
	}
	for name, req := range map[string]admin.NewToken{
		"no name": {Scope: admin.ScopeRead}, "no scope": {Name: "x"}, "no such scope": {Name: "x", Scope: 9},
		"past": {Name: "x", Scope: 1, Expires: time.Now().Add(-time.Second)}, "forever": {Name: "x", Scope: 1, Expires: time.Now().AddDate(9, 0, 0)},
		"escape": {Name: "x\x1b[31m", Scope: 1},
	} {
		if _, err := p.AddToken(t.Context(), operator, req); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := io.ReadAll(p.do("GET", admin.APIPath+"/metrics", "", "Authorization", "Bearer "+tok.Text).Body); err != nil {
		t.Error(err)
	}
}
