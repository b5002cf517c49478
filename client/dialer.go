package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"slices"
	"time"

	"posthorn/alpn"
	"posthorn/authkeys"
)

// Dialer reaches a gateway. Its methods may be called concurrently.
type Dialer struct {
	config Config
	ech    echSource
}

// New returns a Dialer. Its error is ErrConfig.
func New(c Config) (*Dialer, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	d := &Dialer{config: c}
	d.ech = echSource{dialer: d, once: make(chan struct{}, 1)}
	return d, nil
}

// Dial connects to a protocol of the gateway: alpn.IMAP or alpn.SMTP. The
// connection is verified, and its greeting is there and unread. When there is an
// identity and the gateway asked for it, the key has been shown, so that the
// session may be logged in already. ctx bounds the dialling alone. The error is a
// *DialError, or ctx's.
func (d *Dialer) Dial(ctx context.Context, p alpn.Protocol) (*Conn, error) {
	s, err := d.search(p)
	if err != nil {
		return nil, err
	}
	c, err := s.next(ctx)
	if err == nil {
		s.worked(c)
	}
	return c, err
}

// search is a search for a route that works.
type search struct {
	d        *Dialer
	protocol alpn.Protocol
	left     []Route
	failed   []*RouteError
}

func (d *Dialer) search(p alpn.Protocol) (*search, error) {
	left, err := d.routes(p)
	return &search{d: d, protocol: p, left: left}, err
}

// next returns a connection by a route that has not been tried yet.
func (s *search) next(ctx context.Context) (*Conn, error) {
	c, failed := s.d.race(ctx, s.left)
	for _, e := range failed {
		s.drop(e)
	}
	if c == nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &DialError{Host: s.d.config.Host, Protocol: s.protocol, Routes: s.failed}
	}
	return c, nil
}

// drop takes a route out of those that are left.
func (s *search) drop(e *RouteError) {
	s.failed = append(s.failed, e)
	s.left = slices.DeleteFunc(s.left, func(r Route) bool { return r.Kind == e.Route.Kind })
}

// lost notes that a connection ended in the midst of its login.
func (s *search) lost(c *Conn, err error) {
	s.drop(&RouteError{
		Route: c.Route, Step: LoggingIn, Class: Lost, Received: c.wire.received.Load(), After: time.Since(c.began), Err: err,
	})
}

func (s *search) worked(c *Conn) {
	s.d.config.Memory.note(s.d.memoryKey(s.protocol), c.Route.Kind)
	s.d.config.Log.Debug().Stringer("route", c.Route).Dur("took", time.Since(c.began)).Msg("connected")
}

// tlsConfig is the TLS that the gateway ends. TLS 1.3 alone hides the client's
// certificate, and every gateway speaks it. There are no session tickets: who
// resumes is not asked for a certificate.
func (d *Dialer) tlsConfig(r Route) *tls.Config {
	return &tls.Config{
		ServerName:       r.ServerName,
		NextProtos:       r.protocols(),
		RootCAs:          d.config.RootCAs,
		MinVersion:       tls.VersionTLS13,
		VerifyConnection: d.verifyPins,
	}
}

// verifyPins wants a pinned key in one of the chains that are valid.
func (d *Dialer) verifyPins(s tls.ConnectionState) error {
	if len(d.config.Pins) == 0 {
		return nil
	}
	for _, chain := range s.VerifiedChains {
		for _, cert := range chain {
			if slices.Contains(d.config.Pins, authkeys.Fingerprint(sha256.Sum256(cert.RawSubjectPublicKeyInfo))) {
				return nil
			}
		}
	}
	return errPin
}
