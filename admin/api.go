package admin

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"posthorn/accounts"
	"posthorn/authkeys"
)

// APIPath is where the operations' HTTP form stands, on every transport.
const APIPath = "/admin/api/v1"

// maxBody bounds a request's body, in bytes: the largest is a certificate as
// long as authkeys takes one, in JSON.
const maxBody = 2 << 20

// Handler returns the operations' HTTP form, below APIPath. actor says who
// asks; its error refuses the request. Answers are JSON; errors are Problems.
func (s *Service) Handler(actor func(*http.Request) (Actor, error)) http.Handler {
	a := newAPI(s)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		who, err := actor(r)
		if err == nil {
			err = typed(r)
		}
		if err != nil {
			a.refuse(w, err)
			return
		}
		ctx := context.WithValue(r.Context(), actorKey{}, who)
		ctx = context.WithValue(ctx, stillKey{}, func() error { _, err := actor(r); return err })
		a.mux.ServeHTTP(w, r.WithContext(ctx))
	})
}

// OpenAPI returns the document (OpenAPI 3.1, in JSON) that describes the
// operations' HTTP form.
func OpenAPI() ([]byte, error) { return document(newAPI(new(Service)).huma.OpenAPI()) }

// api is the HTTP form of a Service.
type api struct {
	*Service
	huma huma.API
	mux  *http.ServeMux
	// names are those that the document has.
	names map[string]bool
}

// newAPI makes the operations known to a router and the document.
func newAPI(s *Service) *api {
	a := &api{Service: s, mux: http.NewServeMux()}
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	a.huma = huma.NewAPI(huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Posthorn", Version: "1",
				Description: "Administration of a Posthorn mail gateway: everything that the command line can do.",
			},
			Servers: []*huma.Server{{URL: APIPath}},
			Tags:    tags,
			Components: &huma.Components{Schemas: schemas, SecuritySchemes: map[string]*huma.SecurityScheme{
				"key":   {Type: "mutualTLS", Description: "A client certificate with the key of an operator (admin.keys). It may do everything."},
				"token": {Type: "http", Scheme: "bearer", Description: "A token (posthorn token add), which may do what its scope says."},
			}},
		},
		Formats:                      map[string]huma.Format{jsonType: jsonFormat, problemType: jsonFormat, "json": jsonFormat},
		DefaultFormat:                jsonType,
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{a.toProblem},
	}, humago.NewAdapter(a.mux, APIPath))
	schemas.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[Problem]())
	a.addGateway()
	a.addConsole()
	a.addAccounts()
	a.addKeys()
	a.addPasskeys()
	a.addConns()
	a.addCerts()
	a.addSessions()
	a.addTokens()
	a.names = namesOf(a.huma.OpenAPI())
	a.mux.HandleFunc(anyPath, a.unknown)
	return a
}

// anyPath is the pattern of what no operation is for.
const anyPath = "/"

// unknown answers a request that no operation is for: with the methods that there
// are at its path, if any (RFC 9110 section 15.5.6).
func (a *api) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if _, pattern := a.mux.Handler(&http.Request{Method: m, Host: r.Host, URL: r.URL}); pattern != anyPath {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		a.refuse(w, &Problem{Status: http.StatusNotFound, Code: CodeNotFound, Detail: "no such operation"})
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	a.refuse(w, &Problem{Status: http.StatusMethodNotAllowed, Code: CodeMethod, Detail: "no such operation",
		Hint: "the methods here are " + strings.Join(allowed, ", ")})
}

var tags = []*huma.Tag{
	{Name: "gateway", Description: "The gateway as a whole."},
	{Name: "accounts", Description: "Accounts, addresses, passwords. An account is named by its ID or one of its addresses."},
	{Name: "keys", Description: "Public keys that log in, by their fingerprints."},
	{Name: "passkeys", Description: "Passkeys that sign in to the account pages. They are made there."},
	{Name: "connections", Description: "Live connections, and the sources whose passwords are refused."},
	{Name: "sessions", Description: "People who are signed in to the account pages."},
	{Name: "tokens", Description: "Tokens for programs that use this interface."},
	{Name: "certificates", Description: "Server certificates, session tickets, Encrypted Client Hello, and what the DNS should say."},
}

// operation is what the document says about an operation of the Service's.
type operation struct {
	id, tag      string
	action       string // as in least
	method, path string
	summary      string
	about        string
	fails        []int // statuses, besides those that every operation may answer
	status       int   // of success; 0: 200, or 204 without a body
	slow         bool  // it may take longer than answers usually may
}

// everywhere are the statuses that every operation may answer.
var everywhere = []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}

// add makes an operation known: do carries it out.
func add[I, O any](a *api, o operation, do func(ctx context.Context, who Actor, in *I) (*O, error)) {
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Description: o.about, Tags: []string{o.tag},
		DefaultStatus: o.status, MaxBodyBytes: maxBody, Errors: slices.Concat(o.fails, everywhere),
		Security: []map[string][]string{{"key": {}}, {"token": {least[o.action].String()}}},
	}
	if o.method != http.MethodGet && o.method != http.MethodDelete {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if o.slow {
		op.Middlewares = huma.Middlewares{func(hc huma.Context, next func(huma.Context)) {
			_, w := humago.Unwrap(hc)
			takeTime(w)
			next(hc)
		}}
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		who, _ := ctx.Value(actorKey{}).(Actor)
		out, err := do(ctx, who, in)
		if err != nil {
			return nil, a.problem(err, who, o.id)
		}
		return out, nil
	})
}

// actorKey is where a request's context holds who asks, and stillKey a function that
// says, with a nil error, that they still may.
type (
	actorKey struct{}
	stillKey struct{}
)

// problem translates an operation's error, and logs it when nobody but the
// operator can do anything about it.
func (a *api) problem(err error, who Actor, operation string) *Problem {
	p := problemOf(err)
	if p.Code == CodeInternal {
		a.Log.Error().Err(err).Str("actor", who.Name).Str("operation", operation).Msg("administration failed")
	}
	return p
}

func (a *api) refuse(w http.ResponseWriter, err error) { writeProblem(w, problemOf(err).complete()) }

// typed refuses a body of another type than JSON. A form of another site cannot
// send this type without being asked first (CORS), which guards clients that are
// known by a key.
func typed(r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.ContentLength == 0 {
		return nil
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != jsonType {
		return &Problem{Status: http.StatusUnsupportedMediaType, Code: CodeInvalid, Detail: "body: must be " + jsonType}
	}
	return nil
}

// body is an answer that is one JSON value.
type body[T any] struct{ Body T }

// answer makes one of an operation's result.
func answer[T any](v T, err error) (*body[T], error) { return &body[T]{v}, err }

// Seen is a request's condition on what it changes.
type Seen struct {
	IfMatch string `header:"If-Match" maxLength:"1000" doc:"Change it only if it still has the ETag, or one of those, that was seen; else 412."`
}

func (s Seen) condition() Condition { return ParseCondition(s.IfMatch) }

// Fresh is a request's condition that what it makes is not there yet.
type Fresh struct {
	IfNoneMatch string `header:"If-None-Match" enum:"*" doc:"Create it only if it is not there yet; else 412."`
}

// check turns the refusal to make what is there already into that of the condition.
func (f Fresh) check(err error) error {
	if f.IfNoneMatch == "*" && (errors.Is(err, accounts.ErrTaken) || errors.Is(err, authkeys.ErrTaken)) {
		return &Problem{Status: http.StatusPreconditionFailed, Code: CodeChanged, Detail: "it is there already"}
	}
	return err
}

// tagged is an answer with the version of what it is about.
type tagged[T any] struct {
	ETag string `header:"ETag" doc:"The version of this resource, for If-Match. Of an account it is that of its own record: keys, connections and mail have none of their part in it."`
	Body T
}

// nothing is an answer without a body, and a request without parameters.
type nothing struct{}

// done is answer for an operation that only fails or does not.
func done(err error) (*nothing, error) { return new(nothing), err }
