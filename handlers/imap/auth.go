package imap

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/backend"
	"posthorn/imapline"
	"posthorn/mux"
)

// The one text for every refused login.
const refusal = "[AUTHENTICATIONFAILED] Authentication failed"

const unavailable = "[UNAVAILABLE] Temporarily unavailable, try again later"

// keyAlone is for a key that opens nothing without the password.
const keyAlone = "[CANNOT] The mail server wants your password: log in with it"

// preauth logs in by the client's key and greets with PREAUTH. Without a
// session and without an error, the client has to log in.
func (d *dialog) preauth(ctx context.Context) (backend.IMAPSession, error) {
	l, err := d.auth.Key(ctx)
	var refused *accounts.RefusedError
	switch {
	case errors.As(err, &refused):
		if refused.Reason != accounts.NoKey {
			d.conn.AuthFailed("PREAUTH", string(refused.Reason))
		}
		return nil, nil
	case err != nil:
		d.logError(err, "key cannot be looked up")
		return nil, byeError(unavailable)
	case l.NoPreauth:
		return nil, nil
	}
	session, err := d.open(ctx, l)
	switch {
	case errors.Is(err, backend.ErrPasswordNeeded):
		return nil, nil
	case err != nil:
		return nil, byeError(answer(err))
	}
	err = d.say("* PREAUTH [CAPABILITY " + imapline.Printable(session.Capabilities()) + "] " + d.name() + " ready")
	return d.keep(session, err)
}

// login executes LOGIN.
func (d *dialog) login(ctx context.Context, tag string, p *imapline.Parser) (backend.IMAPSession, error) {
	if err := p.Space(); err != nil {
		return nil, err
	}
	user, err := p.Astring()
	if err != nil {
		return nil, err
	}
	if err := p.Space(); err != nil {
		return nil, err
	}
	password, err := p.Astring()
	if err != nil {
		return nil, err
	}
	if err := p.End(); err != nil {
		return nil, err
	}
	l, err := d.auth.Password(ctx, user, password)
	return d.conclude(ctx, tag, "LOGIN", l, err)
}

// authenticate executes AUTHENTICATE (RFC 9051 section 6.2.2), with or without
// an initial response (RFC 4959).
func (d *dialog) authenticate(ctx context.Context, tag string, p *imapline.Parser) (backend.IMAPSession, error) {
	if err := p.Space(); err != nil {
		return nil, err
	}
	mechanism, err := p.Atom()
	if err != nil {
		return nil, err
	}
	var response []byte
	if p.Take(' ') {
		if response, err = imapline.DecodeSASL(p.Line); err != nil {
			return nil, err
		}
		p.Line = nil
	}
	if err := p.End(); err != nil {
		return nil, err
	}
	x, err := d.auth.Start(ctx, mechanism)
	if err == nil {
		err = d.exchange(x, response)
	}
	if _, bad := err.(syntaxError); bad {
		return nil, err
	}
	var l *accounts.Login
	if err == nil {
		l = x.Login()
	}
	return d.conclude(ctx, tag, mechanism, l, err)
}

// exchange carries a SASL exchange to its end.
func (d *dialog) exchange(x *accounts.Exchange, response []byte) error {
	for {
		challenge, done, err := x.Next(response)
		if err != nil || done {
			return err
		}
		if err := d.say("+ " + base64.StdEncoding.EncodeToString(challenge)); err != nil {
			return transportError{err}
		}
		line, err := d.in.Line(2 * d.limits.Line)
		switch {
		case err != nil:
			return transportError{err}
		case string(line) == "*":
			return syntaxError("Exchange cancelled")
		}
		if response, err = imapline.DecodeSASL(line); err != nil {
			return err
		}
	}
}

// transportError is an error of the connection, in the midst of an exchange
// whose own errors mean something else.
type transportError struct{ error }

// conclude answers a login: with OK once the backend's session is there.
func (d *dialog) conclude(ctx context.Context, tag, mechanism string, l *accounts.Login, err error) (backend.IMAPSession, error) {
	var refused *accounts.RefusedError
	var broken transportError
	switch {
	case errors.As(err, &broken):
		return nil, broken.error
	case errors.As(err, &refused):
		d.conn.AuthFailed(known(mechanism), string(refused.Reason))
		if err := d.say(tag + " NO " + refusal); err != nil {
			return nil, err
		}
		if refused.Reason == accounts.TooMany {
			return nil, byeError("Too many failed logins")
		}
		return nil, nil
	case err != nil:
		if ctx.Err() == nil {
			d.logError(err, "login cannot be decided")
		}
		return nil, d.say(tag + " NO " + answer(err))
	}
	session, err := d.open(ctx, l)
	if err != nil {
		if said := d.say(tag + " NO " + answer(err)); said != nil {
			return nil, said
		}
		if errors.As(err, new(lostError)) {
			return nil, byeError(answer(err))
		}
		return nil, nil
	}
	err = d.say(tag + " OK [CAPABILITY " + imapline.Printable(session.Capabilities()) + "] Logged in")
	return d.keep(session, err)
}

// known keeps names that clients make up out of logs and metrics.
func known(mechanism string) string {
	switch m := strings.ToUpper(mechanism); m {
	case "EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN":
		return m
	}
	return "unknown"
}

// keep returns session, or closes it when the client could not be told of it.
func (d *dialog) keep(session backend.IMAPSession, err error) (backend.IMAPSession, error) {
	if err != nil {
		_ = session.Close()
		return nil, err
	}
	return session, nil
}

// open opens the backend's session for somebody who has logged in, and then
// makes the connection theirs.
func (d *dialog) open(ctx context.Context, l *accounts.Login) (backend.IMAPSession, error) {
	session, err := d.Backend.OpenIMAP(ctx, l, &d.client)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, backend.ErrPasswordNeeded) {
			d.logError(err, "backend refuses a session")
		}
		return nil, err
	}
	if err := d.claim(ctx, l); err != nil {
		_ = session.Close()
		return nil, err
	}
	return session, nil
}

// claim makes the connection l's. From then on a revocation ends it; one that
// came before that is noticed here.
func (d *dialog) claim(ctx context.Context, l *accounts.Login) error {
	err := d.conn.SetIdentity(mux.Identity{
		Account: l.Account.ID, Address: l.Address, Mechanism: l.Mechanism, Key: l.Key, Expires: l.Expires,
		Backend: l.Account.Backend,
	})
	if err != nil {
		return err
	}
	for {
		expires := l.Expires
		if err := d.Accounts.Check(ctx, l); err != nil {
			if refused := new(accounts.RefusedError); errors.As(err, &refused) {
				d.conn.AuthFailed(l.Mechanism, string(refused.Reason))
			}
			return lostError{err}
		}
		if l.Expires.Equal(expires) {
			return nil
		}
		d.conn.SetExpires(l.Expires) // and look whether that still holds
	}
}

// lostError is why an identity was lost after the connection became its own:
// it cannot become anybody else's.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// answer is what a client hears of an error of open: code and text.
func answer(err error) string {
	var refused *accounts.RefusedError
	var backendErr *goimap.Error
	switch {
	case errors.As(err, &refused):
		return refusal
	case errors.Is(err, backend.ErrPasswordNeeded):
		return keyAlone
	case errors.Is(err, mux.ErrTooMany):
		return "[LIMIT] Too many connections of this account"
	case errors.As(err, &backendErr) && backendErr.Code != "":
		return imapline.Printable("[" + string(backendErr.Code) + "] " + backendErr.Text)
	case errors.As(err, &backendErr):
		return imapline.Printable(backendErr.Text)
	}
	return unavailable
}

// logError notes an error that the client hears nothing of; one that is not of
// the kind that passes by itself, loudly.
func (d *dialog) logError(err error, msg string) {
	level := zerolog.WarnLevel
	if errors.Is(err, backend.ErrRefused) || errors.As(err, new(*backend.UnknownError)) {
		level = zerolog.ErrorLevel
	}
	d.Log.WithLevel(level).Uint64("id", d.conn.ID).Err(err).Msg(msg)
}
