package admin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/mux/muxtest"
	"posthorn/store"
)

// contract is the document, as far as it says what answers look like.
type contract struct {
	Paths      map[string]map[string]contractOperation
	Components struct{ Schemas map[string]map[string]any }
}

type contractOperation struct {
	OperationID string
	Responses   map[string]struct {
		Content map[string]struct{ Schema map[string]any }
	}
}

func readContract(t *testing.T) *contract {
	t.Helper()
	b, err := admin.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	c := new(contract)
	if err := json.Unmarshal(b, c); err != nil {
		t.Fatal(err)
	}
	return c
}

// find returns the operation that a request leads to.
func (c *contract) find(method, path string) (contractOperation, bool) {
	path, _, _ = strings.Cut(strings.TrimPrefix(path, admin.APIPath), "?")
	var best string
	for pattern, item := range c.Paths {
		re := "^" + regexp.MustCompile(`\{\w+\}`).ReplaceAllString(regexp.QuoteMeta(pattern), "X")
		re = regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(re, `[^/]+`) + "$"
		if _, ok := item[strings.ToLower(method)]; ok && regexp.MustCompile(re).MatchString(path) && strings.Count(pattern, "{") <= strings.Count(best+"{{{{", "{") {
			if best == "" || strings.Count(pattern, "{") < strings.Count(best, "{") {
				best = pattern
			}
		}
	}
	op, ok := c.Paths[best][strings.ToLower(method)]
	return op, ok
}

// check holds a response to the document.
func (c *contract) check(method, path string, w *httptest.ResponseRecorder) error {
	op, ok := c.find(method, path)
	if !ok {
		return fmt.Errorf("no operation")
	}
	resp, ok := op.Responses[fmt.Sprint(w.Code)]
	if !ok {
		return fmt.Errorf("%s: status %d is not in the document", op.OperationID, w.Code)
	}
	typ := w.Header().Get("Content-Type")
	content, ok := resp.Content[typ]
	switch {
	case len(resp.Content) == 0 && w.Code == http.StatusNoContent && w.Body.Len() == 0, len(resp.Content) == 0 && w.Code == http.StatusOK:
		return nil // empty, or a stream of another type
	case !ok:
		return fmt.Errorf("%s: %d answers %q", op.OperationID, w.Code, typ)
	}
	var v any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		return err
	}
	return c.match(op.OperationID, content.Schema, v)
}

// match holds a value to a schema.
func (c *contract) match(where string, schema map[string]any, v any) error {
	if ref, ok := schema["$ref"].(string); ok {
		name := ref[strings.LastIndexByte(ref, '/')+1:]
		return c.match(where, c.Components.Schemas[name], v)
	}
	types, _ := schema["type"].([]any)
	if one, ok := schema["type"].(string); ok {
		types = []any{one}
	}
	if len(types) > 0 && !slices.Contains(types, any(typeOf(v))) && (typeOf(v) != "integer" || !slices.Contains(types, any("number"))) {
		return fmt.Errorf("%s: is %s, not %v", where, typeOf(v), types)
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Errorf("%s: %v is none of %v", where, v, enum)
	}
	switch v := v.(type) {
	case []any:
		items, _ := schema["items"].(map[string]any)
		for i, item := range v {
			if err := c.match(fmt.Sprintf("%s[%d]", where, i), items, item); err != nil {
				return err
			}
		}
	case map[string]any:
		properties, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := v[name.(string)]; !ok {
				return fmt.Errorf("%s: lacks %s", where, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			p, ok := properties[name].(map[string]any)
			if !ok && schema["additionalProperties"] == false {
				return fmt.Errorf("%s: has %s", where, name)
			}
			if err := c.match(where+"."+name, p, v[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// TestContract: every operation is called, with what it understands and with what
// it does not, and every answer is as the document says.
func TestContract(t *testing.T) {
	p := newPort(t)
	p.conn.Key = p.operator
	c := readContract(t)
	called := make(map[string]bool)
	call := func(method, path, body string, want int, headers ...string) *httptest.ResponseRecorder {
		t.Helper()
		w := p.do(method, admin.APIPath+path, body, headers...)
		if w.Code != want {
			t.Errorf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, want)
		}
		if err := c.check(method, path, w); err != nil {
			t.Errorf("%s %s: %v in %s", method, path, err, w.Body)
		}
		if op, ok := c.find(method, path); ok && w.Code < 300 {
			called[op.OperationID] = true
		}
		return w
	}
	call("POST", "/accounts", `{"address":"alice@example.org","password":{"generate":true}}`, 201)
	call("POST", "/accounts", `{"address":"alice@example.org"}`, 409)
	call("POST", "/accounts", `{"address":"alice@example.org"}`, 412, "If-None-Match", "*")
	call("POST", "/accounts", `{"address":"alice@elsewhere.example"}`, 422)
	call("POST", "/accounts", `{"address":`, 400)
	call("POST", "/accounts", `{"address":"b@example.org"}`, 415, "Content-Type", "text/plain")
	call("GET", "/accounts?limit=1", "", 200)
	call("GET", "/accounts?limit=0", "", 422)
	call("GET", "/accounts?nonsense=1", "", 422)
	call("PATCH", "/accounts/alice@example.org", `{"disabled":true}`, 200)
	call("PATCH", "/accounts/alice@example.org", `{"disabled":false}`, 200)
	call("PUT", "/accounts/alice@example.org/addresses/ally@example.org", "", 200)
	call("PUT", "/accounts/alice@example.org/addresses/ally@example.org", "", 200) // again
	call("DELETE", "/accounts/alice@example.org/addresses/ally@example.org", "", 200)
	call("DELETE", "/accounts/alice@example.org/addresses/alice@example.org", "", 409)
	call("PUT", "/accounts/alice@example.org/password", `{"chosen":"short"}`, 422)
	call("PUT", "/accounts/alice@example.org/password", `{"chosen":"long enough"}`, 200)
	pair := muxtest.KeyPair(t)
	key, _ := json.Marshal(map[string]any{"account": "alice@example.org", "public_key": certPEM(pair), "expires": "2099-01-01T00:00:00Z"})
	made := call("POST", "/keys", string(key), 201)
	var k struct {
		Fingerprint authkeys.Fingerprint
		Account     string
	}
	if err := json.Unmarshal(made.Body.Bytes(), &k); err != nil {
		t.Fatal(err)
	}
	call("POST", "/keys", string(key), 409)
	call("POST", "/keys", string(key), 412, "If-None-Match", "*")
	call("GET", "/keys", "", 200)
	call("GET", "/keys/nonsense", "", 422)
	call("GET", "/keys/"+k.Fingerprint.String(), "", 200)
	call("PATCH", "/keys/"+k.Fingerprint.String(), `{"scope":"imap"}`, 200)
	call("PATCH", "/keys/"+k.Fingerprint.String(), `{"scope":"gopher"}`, 422)
	p.login(t, alpn.IMAP, "", pair)
	call("GET", "/accounts/alice@example.org", "", 200)
	call("GET", "/accounts/alice@example.org/logins", "", 200)
	conns := call("GET", "/connections?protocol=imap&account=alice@example.org", "", 200)
	var list admin.Page[struct{ ID uint64 }]
	if err := json.Unmarshal(conns.Body.Bytes(), &list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%s, %v", conns.Body, err)
	}
	call("DELETE", fmt.Sprintf("/connections/%d", list.Items[0].ID), "", 200)
	call("DELETE", "/connections?account=alice@example.org", "", 200)
	call("DELETE", "/connections", "", 422)
	call("DELETE", "/keys/"+k.Fingerprint.String(), "", 204)
	call("DELETE", "/keys/"+k.Fingerprint.String(), "", 404)
	p.passkey(t, k.Account, "one")
	call("GET", "/accounts/alice@example.org/passkeys", "", 200)
	call("DELETE", "/accounts/alice@example.org/passkeys/one", "", 200)
	call("DELETE", "/accounts/alice@example.org/passkeys/one", "", 404)
	call("GET", "/sessions", "", 200)
	call("DELETE", "/sessions?account=alice@example.org", "", 200)
	call("DELETE", "/sessions/nobody", "", 404)
	call("GET", "/blocks", "", 200)
	call("DELETE", "/blocks/192.0.2.1", "", 404)
	token := call("POST", "/tokens", `{"name":"x","scope":"read"}`, 201)
	var tok struct{ ID string }
	if err := json.Unmarshal(token.Body.Bytes(), &tok); err != nil {
		t.Fatal(err)
	}
	call("GET", "/tokens", "", 200)
	call("GET", "/tokens/"+tok.ID, "", 200)
	call("DELETE", "/tokens/"+tok.ID, "", 204)
	for _, path := range []string{"/whoami", "/status", "/activity", "/metrics", "/limits", "/backends", "/audit?action=account&account=alice@example.org",
		"/certificates", "/certificates/example.org", "/tickets", "/ech", "/records/example.org", "/backup"} {
		call("GET", path, "", 200)
	}
	call("GET", "/audit?since=yesterday", "", 422)
	call("GET", "/certificates/example.org/check?address=127.0.0.1:1", "", 200)
	call("GET", "/certificates/nobody.example", "", 404)
	call("POST", "/certificates/example.org/renewal", "", 200)
	call("POST", "/tickets/rotation?discard=true", "", 200)
	call("DELETE", "/accounts/alice@example.org", "", 204)
	for _, o := range operations(t) {
		if !called[o.id] && o.id != "endSession" && o.id != "removeBlock" {
			t.Errorf("%s was not called", o.id)
		}
	}
}

// An account has a bounded number of keys.
func TestTooManyKeys(t *testing.T) {
	p := newPort(t)
	p.conn.Key = p.operator
	alice := p.account(t, "alice@example.org")
	err := p.Store.Update(t.Context(), func(tx store.Tx) (err error) {
		for i := range authkeys.MaxPerAccount {
			k := authkeys.Key{Fingerprint: authkeys.Fingerprint{1, byte(i), byte(i >> 8)}, Account: alice.ID, Type: "Ed25519"}
			err = errors.Join(err, authkeys.AddTx(t.Context(), tx, k))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	body, _ := json.Marshal(admin.NewKey{Account: alice.ID, PublicKey: certPEM(muxtest.KeyPair(t))})
	var problem admin.Problem
	w := p.do("POST", admin.APIPath+"/keys", string(body))
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || w.Code != 409 || !errors.Is(&problem, authkeys.ErrTooMany) || problem.Hint == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A change that was decided on what is no more is not made.
func TestConditions(t *testing.T) {
	p := newPort(t)
	p.conn.Key = p.operator
	alice := p.account(t, "alice@example.org")
	path := admin.APIPath + "/accounts/" + alice.ID
	seen := p.do("GET", path, "").Header().Get("ETag")
	if seen == "" {
		t.Fatal("no ETag")
	}
	w := p.do("PATCH", path, `{"disabled":true}`, "If-Match", seen)
	if w.Code != 200 || w.Header().Get("ETag") == seen {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	now := w.Header().Get("ETag")
	for _, old := range []string{seen, `"nonsense"`, "W/" + now} {
		for _, change := range []struct{ method, path, body string }{
			{"PATCH", path, `{"disabled":false}`}, {"PUT", path + "/addresses/b@example.org", ""}, {"PUT", path + "/password", `{}`}, {"DELETE", path, ""},
		} {
			if w := p.do(change.method, change.path, change.body, "If-Match", old); w.Code != 412 {
				t.Errorf("%s %s with %s: %d %s", change.method, change.path, old, w.Code, w.Body)
			}
		}
	}
	if w := p.do("PATCH", path, `{"disabled":false}`, "If-Match", seen+", "+now); w.Code != 200 {
		t.Errorf("one of two: %d", w.Code)
	}
	_, k := p.key(t, alice.ID)
	keyPath := admin.APIPath + "/keys/" + k.Fingerprint.String()
	tag := p.do("GET", keyPath, "").Header().Get("ETag")
	p.Keys.Used(k.Fingerprint, k.Created, "imap PREAUTH")
	if w := p.do("PATCH", keyPath, `{"name":"x"}`, "If-Match", tag); w.Code != 200 {
		t.Errorf("a key that was used meanwhile: %d %s", w.Code, w.Body)
	}
	for _, method := range []string{"PATCH", "DELETE"} {
		body := map[string]string{"PATCH": `{"name":"y"}`}[method]
		if w := p.do(method, keyPath, body, "If-Match", tag); w.Code != 412 {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
	if w := p.do("DELETE", path, "", "If-Match", "*"); w.Code != 204 {
		t.Errorf("whatever it is: %d", w.Code)
	}
}

// Of several who change what they have seen, one gets through.
func TestConditionsRace(t *testing.T) {
	p := newPort(t)
	p.conn.Key = p.operator
	alice := p.account(t, "alice@example.org")
	path := admin.APIPath + "/accounts/" + alice.ID
	tag := p.do("GET", path, "").Header().Get("ETag")
	var mu sync.Mutex
	codes := map[int]int{}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			w := p.do("PUT", fmt.Sprintf("%s/addresses/a%d@example.org", path, i), "", "If-Match", tag)
			mu.Lock()
			defer mu.Unlock()
			codes[w.Code]++
		})
	}
	all.Wait()
	if codes[200] != 1 || codes[412] != 7 {
		t.Errorf("answers %v", codes)
	}
}

// FuzzBody: no body does harm, and none is repeated.
func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"address":"x@example.org"}`, `{"address":{}}`, `[]`, `null`, `{"password":{"chosen":1}}`, "{\"\\u0000\":1}",
		`{"name":"x","scope":"read","expires":"never"}`, `{"address":"a","address":"b"}`, strings.Repeat("[", 10000), `{"scope":7}`, "\xff"} {
		f.Add("POST", "/accounts", s)
		f.Add("POST", "/tokens", s)
		f.Add("POST", "/keys", s)
		f.Add("PATCH", "/keys/SHA256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0", s)
		f.Add("PUT", "/accounts/x@example.org/password", s)
	}
	p := newPort(f)
	p.conn.Key = p.operator
	f.Fuzz(func(t *testing.T, method, path, body string) {
		if !regexp.MustCompile(`^/[a-z]+(/[A-Za-z0-9:@._-]+)*$`).MatchString(path) || !slices.Contains([]string{"POST", "PUT", "PATCH", "DELETE"}, method) {
			return
		}
		const secret = "s3cr3t-s3cr3t"
		w := p.do(method, admin.APIPath+path, strings.ReplaceAll(body, "x", secret))
		if w.Code >= 500 && w.Code != 501 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if w.Code == 400 || w.Code == 422 && !strings.Contains(w.Body.String(), "example.org") {
			if bytes.Contains(w.Body.Bytes(), []byte(secret)) {
				t.Errorf("the answer repeats the body: %s", w.Body)
			}
		}
	})
}
