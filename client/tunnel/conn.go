package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"posthorn/alpn"
	"posthorn/client"
	"posthorn/imapline"
	"posthorn/splice"
)

// conn is a local connection.
type conn struct {
	net.Conn
	*Tunnel
	in      imapline.Input
	trusted bool // no password is wanted
	cancel  context.CancelCauseFunc
	failed  int // wrong passwords

	mu sync.Mutex
	to *client.Session // guarded by mu: what it is carried to
}

// dialect is one protocol's side of a conn.
type dialect interface {
	// signIn talks with the program until it has signed in, and the gateway's
	// session is there. Its error is errOver when all was said.
	signIn(ctx context.Context) (*client.Session, error)
	// goodbye is what the program is told when the connection ends where a
	// response can begin.
	goodbye(cause error) []byte
	// boundary follows what the gateway sends.
	boundary() boundary
}

// boundary finds where a program can be told something: between two responses.
type boundary interface {
	pass(b []byte) // goes by
	here() bool
	parted() bool // the gateway itself has said goodbye
}

// errOver says that the connection is over and everything was said.
var errOver = errors.New("connection is over")

// serve serves one connection to its end.
func (t *Tunnel) serve(ctx context.Context, l *Listener, nc net.Conn) {
	defer nc.Close()
	log := t.config.Log.With().Str("protocol", string(l.Protocol)).Logger()
	if err := l.admit(nc); err != nil {
		log.Warn().Err(err).Msg("connection refused")
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &conn{Conn: nc, Tunnel: t, trusted: l.trusted, cancel: cancel}
	c.in.Reader = nc
	defer c.in.Wipe()
	d := c.dialect(l)
	if !t.enter(c) {
		_, _ = nc.Write(d.goodbye(errFull))
		return
	}
	defer t.leave(c)
	session, err := c.signIn(ctx, d)
	if err != nil {
		log.Debug().Str("end", oneLine(err.Error())).Msg("nobody signed in")
		return
	}
	log.Debug().Stringer("route", session.Route).Msg("carrying")
	err = c.carry(ctx, d, session)
	log.Debug().AnErr("end", err).Msg("carried")
}

func (c *conn) dialect(l *Listener) dialect {
	if l.Protocol == alpn.IMAP {
		return &imapDialog{conn: c, preauth: l.trusted}
	}
	return &smtpDialog{conn: c, host: "localhost"}
}

// signIn runs the dialog, in time.
func (c *conn) signIn(ctx context.Context, d dialect) (*client.Session, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, c.config.SignInTime, errSlow)
	defer cancel()
	woken := make(chan struct{})
	stop := context.AfterFunc(bounded, func() {
		defer close(woken)
		_ = c.SetDeadline(time.Unix(1, 0))
	})
	session, err := d.signIn(bounded)
	if !stop() {
		<-woken
		_ = c.SetDeadline(time.Time{})
	}
	if err == nil {
		return session, nil
	}
	if cause := context.Cause(bounded); cause != nil && err != errOver {
		err = cause
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(d.goodbye(plain(cause)))
	} else if end := imapline.FatalError(""); errors.As(err, &end) {
		_, _ = c.Write(d.goodbye(end))
	}
	return nil, err
}

// plain words the end of a context for programs.
func plain(cause error) error {
	if errors.Is(cause, context.Canceled) {
		return errEnding
	}
	return cause
}

// errLost is that the connection to the gateway broke.
var errLost = errors.New("the connection to the gateway is lost")

// carry carries octets both ways until the connection ends.
func (c *conn) carry(ctx context.Context, d dialect, s *client.Session) error {
	c.mu.Lock()
	c.to = s
	c.mu.Unlock()
	limit := d.boundary()
	link := splice.Link{
		Client: &resumed{c.Conn, bytes.Clone(c.in.Pending())},
		Server: &watched{s, limit},
		Goodbye: func(cause error, _ []byte) []byte {
			if !limit.here() {
				return nil
			}
			return d.goodbye(plain(cause))
		},
	}
	c.in.Wipe()
	err := link.Run(ctx)
	if errors.Is(err, splice.ErrServer) && limit.here() {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(d.goodbye(errLost))
	}
	return err
}

// hang closes the gateway's side.
func (c *conn) hang() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.to != nil {
		c.to.Close()
	}
}

// resumed is a connection from which some octets have been read already.
type resumed struct {
	net.Conn
	early []byte
}

// Read implements net.Conn.
func (c *resumed) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// CloseWrite ends the connection in one direction, if it has directions.
func (c *resumed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// watched is a session whose responses are followed.
type watched struct {
	*client.Session
	boundary boundary
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Session.Read(b)
	w.boundary.pass(b[:n])
	if err == io.EOF && w.boundary.here() && !w.boundary.parted() {
		err = io.ErrUnexpectedEOF // it did not mean to end: the program is told
	}
	return n, err
}

// oneLine makes what strangers wrote fit for a line.
func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return imapline.Printable(s)
}
