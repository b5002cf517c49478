package sites

import (
	"context"
	"net/http"

	"posthorn/mux"
)

// Door is the connection that requests come through, and what a site may want of
// it. It lasts as long as the connection.
type Door struct {
	Conn *mux.Conn
	// Refuse answers a request in a site's place: with a status and what it is
	// called.
	Refuse func(w http.ResponseWriter, r *http.Request, status int)
	// HSTS is the Strict-Transport-Security (RFC 6797) of a request's response;
	// empty: none.
	HSTS func(r *http.Request) string
	// Take goes on with a connection that its request's handler has hijacked, when
	// that has returned; done is mux.Conn.Detach's.
	Take func(next func(ctx context.Context, done func()))
}

// secure sets the headers of a response that the gateway itself makes for a site.
func (d *Door) secure(w http.ResponseWriter, r *http.Request) {
	if v := d.HSTS(r); v != "" {
		w.Header().Set("Strict-Transport-Security", v)
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.ProtoMajor == 1 && EndsConnection(r) {
		w.Header().Set("Connection", "close")
	}
}
