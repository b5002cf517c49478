package sites

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/backend/upstream"
	"posthorn/mux"
	"posthorn/splice"
)

// Handover is an HTTP server that gets the connections of whole host names, as
// they are after TLS. Each begins with a PROXY protocol header, version 2, that
// tells of the client and its TLS. The server gets every octet that the client
// sends, and sees itself to what the gateway sees to for other sites.
type Handover struct {
	// HTTP1 gets connections that speak HTTP/1.1: HOST:PORT or unix:/PATH.
	HTTP1 string
	// HTTP2 gets connections that speak HTTP/2, without TLS and from the first
	// octet on ("h2c with prior knowledge", RFC 9113 section 3.3). It may be the
	// same as HTTP1. Empty: clients are not offered HTTP/2.
	HTTP2 string
	// ConnectTimeout is for a connection; default 10 s.
	ConnectTimeout time.Duration
}

// handover is an open Handover.
type handover struct {
	http1, http2 *upstream.Pool // http2 is nil when it is not offered
	outage       outage
}

func newHandover(c *Handover, log zerolog.Logger) (h *handover, key string, err error) {
	h = &handover{outage: outage{log: log, upstream: c.HTTP1}}
	pool := func(at string) (*upstream.Pool, error) {
		if !isAddress(at) {
			return nil, errHandover
		}
		return upstream.New(upstream.Config{
			Backend: "site", Service: "http", Addresses: []string{at}, ProxyProtocol: true,
			Timeout: cmp.Or(c.ConnectTimeout, defaultConnectTimeout), Log: zerolog.Nop(), // outage has it
		})
	}
	if h.http1, err = pool(c.HTTP1); err != nil {
		return nil, "handover", err
	}
	if c.HTTP2 == "" {
		return h, "", nil
	}
	if h.http2, err = pool(c.HTTP2); err != nil {
		return nil, "handover_h2", err
	}
	return h, "", nil
}

var errHandover = errors.New("must be HOST:PORT or unix:/PATH")

func isAddress(at string) bool {
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		return filepath.IsAbs(path)
	}
	host, port, err := net.SplitHostPort(at)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && host != "" && n > 0
}

// HandsOver reports whether the connections of a host name are handed over.
func (s *Set) HandsOver(host string) bool { return s.table.Load().handed[host] != nil }

// HTTP1Only reports whether HTTP/2 is not to be offered on a server name.
func (s *Set) HTTP1Only(serverName string) bool {
	h := s.table.Load().handed[serverName]
	return h != nil && h.http2 == nil
}

// HandOver hands a connection over, if its host name is, and goes on when it has
// returned; mux.Conn.Detach has been called then. False: it is not handed over,
// and the requests on it are to be served.
func (s *Set) HandOver(ctx context.Context, c *mux.Conn) bool {
	h := s.table.Load().handed[c.ServerName]
	if h == nil {
		return false
	}
	pool := h.http1
	if c.Protocol == alpn.HTTP2 {
		pool = h.http2
	}
	leave, ok := s.crowd.enter(c.Remote.Addr())
	if !ok || pool == nil {
		return false
	}
	server, err := pool.Dial(ctx, upstream.Header{Remote: c.Remote, Local: c.Local, ServerName: c.ServerName, TLS: c.TLS()})
	if err != nil {
		leave()
		h.outage.note(err)
		return false
	}
	link := splice.Link{Client: c, Server: server, Head: server.Detach(), Goodbye: whenQuiet}
	done := c.Detach()
	link.Start(ctx, func(err error) {
		defer done()
		defer leave()
		defer server.Close()
		if p, ok := errors.AsType[*splice.PanicError](err); ok {
			c.Panicked(p.Value, p.Stack())
		}
	})
	return true
}

// whenQuiet is a splice.Link's Goodbye: there is nothing to say, but a drain lets
// go on what is under way.
func whenQuiet(error, []byte) []byte { return nil }

// refuse answers a request for a host that is handed over: one that could not be,
// or one on a connection that is another host's.
func (h *handover) refuse(w http.ResponseWriter, r *http.Request, host string, d *Door) {
	if d.Conn.ServerName != host {
		d.Refuse(w, r, http.StatusMisdirectedRequest)
		return
	}
	w.Header().Set("Connection", "close") // the next one may be
	d.Refuse(w, r, http.StatusBadGateway)
}
