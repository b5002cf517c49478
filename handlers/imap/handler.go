// Package imap is the IMAP side of the gateway: greeting, the commands before
// login, and the login itself. What comes after it is the backend's.
package imap

import (
	"bytes"
	"cmp"
	"context"
	"errors"
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

// ServeConn serves one connection: until somebody has logged in, and as long as
// the session is busy then. The session goes on after it has returned, with
// nothing of the time before login.
func (h *Handler) ServeConn(ctx context.Context, c *mux.Conn) {
	switch session := h.admit(ctx, c).(type) {
	case nil:
	case backend.IMAPStarter:
		done := c.Detach()
		session.Start(ctx, c, func(err error) {
			defer done()
			conclude(ctx, c, err)
		})
	default:
		c.Go(func() { conclude(ctx, c, session.Serve(ctx, c)) })
	}
}

// conclude notes how a session ended.
func conclude(ctx context.Context, c *mux.Conn, err error) {
	if p, ok := errors.AsType[panicError](err); ok {
		c.Panicked(p.Error(), p.Stack())
		return
	}
	if err != nil && ctx.Err() == nil {
		c.SetReason(reason(err))
	}
}

// panicError is a panic in a session's own goroutines.
type panicError interface {
	error
	Stack() []byte
}

// admit leads a connection to its session. It returns nil when the connection
// is over. What the client has sent behind its login is what the connection
// yields next.
func (h *Handler) admit(ctx context.Context, c *mux.Conn) backend.IMAPSession {
	d := &dialog{Handler: h, conn: c, limits: h.currentLimits()}
	d.in.Reader = c
	defer d.in.Wipe()
	d.watch(ctx)
	defer func() { d.unwatch() }()
	session, err := d.run(ctx)
	switch {
	case err == nil:
		c.Unread(bytes.Clone(d.in.Pending()))
		return session
	case ctx.Err() != nil:
		d.bye(context.Cause(ctx).Error())
	default:
		d.part(err)
	}
	return nil
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
