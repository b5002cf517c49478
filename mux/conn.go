package mux

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/socket"
)

// Conn is a client's connection. Its TLS handshake is complete, except on a
// STARTTLS port before StartTLS. The exported fields are set before the handler
// sees it, and by StartTLS, and do not change otherwise.
type Conn struct {
	// Conn is the *tls.Conn (or the cleartext connection). Libraries that must
	// have a bare *tls.Conn get this; Of finds the way back. Reading from Conn
	// and from the embedded Conn is the same only when Protocol came from ALPN
	// or the port: bytes that were sniffed come first from Conn.Read only.
	net.Conn

	ID         uint64
	Port       alpn.Port
	Protocol   alpn.Protocol        // never empty
	ServerName string               // SNI as sent, in lower case; empty: none
	Key        authkeys.Fingerprint // zero: no certificate was shown, or KeyErr says why it is refused
	KeyErr     error                // an *authkeys.UnacceptableError, or nil
	Remote     netip.AddrPort       // after PROXY protocol
	Local      netip.AddrPort

	srv     *Server
	limits  *Limits // those at accept
	since   time.Time
	wire    transport
	refused *authkeys.Fingerprint // of the key that KeyErr is about
	sniffed []byte                // what Read returns first; also what was unread
	large   bool                  // it counts in srv.large; used by its own goroutines alone

	ctx    context.Context
	cancel context.CancelCauseFunc
	via    *Conn // what it came in, see Carry; nil: a socket

	// What follows is guarded by srv.table.mu, as are changes of Protocol,
	// ServerName, Remote and Local, which the table shows to others.
	busy     bool    // over a limit: it hears so, and goes
	handled  bool    // a handler has it, or had
	owner    uint8   // who finishes it, see own
	parks    bool    // it is parked now and then
	closing  bool    // the handler is done, and what is left ends by itself
	pooled   int     // index in the table's pool, or negative
	source   *source // nil: not known (yet)
	carries  []*Conn // the connections that came in it; while there are any, they stand for it in the counts
	identity Identity
	reason   string // why it ended
	failures int    // of logins
	failure  string // the last one
	resumed  bool
	version  uint16      // of TLS, or zero
	grace    *time.Timer // until the handler has to be done
	expiry   *time.Timer // until Identity.Expires
}

func newConn(s *Server, nc net.Conn, p alpn.Port) *Conn {
	c := &Conn{
		Port: p, Protocol: p.Protocol(), Remote: addrPort(nc.RemoteAddr()), Local: addrPort(nc.LocalAddr()),
		srv: s, limits: s.limits.Load(), since: time.Now(), pooled: -1,
	}
	c.wire.Conn = nc
	c.wire.direct = socket.Direct(nc)
	c.wire.conn = c
	c.wire.heard.Store(s.now())
	c.Conn = &c.wire
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// Read reads what was sniffed, then from the embedded Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if len(c.sniffed) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.sniffed)
	if c.sniffed = c.sniffed[n:]; len(c.sniffed) == 0 {
		c.sniffed = nil
	}
	return n, nil
}

// Unread puts bytes back for Read, which returns them first. It keeps b.
func (c *Conn) Unread(b []byte) {
	if len(b) > 0 {
		c.sniffed = append(b[:len(b):len(b)], c.sniffed...)
	}
}

// CloseWrite ends the direction to the client, with close_notify if it is TLS.
func (c *Conn) CloseWrite() error {
	if tc, ok := c.Conn.(*tls.Conn); ok {
		return tc.CloseWrite()
	}
	return c.wire.CloseWrite()
}

// Detach lets the connection outlive ServeConn, so that no goroutine need stay
// there: it is what ServeConn does last but to start what goes on. Whoever calls
// done, which does something only once, ends the connection as a return of
// ServeConn would: it is closed, logged and forgotten, and until then Shutdown
// waits for it. The end of ctx means the same as before. A panic of ServeConn
// ends the connection too.
func (c *Conn) Detach() (done func()) {
	c.own()
	return c.finish
}

// Go continues with f, which may take long, after ServeConn has returned. It is
// the last thing that ServeConn does, on a goroutine whose stack is large, and f
// is as good as the rest of it, on one whose stack is small.
func (c *Conn) Go(f func()) { go c.run(c.own(), f) }

// Overdue ends when Shutdown does not wait any longer, and closes the
// connection: a handler that finishes something for a client that is drained
// gives it up then, even where it waits for somebody else than the client.
func (c *Conn) Overdue() context.Context { return c.srv.overdue }

// TLS returns the state of the TLS connection; nil before StartTLS.
func (c *Conn) TLS() *tls.ConnectionState {
	tc, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	state := tc.ConnectionState()
	return &state
}

var errAlreadyTLS = errors.New("mux: TLS is on already")

// StartTLS makes the TLS handshake on a connection of a STARTTLS port, under
// the port's rules (strict ALPN, client certificate requested), and fills in
// the fields. Cleartext that the caller has buffered is the caller's to drop;
// none is read beyond what the caller asked for. After an error the connection
// is of no use.
func (c *Conn) StartTLS(ctx context.Context) error {
	if _, ok := c.Conn.(*tls.Conn); ok {
		return errAlreadyTLS
	}
	stop := context.AfterFunc(ctx, func() { c.wire.failReads(context.Cause(ctx)) })
	defer stop()
	return c.handshake()
}

// SetIdentity registers who logged in and ends the pre-login phase with its
// deadline and limits. It returns an error when the connection must not go on:
// ErrTooMany, or the cause of its end.
//
// Whoever is revoked from then on loses the connection. A caller that has looked
// the identity up before looks again afterwards, lest a revocation slip
// through in between.
func (c *Conn) SetIdentity(id Identity) error {
	victim, err := c.srv.table.identify(c, id)
	if err != nil {
		c.SetReason(err.Error())
		c.srv.metrics.login(id.Mechanism, "refused")
		return err
	}
	c.srv.crowdOut(victim)
	c.wire.setLimit(0)
	c.srv.metrics.login(id.Mechanism, "ok")
	return context.Cause(c.ctx)
}

// SetExpires changes when the connection's right ends (see Identity.Expires):
// its key's expiry is another one now than at SetIdentity.
func (c *Conn) SetExpires(at time.Time) {
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	c.identity.Expires = at
	c.awaitExpiry()
}

// clockCheck is how often a connection that will expire looks at the wall
// clock, which may be set.
const clockCheck = time.Minute

// awaitExpiry has the connection ended when its right ends. The caller holds
// the table's mu.
func (c *Conn) awaitExpiry() {
	if c.expiry != nil {
		c.expiry.Stop()
		c.expiry = nil
	}
	at := c.identity.Expires
	if c.closing || at.IsZero() {
		return
	}
	c.expiry = time.AfterFunc(min(max(0, time.Until(at)), clockCheck), c.expire)
}

// expire ends the connection if its right has ended.
func (c *Conn) expire() {
	t := &c.srv.table
	t.mu.Lock()
	at := c.identity.Expires
	over := !at.IsZero() && !time.Now().Before(at)
	if !over {
		c.awaitExpiry()
	}
	t.mu.Unlock()
	if over {
		c.end(ErrRevoked)
	}
}

// SetReason notes why the connection ended, for its log line; the first call
// wins. When mux has ended the connection, the cause of that is the reason.
func (c *Conn) SetReason(reason string) {
	if c.ctx.Err() != nil {
		return
	}
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.reason == "" {
		c.reason = reason
	}
}

// AuthFailed notes a failed login for the connection's log line and the
// metrics. reason is a word or two, and holds no secret.
func (c *Conn) AuthFailed(mechanism, reason string) {
	c.srv.metrics.login(mechanism, "failed")
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	c.failures++
	c.failure = reason
}

// OwesData says whether the client owes data: the rest of a message, or of a
// literal. While it does, it must send Limits.MinRate bytes a second.
func (c *Conn) OwesData(owes bool) { c.wire.owe(owes) }

// MinRate is Limits.MinRate as it is for the connection, for handlers that carry
// several transfers on it.
func (c *Conn) MinRate() int { return c.limits.MinRate }

// Of returns the Conn behind a connection that a library hands back: the *Conn
// itself, or the *tls.Conn inside it.
func Of(nc net.Conn) (*Conn, bool) {
	switch nc := nc.(type) {
	case *Conn:
		return nc, true
	case *transport:
		return nc.conn, true
	case interface{ NetConn() net.Conn }: // *tls.Conn, and what wraps it
		return Of(nc.NetConn())
	}
	return nil, false
}

// hand gives the connection to its handler; false when it has ended already.
func (c *Conn) hand() bool {
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	c.handled = c.ctx.Err() == nil
	return c.handled
}
