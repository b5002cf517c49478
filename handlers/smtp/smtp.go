// Package smtp serves message submission (RFC 6409) on go-smtp: to clients
// whose TLS key names an account, and to those that use AUTH.
package smtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/backend"
	"posthorn/mux"
)

// FromPolicy says what becomes of a message whose From or Sender field has an
// address that is not the account's. Resent fields are not looked at. Where the
// backend decides about senders, it decides about all addresses.
type FromPolicy string

const (
	FromRefuse  FromPolicy = "refuse"  // 550 5.7.1; also the zero value's meaning
	FromReplace FromPolicy = "replace" // with the address in MAIL FROM; the display name stays
	FromAllow   FromPolicy = "allow"
)

// Handler serves submission connections. Its fields are set before use.
type Handler struct {
	Accounts *accounts.Store
	Backend  backend.Backend
	Hostname string // names the gateway in replies and Received fields; default "localhost"

	MaxMessageSize int64 // octets, before the fields that are added; default 50 MiB
	MaxRecipients  int   // of a message; more get 452; default 1000
	MaxLine        int   // octets of a command line; default 8 KiB

	// RequireAuth asks for AUTH from clients whose key is known, too.
	RequireAuth bool
	From        FromPolicy
	// ReceivedFrom puts the client's EHLO name and IP address into the
	// Received field of its messages.
	ReceivedFrom bool

	Log zerolog.Logger
	Now func() time.Time // default time.Now
}

// Busy implements mux.Handler.
func (h *Handler) Busy() []byte { return []byte(replyBusy) }

// ServeConn implements mux.Handler.
func (h *Handler) ServeConn(ctx context.Context, c *mux.Conn) {
	c.Go(func() { h.serve(ctx, c) })
}

func (h *Handler) serve(ctx context.Context, c *mux.Conn) {
	inTLS := !c.Port.StartTLS()
	if !inTLS && !h.startTLS(ctx, c) {
		return
	}
	w := newWire(ctx, c, h.maxLine())
	stop := w.watch()
	defer stop()
	work, cancel := patient(ctx, c.Overdue())
	defer cancel()

	g := &guard{
		wire:     w,
		hostname: h.hostname(),
		limit:    h.maxMessageSize(),
		swallow:  !inTLS, // RFC 3207 section 4.2: no second greeting
		closed:   make(chan struct{}),
	}
	s := h.newSession(work, c, g)
	g.loggedIn, g.offer, g.panicked = s.loggedIn, s.offer, s.panicked
	defer s.close()

	// go-smtp serves this one connection and is done.
	server := h.server(s)
	server.Serve(&single{conn: g})
	server.Shutdown(context.Background())
	stop()
	c.SetReason(w.reason)
}

// patient returns a context that ends with ctx, except when that is draining:
// a message whose last octet is in is delivered then, unless that is overdue.
func patient(ctx, overdue context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stopDrain := context.AfterFunc(overdue, func() { cancel(mux.ErrDraining) })
	stop := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); !errors.Is(cause, mux.ErrDraining) {
			cancel(cause)
		}
	})
	return work, func() {
		stop()
		stopDrain()
		cancel(nil)
	}
}

// server returns a go-smtp server whose sessions are all s: EHLO may come more
// than once, and the login stays.
func (h *Handler) server(s *session) *gosmtp.Server {
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(c *gosmtp.Conn) (gosmtp.Session, error) {
		// This is the first EHLO. A known key is a login from here on, not only
		// from MAIL: the pre-login limits end, and revoking it ends the connection.
		return s, s.enterByKey()
	}))
	server.Domain = h.hostname()
	server.MaxMessageBytes = h.maxMessageSize() // only for EHLO: guard enforces it
	server.MaxRecipients = h.maxRecipients()
	server.MaxLineLength = 0                             // guard's
	server.AllowInsecureAuth = true                      // go-smtp cannot see that this is TLS
	server.EnableSMTPUTF8, server.EnableDSN = true, true // guard shows what there is of it
	server.ErrorLog = errorLog{s}
	return server
}

// offer is what somebody, or anybody, can do here and at the backend.
func (h *Handler) offer(l *accounts.Login) backend.Submission {
	can := h.Backend.Submission(l)
	if most := h.maxMessageSize(); can.MaxSize == 0 || can.MaxSize > most {
		can.MaxSize = most
	}
	return can
}

func (h *Handler) hostname() string {
	if h.Hostname == "" {
		return "localhost"
	}
	return h.Hostname
}

func (h *Handler) maxMessageSize() int64 {
	if h.MaxMessageSize == 0 {
		return 50 << 20
	}
	return h.MaxMessageSize
}

func (h *Handler) maxRecipients() int {
	if h.MaxRecipients == 0 {
		return 1000
	}
	return h.MaxRecipients
}

func (h *Handler) maxLine() int {
	if h.MaxLine == 0 {
		return 8 << 10
	}
	return h.MaxLine
}

func (h *Handler) now() time.Time {
	if h.Now == nil {
		return time.Now()
	}
	return h.Now()
}

// single is a listener with one connection. It fails when that is closed,
// which ends go-smtp's Serve.
type single struct {
	conn  *guard
	taken bool
}

func (l *single) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return l.conn, nil
	}
	<-l.conn.closed
	return nil, net.ErrClosed
}

func (l *single) Close() error   { return nil }
func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }

// errorLog takes what go-smtp reports: panics in commands, after which it says
// 421. The first value is the remote address, which may be private.
type errorLog struct{ s *session }

func (l errorLog) Printf(format string, v ...any) {
	if _, rest, ok := strings.Cut(format, "%v"); ok && len(v) > 0 {
		format, v = "client"+rest, v[1:]
	}
	l.s.conn.SetReason("panic")
	l.s.log().Error().Str("note", fmt.Sprintf(format, v...)).Msg("go-smtp")
}

func (l errorLog) Println(v ...any) { l.Printf("%s", fmt.Sprintln(v...)) }
