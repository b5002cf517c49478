package admin

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"

	"posthorn/authkeys"
)

// maxBody bounds a request's body, in bytes: the largest is a certificate as
// long as authkeys takes one, in JSON.
const maxBody = 2 << 20

// Handler returns the operations' HTTP form, under /v1/. actor says who asks;
// its error refuses the request. Answers are JSON; errors are Problems.
func (s *Service) Handler(actor func(*http.Request) (Actor, error)) http.Handler {
	api := &api{s, actor}
	m := http.NewServeMux()
	for pattern, op := range api.routes() {
		m.Handle(pattern, api.serve(op))
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p := &Problem{Status: http.StatusNotFound, Code: CodeNotFound, Detail: "no such operation"}
		writeProblem(w, p.complete())
	})
	return m
}

// api is the HTTP form of a Service.
type api struct {
	*Service
	actor func(*http.Request) (Actor, error)
}

// operation carries out one request. Its result is sent as JSON: with status
// 200, or 204 when it is nil.
type operation func(who Actor, w http.ResponseWriter, r *http.Request) (result any, err error)

func (a *api) routes() map[string]operation {
	return map[string]operation{
		"GET /v1/status":                                    a.status,
		"GET /v1/audit":                                     a.audit,
		"GET /v1/backup":                                    a.backup,
		"GET /v1/backends":                                  a.backendList,
		"GET /v1/certs":                                     a.certList,
		"GET /v1/certs/{name}":                              a.certShow,
		"POST /v1/certs/{name}/renew":                       a.certRenew,
		"GET /v1/certs/{name}/check":                        a.certCheck,
		"GET /v1/ech":                                       a.echShow,
		"GET /v1/records/{domain}":                          a.recordList,
		"GET /v1/accounts":                                  a.accountList,
		"POST /v1/accounts":                                 a.accountAdd,
		"GET /v1/accounts/{account}":                        a.accountShow,
		"PATCH /v1/accounts/{account}":                      a.accountChange,
		"DELETE /v1/accounts/{account}":                     a.accountRemove,
		"PUT /v1/accounts/{account}/password":               a.accountPassword,
		"PUT /v1/accounts/{account}/addresses/{address}":    a.addressAdd,
		"DELETE /v1/accounts/{account}/addresses/{address}": a.addressRemove,
		"GET /v1/keys":                                      a.keyList,
		"POST /v1/keys":                                     a.keyAdd,
		"GET /v1/keys/{fingerprint}":                        a.keyShow,
		"PATCH /v1/keys/{fingerprint}":                      a.keySet,
		"DELETE /v1/keys/{fingerprint}":                     a.keyRemove,
		"GET /v1/blocks":                                    a.blockList,
		"DELETE /v1/blocks/{source}":                        a.blockRemove,
		"GET /v1/conns":                                     a.connList,
		"DELETE /v1/conns":                                  a.connCloseAll,
		"DELETE /v1/conns/{id}":                             a.connClose,
	}
}

// serve wraps an operation: who asks, errors to Problems, results to JSON.
func (a *api) serve(op operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		who, err := a.actor(r)
		var result any
		if err == nil {
			result, err = op(who, w, r)
		}
		if err != nil {
			p := problemOf(err)
			if p.Code == CodeInternal {
				a.Log.Error().Err(err).Str("actor", who.Name).Str("operation", r.Pattern).Msg("administration failed")
			}
			writeProblem(w, p)
			return
		}
		writeResult(w, result)
	})
}

// sent is the result of an operation that has answered by itself.
type sent struct{}

func writeResult(w http.ResponseWriter, result any) {
	switch result.(type) {
	case sent:
		return
	case nil:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(result) // the client went away; nobody is left to tell
}

// body decodes a request's JSON. What is wrong with it is told without
// repeating any of it.
func body(r *http.Request, v any) error {
	// A form of another site cannot send this type without being asked first
	// (CORS), which guards clients that are known by a cookie or a key.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return &InvalidError{"body", "must be application/json"}
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return &InvalidError{"body", "must be one JSON value"}
	}
	return nil
}

func badBody(err error) error {
	var (
		typ *json.UnmarshalTypeError
		big *http.MaxBytesError
	)
	switch {
	case errors.As(err, &typ) && typ.Field != "":
		return &InvalidError{typ.Field, "has the wrong type"}
	case errors.As(err, &big):
		return &InvalidError{"body", "is too long"}
	}
	return &InvalidError{"body", "is not the JSON that is expected here"}
}

func fingerprint(r *http.Request) (authkeys.Fingerprint, error) {
	f, err := authkeys.ParseFingerprint(r.PathValue("fingerprint"))
	if err != nil {
		return f, &InvalidError{"fingerprint", err.Error()}
	}
	return f, nil
}

func (a *api) status(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.Status(r.Context(), who)
}

func (a *api) audit(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	limit := 0
	if v := r.FormValue("limit"); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return nil, &InvalidError{"limit", "must be a number"}
		}
		limit = int(n)
	}
	return a.Audit(r.Context(), who, limit)
}

// backup streams. An error after the first byte cuts the answer off, which
// the client cannot mistake for its end.
func (a *api) backup(who Actor, w http.ResponseWriter, r *http.Request) (any, error) {
	w.Header().Set("Content-Type", "application/zip")
	out := &countingWriter{w: w}
	err := a.Backup(r.Context(), who, out)
	if err != nil && out.n > 0 {
		a.Log.Error().Err(err).Msg("backup broke off")
		panic(http.ErrAbortHandler)
	}
	return sent{}, err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func (a *api) backendList(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.ListBackends(r.Context(), who)
}

func (a *api) certList(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.ListCerts(r.Context(), who)
}

func (a *api) certShow(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.ShowCert(r.Context(), who, r.PathValue("name"))
}

func (a *api) certRenew(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.RenewCert(r.Context(), who, r.PathValue("name"))
}

func (a *api) certCheck(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.CheckCert(r.Context(), who, r.PathValue("name"), r.FormValue("address"))
}

func (a *api) echShow(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.ShowECH(r.Context(), who)
}

func (a *api) recordList(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.Records(r.Context(), who, r.PathValue("domain"))
}

func (a *api) accountList(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.ListAccounts(r.Context(), who)
}

func (a *api) accountAdd(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	var req NewAccount
	if err := body(r, &req); err != nil {
		return nil, err
	}
	return a.AddAccount(r.Context(), who, req)
}

func (a *api) accountShow(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.ShowAccount(r.Context(), who, r.PathValue("account"))
}

// accountChange is what PATCH takes: one of them.
type accountChange struct {
	Disabled *bool   `json:"disabled,omitempty"`
	Backend  *string `json:"backend,omitempty"` // empty: the default
}

func (a *api) accountChange(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	var req accountChange
	if err := body(r, &req); err != nil {
		return nil, err
	}
	switch {
	case req.Disabled != nil && req.Backend != nil:
		return nil, &InvalidError{"change", "says more than one thing"}
	case req.Disabled != nil:
		return a.SetDisabled(r.Context(), who, r.PathValue("account"), *req.Disabled)
	case req.Backend != nil:
		return a.SetBackend(r.Context(), who, r.PathValue("account"), *req.Backend)
	}
	return nil, &InvalidError{"change", "says nothing to change"}
}

func (a *api) accountRemove(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return nil, a.RemoveAccount(r.Context(), who, r.PathValue("account"))
}

// generated is the answer to a new password.
type generated struct {
	Password string `json:"password,omitempty"`
}

func (a *api) accountPassword(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	var req NewPassword
	if err := body(r, &req); err != nil {
		return nil, err
	}
	p, err := a.SetPassword(r.Context(), who, r.PathValue("account"), req)
	return generated{p}, err
}

func (a *api) addressAdd(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.AddAddress(r.Context(), who, r.PathValue("account"), r.PathValue("address"))
}

func (a *api) addressRemove(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.RemoveAddress(r.Context(), who, r.PathValue("account"), r.PathValue("address"))
}

func (a *api) keyList(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.ListKeys(r.Context(), who, r.FormValue("account"))
}

func (a *api) keyAdd(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	var req NewKey
	if err := body(r, &req); err != nil {
		return nil, err
	}
	return a.AddKey(r.Context(), who, req)
}

func (a *api) keyShow(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	f, err := fingerprint(r)
	if err != nil {
		return nil, err
	}
	return a.ShowKey(r.Context(), who, f)
}

func (a *api) keySet(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	f, err := fingerprint(r)
	if err != nil {
		return nil, err
	}
	var req KeyChange
	if err := body(r, &req); err != nil {
		return nil, err
	}
	return a.SetKey(r.Context(), who, f, req)
}

func (a *api) keyRemove(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	f, err := fingerprint(r)
	if err != nil {
		return nil, err
	}
	return nil, a.RemoveKey(r.Context(), who, f)
}

func (a *api) connList(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.ListConns(r.Context(), who, r.FormValue("account"))
}

// closed is the answer to the end of connections.
type closed struct {
	Closed int `json:"closed"`
}

func (a *api) connCloseAll(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	account := r.FormValue("account")
	if account == "" {
		return nil, &InvalidError{"account", "must not be empty"}
	}
	n, err := a.CloseConns(r.Context(), who, account)
	return closed{n}, err
}

func (a *api) connClose(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return nil, &InvalidError{"connection", "must be a number"}
	}
	return closed{1}, a.CloseConn(r.Context(), who, id)
}

func (a *api) blockList(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return a.ListBlocks(r.Context(), who)
}

func (a *api) blockRemove(who Actor, _ http.ResponseWriter, r *http.Request) (any, error) {
	return nil, a.RemoveBlock(r.Context(), who, r.PathValue("source"))
}
