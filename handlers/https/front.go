package https

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"posthorn/handlers/https/sites"
	"posthorn/mux"
)

// front stands before every handler: it sees to it that a request was meant
// for here, and brings it to the gateway's own handlers or the site.
type front struct {
	server *Server
	conn   *mux.Conn
	life   *lifetime
	routes *http.ServeMux
	door   sites.Door // for sites
}

func newFront(s *Server, c *mux.Conn, life *lifetime) *front {
	f := &front{server: s, conn: c, life: life, routes: s.router()}
	f.door = sites.Door{Conn: c, Refuse: f.refuse, HSTS: s.hsts, Take: func(next func(context.Context, func())) { life.next = next }}
	return f
}

type connKey struct{}

// Conn returns the connection that a request came on.
func Conn(r *http.Request) *mux.Conn {
	c, _ := r.Context().Value(connKey{}).(*mux.Conn)
	return c
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer f.life.handled()
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			f.server.Log.Error().Uint64("id", f.conn.ID).Interface("panic", v).
				Bytes("stack", debug.Stack()).Msg("panic in a request")
			panic(http.ErrAbortHandler)
		} else if v != nil {
			panic(v)
		}
	}()
	if r.TLS == nil { // net/http was not given the *tls.Conn
		r.TLS = f.conn.TLS()
	}
	r.RemoteAddr = f.conn.Remote.String()
	if r.URL.Host != "" && r.URL.Path == "" {
		r.URL.Path = "/" // RFC 9112 section 3.2.1
	}

	host := hostname(r.Host)
	routable, named := f.server.routable(r), f.server.named(host)
	own := named && clean(r.URL.Path) && f.server.owns(routable)
	switch status := f.refusal(r, host); {
	case status != 0:
		f.refuse(w, r, status)
		takeBody(w, r)
	case f.server.Transport != nil && f.server.Transport.Takes(r):
		f.setHeaders(w.Header(), r)
		f.server.Transport.Serve(w, r, f.conn, f.door.Take)
	case !own && f.server.Sites != nil && f.server.Sites.Serve(w, r, host, &f.door):
	case !named:
		f.refuse(w, r, http.StatusMisdirectedRequest)
	case !clean(r.URL.Path):
		f.refuse(w, r, http.StatusBadRequest)
	default:
		f.setHeaders(w.Header(), r)
		bounded := *routable // net/http looks at the Body of its own
		bounded.Body = http.MaxBytesReader(w, r.Body, maxBody)
		f.routes.ServeHTTP(w, &bounded)
		takeBody(w, r)
	}
}

// How much of a body is read that nobody wanted, and for how long.
const (
	maxUnread   = 64 << 10
	patientRead = 2 * time.Second
)

// takeBody reads the rest of a request's body, if it is short, before its response
// ends. On HTTP/2 net/http would reset the stream otherwise (RFC 9113 section 8.1),
// and clients that are still sending take that for a failure: curl did in every
// second request, and nobody saw why it was refused. On HTTP/1 net/http does this.
func takeBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 || r.ContentLength == 0 || r.ContentLength > maxUnread {
		return
	}
	if http.NewResponseController(w).SetReadDeadline(time.Now().Add(patientRead)) != nil {
		return // the client went away
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxUnread) // whatever comes of it, the answer stands
}

// refuse answers with a status and what it is called.
func (f *front) refuse(w http.ResponseWriter, r *http.Request, status int) {
	f.setHeaders(w.Header(), r)
	http.Error(w, http.StatusText(status), status)
}

// refusal returns the status of a request that is not for here; else 0.
func (f *front) refusal(r *http.Request, host string) int {
	switch {
	case host == "" && (r.Host != "" || r.ProtoAtLeast(1, 1)):
		return http.StatusBadRequest // RFC 9112 section 3.2
	case !f.directed(host):
		return http.StatusMisdirectedRequest // RFC 9110 section 15.5.20
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace:
		return http.StatusMethodNotAllowed
	case !sites.Sound(r):
		return http.StatusBadRequest
	}
	return 0
}

// directed reports whether a request for host belongs on the connection: the
// name is served, and is the one that the TLS handshake was for. Without SNI
// (nobody sends it for an IP address) it may be any served name or an address.
func (f *front) directed(host string) bool {
	sni := f.conn.ServerName
	if sni != "" && host != "" {
		return host == sni && f.server.Serves(host)
	}
	return host == "" || isAddress(host) || f.server.Serves(host)
}

// hostname returns the Host of a request in lower case, without its port, its
// final dot or an IPv6 address's brackets; empty: it is none.
func hostname(hostport string) string {
	host, _ := splitHost(hostport)
	return host
}

// splitHost returns the hostname and what stands behind it: the port with its
// colon, or nothing.
func splitHost(hostport string) (host, port string) {
	host = hostport
	if i := strings.LastIndexByte(hostport, ':'); i >= 0 && strings.Trim(hostport[i+1:], "0123456789") == "" {
		host, port = hostport[:i], hostport[i:]
	}
	if inner, ok := strings.CutPrefix(host, "["); ok { // RFC 3986 section 3.2.2
		inner, closed := strings.CutSuffix(inner, "]")
		if a, err := netip.ParseAddr(inner); !closed || err != nil || !a.Is6() || a.Zone() != "" {
			return "", ""
		}
		return strings.ToLower(inner), port
	}
	if strings.ContainsAny(host, ":[]") {
		return "", ""
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")), port
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// clean reports whether a path is what it says, with nothing to leave out.
// ServeMux would redirect to the cleaned one.
func clean(p string) bool {
	return sites.Upright(p) && (path.Clean(p) == strings.TrimSuffix(p, "/") || p == "/")
}

// setHeaders sets what every response of the gateway's own says. A handler may
// say something else, such as a policy for its own scripts.
func (f *front) setHeaders(h http.Header, r *http.Request) {
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // for browsers before frame-ancestors
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if v := f.server.hsts(r); v != "" {
		h.Set("Strict-Transport-Security", v)
	}
	if r.ProtoMajor == 1 && sites.EndsConnection(r) {
		h.Set("Connection", "close")
	}
}

// hsts is the Strict-Transport-Security of a request's response; empty: none. A
// developer's certificate changes, and RFC 6797 section 8.1.1 has no addresses.
func (s *Server) hsts(r *http.Request) string {
	host := hostname(r.Host)
	if s.HSTS <= 0 || host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || isAddress(host) {
		return ""
	}
	return "max-age=" + strconv.FormatInt(int64(s.HSTS/time.Second), 10)
}
