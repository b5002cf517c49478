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

// imapDialog is the time before a program has signed in (RFC 9051 section 6.2).
type imapDialog struct {
	*conn
	preauth bool // the program need not log in

	commands, bad int
}

// capabilities are those before login.
const capabilities = "IMAP4rev1 LITERAL- SASL-IR ID AUTH=PLAIN AUTH=LOGIN"

const wrongIMAP = "NO [AUTHENTICATIONFAILED] This is not the local password of the tunnel"

func (d *imapDialog) signIn(ctx context.Context) (*client.Session, error) {
	if d.preauth {
		s, err := d.session(ctx, alpn.IMAP)
		if err != nil {
			return nil, d.over(ctx, err, "* BYE "+unavailable(err))
		}
		return d.keep(s, d.say("* PREAUTH [CAPABILITY "+after(s)+"] Posthorn tunnel ready"))
	}
	if err := d.say("* OK [CAPABILITY " + capabilities + "] Posthorn tunnel ready"); err != nil {
		return nil, err
	}
	for {
		if s, err := d.command(ctx); s != nil || err != nil {
			return s, err
		}
	}
}

// command reads one command and executes it.
func (d *imapDialog) command(ctx context.Context) (*client.Session, error) {
	line, err := d.line()
	if err != nil {
		return nil, err
	}
	if d.commands == 0 && imapline.IsForeign(line) {
		return nil, imapline.FatalError("This is an IMAP server")
	}
	if d.commands++; d.commands > maxCommands {
		return nil, errTooMany
	}
	tag, rest, ok := imapline.CutTag(line)
	p := &imapline.Parser{In: &d.in, MaxLine: maxLine, MaxLiteral: maxLiteral, Proceed: d.proceed, Line: rest}
	var s *client.Session
	if !ok {
		p.Line = line
		err = imapline.SyntaxError("Invalid tag")
	} else if name, nameErr := p.Atom(); nameErr != nil {
		err = imapline.SyntaxError("Missing command")
	} else {
		s, err = d.execute(ctx, tag, strings.ToUpper(name), p)
	}
	if bad := imapline.SyntaxError(""); errors.As(err, &bad) {
		err = d.refuse(tag, bad, p)
	}
	return s, err
}

const authenticate = "AUTHENTICATE "

// line reads the first line of a command, which may be longer when there is a SASL
// response in it.
func (d *imapDialog) line() ([]byte, error) {
	line, err := d.in.Line(maxLine)
	if err != imapline.ErrLong {
		return line, err
	}
	_, rest, _ := imapline.CutTag(d.in.Pending())
	if len(rest) < len(authenticate) || !strings.EqualFold(string(rest[:len(authenticate)]), authenticate) {
		return nil, err
	}
	return d.in.Line(2 * maxLine)
}

// refuse answers BAD. What follows a literal that was announced without waiting
// cannot be told from commands when it was not read.
func (d *imapDialog) refuse(tag string, why imapline.SyntaxError, p *imapline.Parser) error {
	if err := d.say(tag + " BAD " + string(why)); err != nil {
		return err
	}
	if d.bad++; d.bad >= maxBad {
		return errTooBad
	}
	if p.Announces() {
		return imapline.FatalError("Cannot skip the literal of a refused command")
	}
	return nil
}

func (d *imapDialog) execute(ctx context.Context, tag, name string, p *imapline.Parser) (*client.Session, error) {
	switch name {
	case "CAPABILITY":
		return nil, d.simple(p, "* CAPABILITY "+capabilities, tag+" OK CAPABILITY completed")
	case "NOOP":
		return nil, d.simple(p, tag+" OK NOOP completed")
	case "LOGOUT":
		if err := d.simple(p, "* BYE Logging out", tag+" OK LOGOUT completed"); err != nil {
			return nil, err
		}
		return nil, errOver
	case "ID":
		if _, err := p.ID(); err != nil {
			return nil, err
		}
		return nil, d.say(`* ID ("name" "Posthorn tunnel")`, tag+" OK ID completed")
	case "LOGIN":
		return d.login(ctx, tag, p)
	case "AUTHENTICATE":
		return d.authenticate(ctx, tag, p)
	}
	return nil, imapline.SyntaxError("Unknown command before login")
}

// simple answers a command without arguments.
func (d *imapDialog) simple(p *imapline.Parser, lines ...string) error {
	if err := p.End(); err != nil {
		return err
	}
	return d.say(lines...)
}

func (d *imapDialog) login(ctx context.Context, tag string, p *imapline.Parser) (*client.Session, error) {
	var words [2]string // user, whoever that is, and password
	for i := range words {
		if err := p.Space(); err != nil {
			return nil, err
		}
		var err error
		if words[i], err = p.Astring(); err != nil {
			return nil, err
		}
	}
	if err := p.End(); err != nil {
		return nil, err
	}
	return d.conclude(ctx, tag, words[1])
}

func (d *imapDialog) authenticate(ctx context.Context, tag string, p *imapline.Parser) (*client.Session, error) {
	if err := p.Space(); err != nil {
		return nil, err
	}
	mechanism, err := p.Atom()
	if err != nil {
		return nil, err
	}
	var initial []byte
	if p.Take(' ') {
		if initial, err = imapline.DecodeSASL(p.Line); err != nil {
			return nil, err
		}
		p.Line = nil
	}
	if err := p.End(); err != nil {
		return nil, err
	}
	password, err := d.credentials(mechanism, initial, "+ ")
	switch {
	case err == errMechanism:
		return nil, d.say(tag + " NO [CANNOT] Mechanism not offered")
	case err != nil:
		return nil, err
	}
	return d.conclude(ctx, tag, password)
}

// conclude answers a login: with OK once the gateway's session is there.
func (d *imapDialog) conclude(ctx context.Context, tag, password string) (*client.Session, error) {
	if err := d.check(ctx, password); err != nil {
		return nil, d.deny(err, tag+" "+wrongIMAP)
	}
	s, err := d.session(ctx, alpn.IMAP)
	if err != nil {
		return nil, d.over(ctx, err, tag+" NO "+unavailable(err), "* BYE Try again later")
	}
	return d.keep(s, d.say(tag+" OK [CAPABILITY "+after(s)+"] Logged in"))
}

// unavailable words for programs why there is no session (RFC 5530). The password
// is not the reason, and nothing may look as if it were.
func unavailable(err error) string {
	if refused := new(client.LoginError); errors.As(err, &refused) {
		return "[CONTACTADMIN] The gateway does not let the tunnel log in"
	}
	return "[UNAVAILABLE] The gateway cannot be reached"
}

// after are the capabilities after login: the gateway's, without those that make
// sense before it alone.
func after(s *client.Session) string {
	var caps []string
	for _, c := range s.Offers {
		upper := strings.ToUpper(c)
		if upper != "STARTTLS" && upper != "LOGINDISABLED" && !strings.HasPrefix(upper, "AUTH=") && !strings.ContainsAny(c, "[]") {
			caps = append(caps, c)
		}
	}
	return strings.Join(caps, " ")
}

func (d *imapDialog) proceed() error { return d.say("+ Ready for literal data") }

func (d *imapDialog) goodbye(cause error) []byte {
	return []byte("* BYE " + imapline.Printable(cause.Error()) + "\r\n")
}

func (d *imapDialog) boundary() boundary { return new(imapBoundary) }

// imapBoundary follows the lines and literals of a server (RFC 9051 section 2.2).
// Once they are compressed, it does not find boundaries any more.
type imapBoundary struct {
	literal uint64 // octets of one that have yet to come
	line    []byte // the end of the line that has begun
	begun   []byte // the beginning of the response that has begun
	inside  bool   // of a response
	bye     bool
}

// maxAnnounce is the longest announcement of a literal: {18446744073709551615}.
const maxAnnounce = 24

func (s *imapBoundary) pass(b []byte) {
	for len(b) > 0 {
		if s.literal > 0 {
			n := min(uint64(len(b)), s.literal)
			s.literal -= n
			b = b[n:]
			continue
		}
		text, rest, whole := bytes.Cut(b, []byte{'\n'})
		s.keep(text)
		if !whole {
			s.inside = true
			return
		}
		b = rest
		s.bye = s.bye || bytes.EqualFold(s.begun, []byte(bye))
		if s.literal, s.inside = announced(s.line); !s.inside {
			s.begun = s.begun[:0]
		}
		s.line = s.line[:0]
	}
}

const bye = "* BYE"

// keep keeps the end of a line, and the beginning of a response.
func (s *imapBoundary) keep(b []byte) {
	s.begun = append(s.begun, b[:min(len(b), len(bye)-len(s.begun))]...)
	b = b[max(0, len(b)-maxAnnounce):]
	if over := len(s.line) + len(b) - maxAnnounce; over > 0 {
		s.line = s.line[:copy(s.line, s.line[min(over, len(s.line)):])]
	}
	s.line = append(s.line, b...)
}

// announced reads the size of the literal that a line announces at its end.
func announced(line []byte) (size uint64, ok bool) {
	line, ok = bytes.CutSuffix(bytes.TrimSuffix(line, []byte("\r")), []byte("}"))
	i := bytes.LastIndexByte(line, '{')
	if !ok || i < 0 || i+1 == len(line) {
		return 0, false
	}
	for _, ch := range line[i+1:] {
		if ch < '0' || ch > '9' || size > 1<<60 {
			return 0, false
		}
		size = 10*size + uint64(ch-'0')
	}
	return size, true
}

func (s *imapBoundary) here() bool   { return s.literal == 0 && !s.inside }
func (s *imapBoundary) parted() bool { return s.bye }
