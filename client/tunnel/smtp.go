package tunnel

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"posthorn/alpn"
	"posthorn/client"
	"posthorn/imapline"
)

// smtpDialog is the time before a program has signed in (RFC 6409, RFC 4954).
type smtpDialog struct {
	*conn
	host string // what the tunnel calls itself

	hello         bool // EHLO or HELO was said
	commands, bad int
}

// Replies to programs.
const (
	replyOK        = "250 2.0.0 OK"
	replyIn        = "235 2.7.0 Authentication succeeded"
	replyWrong     = "535 5.7.8 This is not the local password of the tunnel"
	replyNeedAuth  = "530 5.7.0 Authentication required"
	replyUnknown   = "500 5.5.1 Command not recognized"
	replySequence  = "503 5.5.1 Bad sequence of commands"
	replyArgument  = "501 5.5.4 Bad argument"
	replyMechanism = "504 5.5.4 Authentication mechanism not offered"
	replyNoTLS     = "502 5.5.1 There is no TLS here: nothing leaves this machine without it"
	replyRefused   = "454 4.7.0 The gateway does not let the tunnel log in"
	replyAway      = "454 4.4.1 The gateway cannot be reached"
)

func (d *smtpDialog) signIn(ctx context.Context) (*client.Session, error) {
	if err := d.say("220 " + d.host + " ESMTP Posthorn tunnel"); err != nil {
		return nil, err
	}
	for {
		if s, err := d.command(ctx); s != nil || err != nil {
			return s, err
		}
	}
}

// command reads one command and executes it.
func (d *smtpDialog) command(ctx context.Context) (*client.Session, error) {
	raw, err := d.in.Line(2 * maxLine)
	if err != nil {
		return nil, err
	}
	line := string(raw)
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	if d.commands == 0 && (imapline.IsForeign(raw) && verb != "EHLO" && verb != "HELO" || strings.HasSuffix(verb, ":")) {
		return nil, imapline.FatalError("This is a submission server")
	}
	if d.commands++; d.commands > maxCommands {
		return nil, errTooMany
	}
	if verb != "AUTH" && len(line) > maxLine || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, d.refuse("500 5.5.2 Line too long, or with control characters")
	}
	return d.execute(ctx, verb, arg, line)
}

func (d *smtpDialog) execute(ctx context.Context, verb, arg, line string) (*client.Session, error) {
	switch verb {
	case "EHLO", "HELO":
		return nil, d.greet(ctx, verb, arg)
	case "NOOP":
		return nil, d.say(replyOK)
	case "RSET":
		return nil, d.say(replyOK)
	case "QUIT":
		if err := d.say("221 2.0.0 Bye"); err != nil {
			return nil, err
		}
		return nil, errOver
	case "AUTH":
		return d.auth(ctx, arg)
	case "STARTTLS":
		return nil, d.refuse(replyNoTLS)
	case "MAIL":
		if d.hello && (d.trusted || d.config.Password == nil) {
			return d.withoutAuth(ctx, line)
		}
		return nil, d.refuse(replyNeedAuth)
	case "RCPT", "DATA", "BDAT", "VRFY", "EXPN", "HELP", "ETRN", "TURN":
		return nil, d.refuse(replyNeedAuth)
	}
	return nil, d.refuse(replyUnknown)
}

// greet answers EHLO with what the gateway offers.
func (d *smtpDialog) greet(ctx context.Context, verb, arg string) error {
	if strings.TrimSpace(arg) == "" {
		return d.refuse(replyArgument)
	}
	if verb == "HELO" {
		d.hello = true
		return d.say("250 " + d.host)
	}
	offers, err := d.reach.offers(ctx, alpn.SMTP)
	if err != nil {
		return d.over(ctx, err, "421 4.4.1 The gateway cannot be reached")
	}
	d.hello = true
	lines := []string{"250-" + d.host}
	for _, o := range offers {
		keyword, _, _ := strings.Cut(strings.ReplaceAll(strings.ToUpper(o), "=", " "), " ") // AUTH=… is an old form
		if keyword != "STARTTLS" && keyword != "AUTH" {
			lines = append(lines, "250-"+o)
		}
	}
	return d.say(append(lines, "250 AUTH PLAIN LOGIN")...)
}

// auth signs a program in. Two spaces before the mechanism and one behind it are
// clients' habits.
func (d *smtpDialog) auth(ctx context.Context, arg string) (*client.Session, error) {
	words := strings.Fields(arg)
	if len(words) == 0 || len(words) > 2 {
		return nil, d.refuse(replyArgument)
	}
	if !d.hello {
		return nil, d.refuse(replySequence)
	}
	var initial []byte
	var err error
	if len(words) == 2 {
		if initial, err = imapline.DecodeSASL([]byte(words[1])); err != nil {
			return nil, d.refuse("501 5.5.2 Invalid base64")
		}
	}
	password, err := d.credentials(words[0], initial, "334 ")
	bad := imapline.SyntaxError("")
	switch {
	case err == errMechanism:
		return nil, d.refuse(replyMechanism)
	case errors.As(err, &bad):
		return nil, d.refuse("501 5.5.2 " + string(bad))
	case err != nil:
		return nil, err
	}
	if err := d.check(ctx, password); err != nil {
		return nil, d.deny(err, replyWrong)
	}
	s, err := d.session(ctx, alpn.SMTP)
	if err != nil {
		return nil, d.over(ctx, err, away(err), "421 4.4.1 Try again later")
	}
	return d.keep(s, d.say(replyIn))
}

// withoutAuth carries on with a program that sends mail without having said who it
// is, where it need not.
func (d *smtpDialog) withoutAuth(ctx context.Context, line string) (*client.Session, error) {
	d.signedIn(d.conn)
	s, err := d.session(ctx, alpn.SMTP)
	if err != nil {
		return nil, d.over(ctx, err, "421 4.4.1 The gateway cannot be reached")
	}
	if _, err := s.Write([]byte(line + "\r\n")); err != nil {
		s.Close()
		return nil, imapline.FatalError(errLost.Error())
	}
	return s, nil
}

// refuse answers a bad command.
func (d *smtpDialog) refuse(reply string) error {
	if err := d.say(reply); err != nil {
		return err
	}
	if d.bad++; d.bad >= maxBad {
		return errTooBad
	}
	return nil
}

// away is the reply to AUTH when there is no session; it is never a final one, so
// that mail waits.
func away(err error) string {
	if refused := new(client.LoginError); errors.As(err, &refused) {
		return replyRefused
	}
	return replyAway
}

func (d *smtpDialog) goodbye(cause error) []byte {
	return []byte("421 4.3.2 " + imapline.Printable(cause.Error()) + "\r\n")
}

func (d *smtpDialog) boundary() boundary { return new(smtpBoundary) }

// smtpBoundary follows the replies of a server (RFC 5321 section 4.2).
type smtpBoundary struct {
	line   [4]byte // the beginning of the line that has begun
	n      int
	inside bool // of a reply
	bye    bool
}

func (s *smtpBoundary) pass(b []byte) {
	for len(b) > 0 {
		s.inside = true
		text, rest, whole := bytes.Cut(b, []byte{'\n'})
		s.n += copy(s.line[s.n:], text)
		if !whole {
			return
		}
		code := string(s.line[:min(s.n, 3)])
		s.bye = s.bye || code == "221" || code == "421"
		s.inside = s.n == 4 && s.line[3] == '-'
		s.n = 0
		b = rest
	}
}

func (s *smtpBoundary) here() bool   { return !s.inside }
func (s *smtpBoundary) parted() bool { return s.bye }
