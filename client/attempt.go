package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"posthorn/client/webtransport"
	"posthorn/webstream"
)

// attempt is one try of one route.
type attempt struct {
	d     *Dialer
	route Route
	turn  turn
	began time.Time
	step  Step
	wire  *wire
	asked bool // for a certificate
	shown bool // the identity's
	held  bool // the turn
	times Times
}

// turn lets one attempt at a time go where it may log in: showing a certificate
// is a login. It holds one token, which who has it puts back when it fails.
type turn chan struct{}

func newTurn() turn {
	t := make(turn, 1)
	t <- struct{}{}
	return t
}

// take waits for the turn, if the attempt does not have it.
func (a *attempt) take(ctx context.Context) error {
	if a.held {
		return nil
	}
	select {
	case <-a.turn:
		a.held = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// greetingTime bounds how long a connection that has the turn may take for its
// greeting, while others wait for it.
const greetingTime = 5 * time.Second

// try tries a route to the greeting. The connection that it returns has taken the
// turn for good.
func (d *Dialer) try(ctx context.Context, r Route, t turn) (*Conn, *RouteError) {
	a := &attempt{d: d, route: r, turn: t, began: time.Now(), step: Connecting}
	bounded, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	c, err := a.run(bounded)
	if err == nil {
		return c, nil
	}
	if a.held {
		t <- struct{}{}
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", errOvertaken, err)
	}
	return nil, a.fault(err)
}

// fault describes an error.
func (a *attempt) fault(err error) *RouteError {
	e := &RouteError{Route: a.route, Step: a.step, After: time.Since(a.began), Times: a.times, Err: err}
	if a.wire != nil {
		e.Received = a.wire.received.Load()
	}
	e.classify()
	a.d.config.Log.Debug().Stringer("route", a.route).Str("class", string(e.Class)).Err(err).Msg("route failed")
	return e
}

func (a *attempt) run(ctx context.Context) (*Conn, error) {
	config := a.d.tlsConfig(a.route)
	config.GetClientCertificate = a.certificate
	c, err := a.shake(ctx, config)
	if err != nil {
		return nil, err
	}
	if a.d.config.Identity != nil && !a.asked {
		c.wire.Close()
		return nil, errNotAsked
	}
	a.step = Greeted
	soon, cancel := context.WithTimeout(ctx, greetingTime)
	defer cancel()
	if err = c.greet(soon); err == nil {
		a.times.Greeted = time.Since(a.began)
		c.Times = a.times
		err = a.take(ctx)
	}
	if err == nil {
		err = c.wire.SetDeadline(time.Time{})
	}
	if err != nil {
		c.wire.Close()
		return nil, err
	}
	return c, nil
}

// certificate shows the identity, if there is one and it is this route's turn.
func (a *attempt) certificate(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	a.asked = true
	if a.d.config.Identity == nil {
		return new(tls.Certificate), nil
	}
	pair := a.d.config.Identity.TLS()
	if info.SupportsCertificate(&pair) != nil {
		return new(tls.Certificate), nil
	}
	if err := a.take(info.Context()); err != nil {
		return nil, err
	}
	a.shown = true
	return &pair, nil
}

// shake connects and makes the handshake; where ECH is used and rejected, once
// more with what the gateway says it has.
func (a *attempt) shake(ctx context.Context, config *tls.Config) (*Conn, error) {
	switch {
	case a.route.Kind == Web:
		return a.shakeInside(ctx, config)
	case !a.route.encrypted():
		return a.shakeOnce(ctx, config)
	}
	var err error
	if config.EncryptedClientHelloConfigList, err = a.d.ech.list(ctx, a.route.proxy != nil); err != nil {
		return nil, err
	}
	c, err := a.shakeOnce(ctx, config)
	var rejected *tls.ECHRejectionError
	if errors.As(err, &rejected) && len(rejected.RetryConfigList) > 0 {
		a.d.ech.learn(rejected.RetryConfigList)
		config.EncryptedClientHelloConfigList = rejected.RetryConfigList
		a.step = Connecting
		c, err = a.shakeOnce(ctx, config)
	}
	return c, err
}

// shakeInside connects and makes the handshake inside the web; where nothing comes
// through the stream that was opened, once more in a WebSocket: somebody in between
// may keep the body of an answer until it ends.
func (a *attempt) shakeInside(ctx context.Context, config *tls.Config) (*Conn, error) {
	nc, err := a.openWeb(ctx, webtransport.Auto)
	if err != nil {
		return nil, err
	}
	if _, ok := nc.(*webstream.WebSocket); ok {
		return a.secure(ctx, nc, config)
	}
	end, _ := ctx.Deadline()
	half, cancel := context.WithTimeout(ctx, time.Until(end)/2)
	defer cancel()
	c, err := a.secure(half, nc, config)
	if err == nil || ctx.Err() != nil || a.wire.received.Load() > 0 {
		return c, err
	}
	a.step = Connecting
	if nc, err = a.openWeb(ctx, webtransport.WebSocket); err != nil {
		return nil, err
	}
	return a.secure(ctx, nc, config)
}

// shakeOnce connects and makes the handshake.
func (a *attempt) shakeOnce(ctx context.Context, config *tls.Config) (*Conn, error) {
	nc, err := a.d.connect(ctx, a.route.Address, a.route.proxy)
	if err != nil {
		return nil, err
	}
	return a.secure(ctx, nc, config)
}

// secure makes the handshake on a connection, which it closes when that fails.
func (a *attempt) secure(ctx context.Context, nc net.Conn, config *tls.Config) (*Conn, error) {
	a.times.Connected = time.Since(a.began)
	a.step, a.wire = Handshaking, &wire{Conn: nc}
	c := &Conn{Conn: tls.Client(a.wire, config), Route: a.route, wire: a.wire, began: a.began}
	if err := c.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	a.times.Secured = time.Since(a.began)
	c.Shown = a.shown
	if got := c.ConnectionState().NegotiatedProtocol; got == "" && a.route.Kind != Dedicated && config.NextProtos != nil {
		nc.Close() // on a dedicated port there may be a server that knows no ALPN
		return nil, errNoALPN
	}
	return c, nil
}

// openWeb opens the web transport. Its own TLS has to be the gateway's by its
// certificate, but not by the pins: where somebody inspects who may, it is the
// inner one that counts.
func (a *attempt) openWeb(ctx context.Context, mode webtransport.Mode) (net.Conn, error) {
	config := &a.d.config
	web := webtransport.Dialer{
		TLSConfig: &tls.Config{RootCAs: config.RootCAs},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return a.d.connect(ctx, a.route.Address, a.route.proxy)
		},
		Path: config.WebPath, Subprotocol: string(a.route.Protocol), Mode: mode,
	}
	return web.Dial(ctx, net.JoinHostPort(config.Host, strconv.Itoa(int(config.Ports.Shared))))
}
