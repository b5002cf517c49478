package mux

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net"
	"strings"

	"posthorn/alpn"
	"posthorn/authkeys"
)

// What a client may send in a handshake. Above smallHandshake a connection is
// large: it holds that memory as long as it lives, in its certificates, so only
// maxLarge of them may live at a time.
const (
	maxHandshake   = 192 << 10
	smallHandshake = 24 << 10
	maxLarge       = 256
)

var (
	errGarbage  = errors.New("no TLS")
	errTooLarge = errors.New("handshake is too large")
	errName     = errors.New("server name is not served")
)

// hello is the state of a TLS handshake under way.
type hello struct {
	conn     *Conn
	route    alpn.Route
	name     string // SNI, in lower case
	refused  error  // why the handshake will fail
	deadline int64  // of the whole handshake
	read     int    // bytes
	flights  int    // writes
	slot     bool   // it holds one of srv.crypto
}

// handshake makes the TLS handshake and fills in the connection's fields.
func (c *Conn) handshake() error {
	s := c.srv
	limit := c.wire.limit // of the phase that the handshake is a part of, or the handshake's own
	if start := s.now(); c.Port.StartTLS() {
		limit = min(limit, start+int64(c.limits.Handshake))
	}
	preLogin := s.clock(c.since) + int64(c.limits.PreLogin)
	h := &hello{conn: c, deadline: limit}
	defer h.release()
	// Garbage is found out at once when it is complete. What stays incomplete
	// gets less time than a client that lacks but its last message.
	c.wire.setLimit(min(limit, s.now()+(limit-s.now())*3/4))
	c.wire.hello = h
	tc := tls.Server(&c.wire, s.tls.base)
	err := tc.Handshake()
	c.wire.hello = nil
	if err == nil {
		err = h.refused
	}
	if err != nil {
		c.failed(h, err)
		return err
	}
	c.wire.setLimit(preLogin)
	c.shook(tc, h)
	return nil
}

// failed notes how a handshake failed.
func (c *Conn) failed(h *hello, err error) {
	label := h.failure(err)
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause // rather than how crypto/tls found out
	}
	c.srv.metrics.handshake(label)
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	c.ServerName = h.name
	c.reason = "handshake " + label + ": " + withoutAddresses(err)
}

// withoutAddresses is the text of err for a log that may have to keep remotes
// private.
func withoutAddresses(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// shook fills in what a handshake has shown.
func (c *Conn) shook(tc *tls.Conn, h *hello) {
	state := tc.ConnectionState()
	result := "ok"
	if state.DidResume {
		result = "resumed"
	}
	c.srv.metrics.handshake(result)
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	c.Conn = tc
	c.Protocol, c.ServerName = h.route.Protocol, h.name
	c.resumed, c.version = state.DidResume, state.Version
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		var key authkeys.PublicKey
		if key, c.KeyErr = authkeys.FromCertificate(leaf); c.KeyErr == nil {
			c.Key = key.Fingerprint
		} else {
			shown := authkeys.Fingerprint(sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
			c.refused = &shown
		}
	}
}

// configFor is the GetConfigForClient of every handshake.
func configFor(info *tls.ClientHelloInfo) (*tls.Config, error) {
	t, ok := info.Conn.(*transport)
	if !ok || t.hello == nil {
		return nil, errGarbage
	}
	return t.hello.config(info)
}

// config decides where the handshake leads.
func (h *hello) config(info *tls.ClientHelloInfo) (*tls.Config, error) {
	c, s := h.conn, h.conn.srv
	c.wire.setLimit(h.deadline)
	h.name = strings.ToLower(info.ServerName)
	h.route, h.refused = s.config.Router.Route(c.Port, info.SupportedProtos, h.name)
	if h.refused == nil && !s.serves(h.route.Protocol) {
		h.refused = alpn.ErrNoOverlap
	}
	switch {
	case h.refused != nil:
		return s.tls.noProtocol, nil
	case !s.config.Certs.Serves(h.name):
		h.refused = errName
		return s.tls.noName, nil
	}
	h.acquire()
	return s.tls.forRoute(h.route), nil
}

// serves reports whether somebody handles a protocol.
func (s *Server) serves(p alpn.Protocol) bool {
	hs := s.config.Handlers
	return p == "" || p == alpn.ACME || hs[p] != nil || p == alpn.HTTP2 && hs[alpn.HTTP1] != nil
}

// acquire waits for a turn to compute: the key exchange and the signature. That
// a flood of handshakes waits here, and not for the scheduler, is what lets
// connections that are done with theirs go on.
func (h *hello) acquire() {
	h.conn.srv.crypto <- struct{}{}
	h.slot = true
}

func (h *hello) release() {
	if h.slot {
		<-h.conn.srv.crypto
		h.slot = false
	}
}

// flight notes that the server writes, and reports whether that may wait until
// there is more to write or nothing left but to read. The first flight, which is
// the large one, always comes right before a read.
func (h *hello) flight() bool {
	h.release()
	h.flights++
	return h.flights > 1
}

// took notes what the client has sent.
func (h *hello) took(b []byte) error {
	const recordHandshake = 22 // RFC 8446 section 5.1
	if h.read == 0 && b[0] != recordHandshake {
		return errGarbage
	}
	h.read += len(b)
	if h.read > maxHandshake {
		return errTooLarge
	}
	if h.read > smallHandshake && !h.conn.enlarge() {
		return errTooLarge
	}
	return nil
}

// enlarge counts c as large; false when there are too many already.
func (c *Conn) enlarge() bool {
	if !c.large {
		if c.srv.large.Add(1) > maxLarge {
			c.srv.large.Add(-1)
			return false
		}
		c.large = true
	}
	return true
}

// failure is the metric's label for the error that a handshake ended with.
func (h *hello) failure(err error) string {
	var header tls.RecordHeaderError
	switch {
	case errors.Is(err, ErrTimeout):
		return "timeout"
	case errors.Is(h.refused, alpn.ErrNoOverlap):
		return "no_application_protocol"
	case errors.Is(h.refused, errName):
		return "unrecognized_name"
	case errors.Is(err, errGarbage), errors.Is(err, errTooLarge), errors.As(err, &header):
		return "garbage"
	}
	return "error"
}
