// Package imap is the IMAP side of the gateway: greeting, the commands before
// login, and the login itself. What comes after it is the backend's.
package imap

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/backend"
	"posthorn/mux"
)

// Handler serves IMAP connections (RFC 9051, RFC 3501). Its fields are set
// before use and not changed after.
type Handler struct {
	Accounts *accounts.Store
	Backend  backend.Backend
	// Hostname is what the server calls itself in its greeting; default: the
	// name that the client asked for.
	Hostname string
	// ID is the answer to ID before login (RFC 2971), as field and value in
	// turn; nil: NIL.
	ID     []string
	Limits Limits // until SetLimits
	Log    zerolog.Logger

	limits atomic.Pointer[Limits] // nil: those in Limits
}

var _ mux.Handler = (*Handler)(nil)

// Limits bound what a client may say before login. Zero fields take the
// defaults.
type Limits struct {
	Line        int // bytes of a line; default 8 KiB, twice that for SASL
	Literal     int // octets of a literal; default 4 KiB
	Commands    int // of all, good and bad; more end the connection; default 1000
	BadCommands int // how many end the connection; default 10
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Line:        cmp.Or(l.Line, 8<<10),
		Literal:     cmp.Or(l.Literal, 4<<10),
		Commands:    cmp.Or(l.Commands, 1000),
		BadCommands: cmp.Or(l.BadCommands, 10),
	}
}

// SetLimits replaces the limits for connections served from now on.
func (h *Handler) SetLimits(l Limits) { h.limits.Store(&l) }

func (h *Handler) currentLimits() Limits {
	if l := h.limits.Load(); l != nil {
		return l.withDefaults()
	}
	return h.Limits.withDefaults()
}

// Busy is the whole answer to a connection that is over a limit.
func (h *Handler) Busy() []byte { return []byte("* BYE [UNAVAILABLE] Too many connections\r\n") }

// ServeConn serves one connection.
func (h *Handler) ServeConn(ctx context.Context, c *mux.Conn) {
	a := h.admitAside(ctx, c)
	if a.session == nil {
		return
	}
	// Nothing of the time before login is alive here: connections idle in Serve.
	if err := a.session.Serve(ctx, a.client); err != nil && ctx.Err() == nil {
		c.SetReason(reason(err))
	}
}

// admitted is a session and the client's end for it; or a panic.
type admitted struct {
	session  backend.IMAPSession
	client   net.Conn
	panicked any
}

// admitAside runs admit on a goroutine of its own, whose stack, which look-ups
// and writes have made large, goes with it. A panic goes on in the caller's.
func (h *Handler) admitAside(ctx context.Context, c *mux.Conn) (a admitted) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				a.panicked = fmt.Sprintf("%v\n%s", r, debug.Stack())
			}
		}()
		a.session, a.client = h.admit(ctx, c)
	}()
	<-done
	if a.panicked != nil {
		panic(a.panicked)
	}
	return a
}

// admit leads a connection to its session. It returns nil when the connection
// is over. The client's end for the session first yields what the client has
// sent behind its login.
func (h *Handler) admit(ctx context.Context, c *mux.Conn) (backend.IMAPSession, net.Conn) {
	d := &dialog{Handler: h, conn: c, limits: h.currentLimits()}
	d.in.conn = c
	defer d.in.wipe()
	d.watch(ctx)
	defer func() { d.unwatch() }()
	session, err := d.run(ctx)
	switch {
	case err == nil:
		return session, withPending(c, d.in.pending())
	case ctx.Err() != nil:
		d.bye(context.Cause(ctx).Error())
	default:
		d.part(err)
	}
	return nil, nil
}

// watch wakes reads when ctx ends, until unwatch, which is called once.
func (d *dialog) watch(ctx context.Context) {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = d.conn.Conn.SetReadDeadline(time.Unix(1, 0))
	})
	d.unwatch = func() {
		if !stop() {
			<-woken
		}
	}
}

// pendingConn is a client that has sent more than was read so far.
type pendingConn struct {
	*mux.Conn
	pending []byte
}

// withPending returns c with pending, if there is any, before what it reads.
func withPending(c *mux.Conn, pending []byte) net.Conn {
	if len(pending) == 0 {
		return c
	}
	return &pendingConn{c, append([]byte(nil), pending...)}
}

func (c *pendingConn) Read(p []byte) (int, error) {
	if len(c.pending) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.pending)
	if c.pending = c.pending[n:]; len(c.pending) == 0 {
		c.pending = nil
	}
	return n, nil
}
