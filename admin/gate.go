package admin

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"posthorn/authkeys"
	"posthorn/mux"
	"posthorn/sources"
)

// Gate serves the operations on the shared port, to operators: by the key of
// their client certificate, or by a token. Its fields are set before use.
type Gate struct {
	Service *Service
	// Host is the one name on which it answers.
	Host string
	// Conn returns the connection that a request came on.
	Conn func(*http.Request) *mux.Conn

	keys  atomic.Pointer[map[authkeys.Fingerprint]string]
	wrong wrongTokens
}

// SetKeys replaces the operators' keys; the values are the operators' names.
func (g *Gate) SetKeys(keys map[authkeys.Fingerprint]string) { g.keys.Store(&keys) }

// Paths below which the Gate answers.
const gatePath = "/admin/api/"

// Handler answers below /admin/api/: the operations, and without asking who is
// there what everybody can read in the sources, the document and a page of it.
func (g *Gate) Handler() http.Handler {
	m := http.NewServeMux()
	m.Handle(gatePath, g.Service.Handler(g.actor))
	g.Service.mountDocs(m)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := r.Host; !strings.EqualFold(hostOnly(host), g.Host) {
			http.NotFound(w, r)
			return
		}
		m.ServeHTTP(w, r)
	})
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		hostport = host
	}
	return strings.TrimSuffix(hostport, ".")
}

// actor says who asks. A token decides alone when there is one: it was meant. A
// key is shown whatever the request is for, like a cookie, so that requests which
// a browser makes on behalf of another site do not count.
func (g *Gate) actor(r *http.Request) (Actor, error) {
	from := remoteOf(r)
	if text := r.Header.Get("Authorization"); text != "" {
		return g.byToken(r, text, from)
	}
	c := g.Conn(r)
	if c == nil || c.Key.IsZero() {
		return Actor{}, unauthorized("an operator's key or a token is wanted")
	}
	name, known := (*g.keys.Load())[c.Key]
	if !known {
		return Actor{}, unauthorized("this key is no operator's")
	}
	if !sameOrigin(r) {
		p := &Problem{Status: http.StatusForbidden, Code: CodeForbidden, Detail: "the request comes from another site"}
		return Actor{Name: name}, p.complete()
	}
	return Actor{Name: name + " (key " + c.Key.String() + ")", From: g.Service.From(from), Operator: true}, nil
}

func (g *Gate) byToken(r *http.Request, header string, from netip.Addr) (Actor, error) {
	scheme, text, _ := strings.Cut(header, " ")
	who, err := Actor{}, errBadToken
	if strings.EqualFold(scheme, "Bearer") {
		who, err = g.Service.byToken(r.Context(), strings.TrimSpace(text))
	}
	switch {
	case errors.Is(err, errBadToken) && !g.wrong.allow(from):
		p := &Problem{Status: http.StatusTooManyRequests, Code: CodeThrottled, Detail: "too many wrong tokens"}
		return Actor{}, p.complete()
	case errors.Is(err, errBadToken):
		g.Service.Log.Warn().Uint64("id", idOf(g.Conn(r))).Msg("wrong administration token")
		return Actor{}, unauthorized("the token is unknown or has expired")
	case err != nil:
		return Actor{}, err
	}
	who.From = g.Service.From(from)
	return who, nil
}

func idOf(c *mux.Conn) uint64 {
	if c == nil {
		return 0
	}
	return c.ID
}

func unauthorized(detail string) error {
	p := &Problem{Status: http.StatusUnauthorized, Code: CodeUnauthorized, Detail: detail,
		Hint: "admin.keys in the configuration names operators' keys; posthorn token add makes a token"}
	return p.complete()
}

// sameOrigin reports whether a request was not made by a page of another site
// (RFC 9110 has no say in this; Sec-Fetch-Site is of the Fetch Metadata draft).
// Clients that are no browsers say nothing.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "https" && strings.EqualFold(u.Host, r.Host)
}

func remoteOf(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr().Unmap()
}

// wrongTokens slows who tries tokens. Tokens that are right are never slowed:
// they are too long to be guessed, so there is nothing to be kept from guessers
// but work and log lines, and nobody locks out an operator who shares an address.
type wrongTokens struct {
	mu      sync.Mutex // guards sources
	sources map[netip.Prefix]*rate.Limiter
}

const (
	wrongAtOnce  = 10
	wrongEvery   = 6 * time.Second
	wrongSources = 4096
)

// allow counts a wrong token of a source; false when there are too many.
func (t *wrongTokens) allow(from netip.Addr) bool {
	source, now := sources.Of(from), time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sources == nil {
		t.sources = make(map[netip.Prefix]*rate.Limiter)
	}
	l := t.sources[source]
	if l == nil {
		if len(t.sources) >= wrongSources {
			t.forget(now)
		}
		l = rate.NewLimiter(rate.Every(wrongEvery), wrongAtOnce)
		t.sources[source] = l
	}
	return l.AllowN(now, 1)
}

// forget drops the sources that have been quiet, or all when there are none.
func (t *wrongTokens) forget(now time.Time) {
	for source, l := range t.sources {
		if l.TokensAt(now) >= wrongAtOnce {
			delete(t.sources, source)
		}
	}
	if len(t.sources) >= wrongSources {
		clear(t.sources)
	}
}
