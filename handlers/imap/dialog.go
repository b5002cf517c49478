package imap

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/imapline"
	"posthorn/mux"
)

// dialog is the time before login of one connection.
type dialog struct {
	*Handler
	conn    *mux.Conn
	limits  Limits
	in      imapline.Input
	auth    *accounts.Auth // nil in cleartext
	client  backend.Client // set with auth
	unwatch func()         // see watch

	commands, bad int
}

// Errors that are answers: byeError ends the connection, syntaxError the command.
type (
	byeError    = imapline.FatalError
	syntaxError = imapline.SyntaxError
)

// errOver says that the connection is over and everything was said.
var errOver = errors.New("imap: connection is over")

const (
	errNotIMAP  = byeError("This is an IMAP server")
	errTooMany  = byeError("Too many commands without a login")
	errTooBad   = byeError("Too many bad commands")
	errOnItsWay = byeError("Cannot skip the literal of a refused command")
)

// run greets the client and executes commands until somebody has logged in.
func (d *dialog) run(ctx context.Context) (backend.IMAPSession, error) {
	if d.conn.TLS() != nil {
		d.auth = d.newAuth()
		if session, err := d.preauth(ctx); session != nil || err != nil {
			return session, err
		}
	}
	if err := d.greet(ctx); err != nil {
		return nil, err
	}
	for {
		session, err := d.command(ctx)
		if session != nil || err != nil {
			return session, err
		}
	}
}

func (d *dialog) newAuth() *accounts.Auth {
	c := d.conn
	d.client = backend.Client{ID: c.ID, Remote: c.Remote, Local: c.Local, ServerName: c.ServerName, TLS: c.TLS()}
	return d.Accounts.NewAuth(accounts.Peer{
		Remote:    c.Remote.Addr(),
		Key:       c.Key,
		Scope:     authkeys.ScopeIMAP,
		TLS:       d.client.TLS,
		Passwords: d.Backend.Passwords(backend.IMAP, &d.client),
	})
}

// command reads one command and executes it.
func (d *dialog) command(ctx context.Context) (backend.IMAPSession, error) {
	line, err := d.commandLine()
	if err != nil {
		return nil, err
	}
	if d.commands == 0 && imapline.IsForeign(line) {
		return nil, errNotIMAP
	}
	if d.commands++; d.commands > d.limits.Commands {
		return nil, errTooMany
	}
	tag, rest, ok := imapline.CutTag(line)
	p := &imapline.Parser{In: &d.in, MaxLine: d.limits.Line, MaxLiteral: d.limits.Literal, Proceed: d.proceed, Line: rest}
	var session backend.IMAPSession
	if !ok {
		p.Line = line
		err = syntaxError("Invalid tag")
	} else if name, nameErr := p.Atom(); nameErr != nil {
		err = syntaxError("Missing command")
	} else {
		session, err = d.execute(ctx, tag, strings.ToUpper(name), p)
	}
	if bad, isBad := err.(syntaxError); isBad {
		err = d.badCommand(tag, string(bad), p)
	}
	return session, err
}

// commandLine reads the first line of a command, which may be longer when it
// has a SASL response in it.
func (d *dialog) commandLine() ([]byte, error) {
	line, err := d.in.Line(d.limits.Line)
	if err != imapline.ErrLong {
		return line, err
	}
	_, rest, _ := imapline.CutTag(d.in.Pending())
	if !strings.EqualFold(string(rest[:min(len(rest), len(cmdAuthenticate))]), cmdAuthenticate) {
		return nil, err
	}
	return d.in.Line(2 * d.limits.Line)
}

const cmdAuthenticate = "AUTHENTICATE "

// badCommand answers BAD. What follows a literal that was announced without
// waiting cannot be told from commands when it was not read.
func (d *dialog) badCommand(tag, text string, p *imapline.Parser) error {
	if err := d.say(tag + " BAD " + text); err != nil {
		return err
	}
	return d.refused(p)
}

// refused counts a bad command.
func (d *dialog) refused(p *imapline.Parser) error {
	if d.bad++; d.bad >= d.limits.BadCommands {
		return errTooBad
	}
	if p.Announces() {
		return errOnItsWay
	}
	return nil
}

// execute executes the command whose arguments p has yet to read. Its error is
// a syntaxError when the command is bad, or ends the connection.
func (d *dialog) execute(ctx context.Context, tag, name string, p *imapline.Parser) (backend.IMAPSession, error) {
	switch name {
	case "CAPABILITY":
		return nil, d.simple(p, "* CAPABILITY "+d.capabilities(ctx), tag+" OK CAPABILITY completed")
	case "NOOP":
		return nil, d.simple(p, tag+" OK NOOP completed")
	case "LOGOUT":
		if err := d.simple(p, "* BYE Logging out", tag+" OK LOGOUT completed"); err != nil {
			return nil, err
		}
		d.conn.SetReason("logout")
		return nil, errOver
	case "ID":
		return nil, d.id(tag, p)
	case "STARTTLS":
		return nil, d.startTLS(ctx, tag, p)
	case "LOGIN", "AUTHENTICATE":
		if d.auth == nil {
			if err := d.say(tag + " NO [PRIVACYREQUIRED] Use STARTTLS first"); err != nil {
				return nil, err
			}
			return nil, d.refused(p)
		}
		if name == "LOGIN" {
			return d.login(ctx, tag, p)
		}
		return d.authenticate(ctx, tag, p)
	}
	return nil, syntaxError("Unknown command before login")
}

// simple answers a command without arguments.
func (d *dialog) simple(p *imapline.Parser, lines ...string) error {
	if err := p.End(); err != nil {
		return err
	}
	return d.say(lines...)
}

// startTLS begins TLS (RFC 9051 section 6.2.1). Nothing of the time before it
// counts after it.
func (d *dialog) startTLS(ctx context.Context, tag string, p *imapline.Parser) error {
	if err := p.End(); err != nil {
		return err
	}
	if d.auth != nil {
		return syntaxError("TLS is on already")
	}
	if err := d.say(tag + " OK Begin TLS now"); err != nil {
		return err
	}
	d.in.Wipe()
	d.unwatch()
	err := d.conn.StartTLS(ctx)
	d.watch(ctx)
	if err != nil {
		d.conn.SetReason("STARTTLS: " + reason(err))
		return errOver
	}
	d.auth = d.newAuth()
	return nil
}

// part says what is to be said when the connection ends because of err.
func (d *dialog) part(err error) {
	if bye, ok := err.(byeError); ok {
		d.conn.SetReason(string(bye))
		d.bye(string(bye))
		return
	}
	if err != errOver {
		d.conn.SetReason(reason(err))
	}
}

// reason is an error for the log, without the addresses in those of the network.
func reason(err error) string {
	if errors.Is(err, io.EOF) {
		return "closed by client"
	}
	if op := new(net.OpError); errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
