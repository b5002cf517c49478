package client

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"posthorn/alpn"
)

// IMAP connects and logs in: by the key alone where the gateway greets with
// PREAUTH, else with EXTERNAL, else with the password. o may be nil. ctx bounds
// the call alone. The error is a *DialError, a *LoginError, or ctx's; a connection
// that breaks during the login is a reason to try the next route.
func (d *Dialer) IMAP(ctx context.Context, o *imapclient.Options) (*imapclient.Client, error) {
	return login(ctx, d, alpn.IMAP, func(ctx context.Context, c *Conn) (*imapclient.Client, error) {
		return d.loginIMAP(ctx, c, o)
	})
}

// Submission connects and logs in, as IMAP does. A gateway that takes the key
// without EXTERNAL has logged it in already.
func (d *Dialer) Submission(ctx context.Context) (*smtp.Client, error) {
	return login(ctx, d, alpn.SMTP, d.loginSubmission)
}

// login logs in by the first route that lasts so long.
func login[C io.Closer](ctx context.Context, d *Dialer, p alpn.Protocol, in func(context.Context, *Conn) (C, error)) (none C, err error) {
	s, err := d.search(p)
	if err != nil {
		return none, err
	}
	for {
		c, err := s.next(ctx)
		if err != nil {
			return none, err
		}
		bounded, cancel := context.WithTimeout(ctx, d.config.LoginTimeout)
		client, err := in(bounded, c)
		if err == nil && bounded.Err() != nil { // by then it may have been woken, or closed
			client.Close()
			err = bounded.Err()
		}
		cancel()
		if refused := new(LoginError); err == nil || errors.As(err, &refused) {
			s.worked(c)
			return client, err
		}
		if ctx.Err() != nil {
			return none, context.Cause(ctx)
		}
		s.lost(c, err)
	}
}

func (d *Dialer) loginIMAP(ctx context.Context, conn *Conn, o *imapclient.Options) (*imapclient.Client, error) {
	c := imapclient.New(conn, o)
	// go-imap sets deadlines of its own, which would undo one that is set here.
	defer context.AfterFunc(ctx, func() { conn.wire.Close() })()
	if err := d.authenticateIMAP(conn, c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (d *Dialer) authenticateIMAP(conn *Conn, c *imapclient.Client) error {
	if err := c.WaitGreeting(); err != nil {
		return err
	}
	caps := c.Caps()
	switch state := c.State(); {
	case state == imap.ConnStateAuthenticated:
		return nil
	case state != imap.ConnStateNotAuthenticated: // it broke after the greeting
		return io.ErrUnexpectedEOF
	case caps == nil:
		return errors.New("the server tells no capabilities")
	}
	offered := func(name string) bool { return caps.Has(imap.AuthCap(name)) }
	return d.authenticate(conn, offered, func(x exchange) error { return c.Authenticate(x) })
}

// authenticate tries what a server offers. Answers of the server are
// *LoginError, all else is the connection's.
func (d *Dialer) authenticate(conn *Conn, offered func(string) bool, run func(exchange) error) error {
	var last error = &LoginError{Err: ErrNoMechanism}
	for _, m := range d.mechanisms(conn, offered) {
		x, err := m.begin()
		if err != nil {
			return &LoginError{m.name, err}
		}
		if err = run(x); err == nil {
			if err = x.finished(); err == nil {
				return nil
			}
			return &LoginError{m.name, err}
		}
		if !answered(err) {
			return err
		}
		last = &LoginError{m.name, err}
	}
	return last
}

// answered reports whether an error is the server's answer, however strange.
func answered(err error) bool {
	var inIMAP *imap.Error
	var inSMTP *smtp.SMTPError
	var inSASL exchangeError
	var inSession *refusal
	return errors.As(err, &inIMAP) || errors.As(err, &inSMTP) || errors.As(err, &inSASL) || errors.As(err, &inSession)
}

func (d *Dialer) loginSubmission(ctx context.Context, conn *Conn) (*smtp.Client, error) {
	c := smtp.NewClient(conn)
	defer context.AfterFunc(ctx, func() { conn.wire.Close() })()
	if err := d.authenticateSubmission(conn, c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (d *Dialer) authenticateSubmission(conn *Conn, c *smtp.Client) error {
	if err := c.Hello("localhost"); err != nil { // the machine's own name is nobody's business
		return err
	}
	_, offer := c.Extension("AUTH")
	names := strings.Fields(strings.ToUpper(offer))
	if conn.Shown && len(names) == 0 {
		return nil
	}
	offered := func(name string) bool { return slices.Contains(names, name) }
	return d.authenticate(conn, offered, func(x exchange) error { return c.Auth(x) })
}
