package transport

import (
	"io"
	"net/http"

	"posthorn/mux"
	"posthorn/webstream"
)

// Opening is a request for the transport that a connection of HTTP/2 began with.
type Opening struct {
	*webstream.Opening
	length int
	what   purpose
}

// Find looks for a request for the transport in the first octets of a connection
// of HTTP/2, from a client that wants nothing else on it. Such a connection is
// as cheap as a WebSocket: without it, net/http would keep its buffers and
// goroutines for a request that may stay open for days. nil: there is none, and
// the connection is net/http's.
func (h *Handler) Find(first []byte) *Opening {
	o, length := webstream.ParseOpening(first)
	if length == 0 || !h.Takes(o.Request) || !h.welcome(o.Request) {
		return nil
	}
	p, _ := h.find(o.Request.URL.Path)
	return &Opening{o, length, p}
}

// Open serves a request that Find has found on c, of which nothing was read.
// done ends c; see mux.Conn.Detach.
func (h *Handler) Open(c *mux.Conn, o *Opening, done func()) {
	if _, err := io.CopyN(io.Discard, c.Conn, int64(o.length)); err != nil {
		done()
		return
	}
	s, err := o.Accept(outer{c, done}, http.Header{"Content-Type": {ContentType}, "Cache-Control": {"no-store"}})
	if err != nil {
		done()
		return
	}
	s.KeepAlive(h.Ping)
	c.Carry(s, o.what.port)
}
