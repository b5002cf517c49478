// Package transport carries mail inside the web: a WebSocket on HTTP/1.1, or a
// request and its response on HTTP/2 that both stay open. Inside is a TLS
// connection like those on the dedicated ports, which enters mux as they do.
package transport

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"posthorn/alpn"
	"posthorn/mux"
	"posthorn/webstream"
)

// Handler serves the paths of the transport. Its fields are set before use.
type Handler struct {
	// Path has "imap" and "submission" below it, such as
	// /.well-known/posthorn/imap. It may be a secret: who does not ask for the
	// transport at such a path sees no difference to others.
	Path string
	// Origins are those of web pages that may use it, as browsers write them:
	// https://webmail.example.org. Whoever is no browser says none.
	Origins []string
	// Ping is after what silence a client on HTTP/1.1 is sent a ping; 0: never.
	Ping time.Duration
}

// Take takes a hijacked connection out of net/http: next goes on with it when
// that is through with it. done ends it, as a return of mux.Handler.ServeConn
// does; the end of ctx means what it does there.
type Take func(next func(ctx context.Context, done func()))

// purpose is what is to be found at a path.
type purpose struct {
	port     alpn.Port
	protocol string // WebSocket's subprotocol
}

// find returns the purpose of a path.
func (h *Handler) find(path string) (purpose, bool) {
	name, ok := strings.CutPrefix(path, h.Path+"/")
	switch {
	case ok && name == "imap":
		return purpose{alpn.IMAPS, "imap"}, true
	case ok && name == "submission":
		return purpose{alpn.Submissions, "smtp"}, true
	}
	return purpose{}, false
}

// Takes reports whether a request is for the transport: it has its path, and
// wants to become a WebSocket, or streams octets on HTTP/2. All others are to be
// answered as if there were no transport.
func (h *Handler) Takes(r *http.Request) bool {
	if _, ok := h.find(r.URL.Path); !ok {
		return false
	}
	if r.ProtoMajor == 2 {
		return r.Method == http.MethodPost && r.ContentLength < 0 &&
			r.Header.Get("Content-Type") == ContentType
	}
	return r.ProtoAtLeast(1, 1) && r.Method == http.MethodGet && hasToken(r, "Connection", "Upgrade") &&
		hasToken(r, "Upgrade", "websocket")
}

// ContentType is that of the octets on HTTP/2, both ways.
const ContentType = "application/octet-stream"

func hasToken(r *http.Request, field, token string) bool {
	return httpguts.HeaderValuesContainsToken(r.Header[field], token)
}

// Serve serves a request that it takes; c is the connection that it came on.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, c *mux.Conn, take Take) {
	p, _ := h.find(r.URL.Path)
	switch {
	case !h.welcome(r):
		refuse(w, http.StatusForbidden) // RFC 6455 section 4.2.2
	case r.ProtoMajor == 2:
		serveStream(w, r, c, p.port)
	default:
		h.upgrade(w, r, c, p, take)
	}
}

// welcome reports whether the page that a request comes from may use the
// transport.
func (h *Handler) welcome(r *http.Request) bool {
	origins, browser := r.Header["Origin"]
	return !browser || len(origins) == 1 && slices.ContainsFunc(h.Origins, func(o string) bool {
		return strings.EqualFold(o, origins[0])
	})
}

func refuse(w http.ResponseWriter, status int) {
	http.Error(w, http.StatusText(status), status)
}

// upgrade makes a WebSocket of the connection (RFC 6455 section 4.2).
func (h *Handler) upgrade(w http.ResponseWriter, r *http.Request, c *mux.Conn, p purpose, take Take) {
	keys := r.Header["Sec-Websocket-Key"]
	switch {
	case r.Header.Get("Sec-Websocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		refuse(w, http.StatusUpgradeRequired)
		return
	case len(keys) != 1 || !nonce(keys[0]) || !hasToken(r, "Sec-Websocket-Protocol", p.protocol) || r.ContentLength != 0:
		refuse(w, http.StatusBadRequest)
		return
	}
	_, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n", webstream.AcceptKey(keys[0]), p.protocol)
	if rw.Flush() != nil {
		return
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	c.Unread(bytes.Clone(early))
	take(func(_ context.Context, done func()) {
		ws := webstream.Server(outer{c, done})
		ws.KeepAlive(h.Ping)
		c.Carry(ws, p.port)
	})
}

// nonce reports whether a client's key is one: sixteen octets in base64.
func nonce(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}

// outer is a client's connection that was taken out of net/http.
type outer struct {
	*mux.Conn
	done func()
}

// Close ends the connection in good order.
func (o outer) Close() error {
	o.done()
	return nil
}
