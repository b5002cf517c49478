package https

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"strings"

	"posthorn/mux"
)

// front stands before every handler: it sees to it that a request was meant
// for here, and sets the headers that all responses have.
type front struct {
	server *Server
	conn   *mux.Conn
	life   *lifetime
	routes *http.ServeMux
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
	r = r.WithContext(context.WithValue(r.Context(), connKey{}, f.conn))

	host := hostname(r.Host)
	setHeaders(w.Header(), host)
	if r.ProtoMajor == 1 && (len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1)) {
		// RFC 9112 section 6.1 wants this of a request that has a length too,
		// of which net/http says nothing.
		w.Header().Set("Connection", "close")
	}
	if status := f.refusal(r, host); status != 0 {
		http.Error(w, http.StatusText(status), status)
		return
	}
	f.routes.ServeHTTP(w, r)
}

// refusal returns the status of a request that is not for here; else 0.
func (f *front) refusal(r *http.Request, host string) int {
	switch {
	case host == "" && r.ProtoAtLeast(1, 1):
		return http.StatusBadRequest
	case !f.directed(host):
		return http.StatusMisdirectedRequest // RFC 9110 section 15.5.20
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace:
		return http.StatusMethodNotAllowed
	case !clean(r.URL.Path):
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
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return true
	}
	return f.server.Serves(host)
}

// hostname returns the Host of a request in lower case, without its port, its
// final dot or an IPv6 address's brackets. What looks like a port and is none
// stays a part of the name, which nobody has.
func hostname(hostport string) string {
	host := hostport
	if h, port, err := net.SplitHostPort(hostport); err == nil && strings.Trim(port, "0123456789") == "" {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// clean reports whether a path is what it says, with no way up or around.
// ServeMux would redirect to the cleaned one.
func clean(p string) bool {
	if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "\\\x00") {
		return false
	}
	return path.Clean(p) == strings.TrimSuffix(p, "/") || p == "/"
}

// setHeaders sets what every response says. A handler may say something else,
// such as a policy for its own scripts.
func setHeaders(h http.Header, host string) {
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // for browsers before frame-ancestors
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	_, err := netip.ParseAddr(host)
	local := host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil
	if !local { // a developer's certificate changes; RFC 6797 section 8.1.1 has no addresses
		h.Set("Strict-Transport-Security", "max-age=63072000")
	}
}
