package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/certs"
	"posthorn/certs/acme"
	"posthorn/passkeys"
	"posthorn/sessions"
	"posthorn/store"
)

// Problem is an error as the API tells it (RFC 9457). The client returns it
// as its error.
type Problem struct {
	Type   string `json:"type"` // "about:blank"; Code tells problems apart
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Code is for machines: one of the Code constants.
	Code string `json:"code"`
	// Hint says what to do about it; may be empty.
	Hint string `json:"hint,omitempty"`
}

func (p *Problem) Error() string { return p.Detail }

// Codes of problems.
const (
	CodeForbidden    = "forbidden"
	CodeUnauthorized = "unauthorized"
	CodeThrottled    = "throttled"
	CodeChanged      = "changed"
	CodeNoToken      = "no_token"
	CodeNoSession    = "no_session"
	CodeInvalid      = "invalid"
	CodeNoAccount    = "no_account"
	CodeAddressTaken = "address_taken"
	CodeLastAddress  = "last_address"
	CodeDomain       = "domain"
	CodeUnknownKey   = "unknown_key"
	CodeKeyTaken     = "key_taken"
	CodeTooManyKeys  = "too_many_keys"
	CodeKeyType      = "key_type"
	CodeNoPasskey    = "no_passkey"
	CodeNoBackend    = "no_backend"
	CodePasswordAway = "password_elsewhere"
	CodeNoCert       = "no_certificate"
	CodeCertInFile   = "certificate_in_file"
	CodeCA           = "ca_failed"
	CodeNoECH        = "no_ech"
	CodeNoConn       = "no_connection"
	CodeNoBlock      = "no_block"
	CodeNoBackup     = "no_backup"
	CodeNotFound     = "not_found"
	CodeMethod       = "method"
	CodeUnavailable  = "unavailable"
	CodeInternal     = "internal"
)

// Is makes errors.Is find, on the client's side too, the sentinels that stand
// behind the codes.
func (p *Problem) Is(target error) bool {
	for _, t := range translations {
		if t.err == target {
			return t.code == p.Code
		}
	}
	return false
}

var translations = []struct {
	err    error
	status int
	code   string
	hint   string
}{
	{ErrForbidden, http.StatusForbidden, CodeForbidden, ""},
	{accounts.ErrNoAccount, http.StatusNotFound, CodeNoAccount, "account list shows the accounts"},
	{accounts.ErrTaken, http.StatusConflict, CodeAddressTaken, "account show ADDRESS shows whose it is"},
	{accounts.ErrLast, http.StatusConflict, CodeLastAddress, "add another address first, or remove the account"},
	{accounts.ErrDomain, http.StatusUnprocessableEntity, CodeDomain, "domains in the configuration says which are"},
	{accounts.ErrAddress, http.StatusUnprocessableEntity, CodeInvalid, ""},
	{accounts.ErrPassword, http.StatusUnprocessableEntity, CodeInvalid, ""},
	{authkeys.ErrUnknown, http.StatusNotFound, CodeUnknownKey, "key list shows the registered keys"},
	{authkeys.ErrTaken, http.StatusConflict, CodeKeyTaken, "key show FINGERPRINT shows whose it is; key remove FINGERPRINT frees it"},
	{authkeys.ErrTooMany, http.StatusConflict, CodeTooManyKeys, "key remove FINGERPRINT removes one that is not used any more"},
	{ErrNoBackend, http.StatusUnprocessableEntity, CodeNoBackend, "backend list shows the backends"},
	{ErrPasswordElsewhere, http.StatusConflict, CodePasswordAway, "change it there; keys are added here: key add"},
	{certs.ErrNotServed, http.StatusNotFound, CodeNoCert, "cert list shows the names that are served"},
	{certs.ErrNotRenewable, http.StatusConflict, CodeCertInFile, "the gateway reads it again when it has changed"},
	{ErrNoECH, http.StatusNotFound, CodeNoECH, "tls.ech.public_name in the configuration turns it on"},
	{ErrNoBlock, http.StatusNotFound, CodeNoBlock, "block list shows the blocked sources"},
	{ErrNoConn, http.StatusNotFound, CodeNoConn, "conn list shows the live connections"},
	{ErrChanged, http.StatusPreconditionFailed, CodeChanged, "get it again, and decide anew"},
	{passkeys.ErrNoPasskey, http.StatusNotFound, CodeNoPasskey, "passkey list ACCOUNT shows them"},
	{ErrNoToken, http.StatusNotFound, CodeNoToken, "token list shows the tokens"},
	{sessions.ErrNoSession, http.StatusNotFound, CodeNoSession, "session list shows the web sessions"},
	{ErrNoBackup, http.StatusNotImplemented, CodeNoBackup, "back up the store with its own tools"},
	{store.ErrClosed, http.StatusServiceUnavailable, CodeUnavailable, "the gateway is stopping"},
	{context.Canceled, http.StatusServiceUnavailable, CodeUnavailable, ""},
}

// problemOf translates an operation's error, once, for the API. Text of errors
// that are not the caller's to mend stays in the log.
func problemOf(err error) *Problem {
	p := &Problem{Status: http.StatusInternalServerError, Code: CodeInternal,
		Detail: "internal error", Hint: "the gateway's log says what happened"}
	var (
		invalid *InvalidError
		typ     *authkeys.UnacceptableError
		ca      *acme.Failure
		told    *Problem
	)
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &invalid):
		p.Status, p.Code, p.Hint, p.Detail = http.StatusUnprocessableEntity, CodeInvalid, "", invalid.Error()
	case errors.As(err, &typ):
		p.Status, p.Code, p.Detail = http.StatusUnprocessableEntity, CodeKeyType, typ.Error()
		p.Hint = "accepted are Ed25519, ECDSA P-256, P-384 and P-521, and RSA of 2048 to 8192 bits"
	}
	if errors.As(err, &ca) {
		p.Status, p.Code, p.Detail = http.StatusBadGateway, CodeCA, printable(err.Error())
		p.Hint = "the certificate in use is served as long; cert show NAME says when the CA is asked again"
	}
	for _, t := range translations {
		if errors.Is(err, t.err) {
			p.Status, p.Code, p.Hint, p.Detail = t.status, t.code, t.hint, err.Error()
			break
		}
	}
	return p.complete()
}

// printable replaces what a CA may have put into an error to upset terminals.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

func (p *Problem) complete() *Problem {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	return p
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Cache-Control", "no-store")
	switch p.Status {
	case http.StatusUnauthorized: // RFC 6750 section 3
		w.Header().Set("WWW-Authenticate", `Bearer realm="posthorn"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "60")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client went away; nobody is left to tell
}

// ErrNoAPI says that what answers a Client is not a gateway's administration.
var ErrNoAPI = errors.New("no administration is offered there")

// readProblem makes an error of a response that is none of success.
func readProblem(resp *http.Response) error {
	p := new(Problem)
	err := json.NewDecoder(resp.Body).Decode(p)
	if err != nil || p.Code == "" || p.Detail == "" {
		return fmt.Errorf("%w: it answered %s", ErrNoAPI, resp.Status)
	}
	return p
}
