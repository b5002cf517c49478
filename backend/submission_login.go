package backend

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"posthorn/accounts"
	"posthorn/backend/upstream"
)

var (
	errNoStartTLS  = errors.New("it does not offer STARTTLS")
	errNoMechanism = fmt.Errorf("%w: it does not offer a mechanism for this login", accounts.ErrNotAsked)
)

// open is upstream.Config.Open: greeting, EHLO, STARTTLS.
func (s *submissionServer) open(ctx context.Context, c *upstream.Conn) error {
	greeting, err := readSMTPReply(c.ReadLine)
	switch {
	case err != nil:
		return fmt.Errorf("greeting: %w", err)
	case greeting.code/100 == 4: // RFC 5321 section 3.8
		return fmt.Errorf("greeting: %w: %w", upstream.ErrBusy, greeting.err())
	case greeting.code != 220:
		return fmt.Errorf("greeting: %w", greeting.err())
	}
	ehlo, err := command(c, "EHLO "+ehloName(c), 250)
	if err != nil {
		return err
	}
	if s.config.Upstream.Security == upstream.StartTLS {
		if !parseSMTPOffer(ehlo.lines).has("STARTTLS") {
			return errNoStartTLS
		}
		if _, err := command(c, "STARTTLS", 220); err != nil {
			return err
		}
		if err := c.StartTLS(ctx); err != nil {
			return err
		}
		if ehlo, err = command(c, "EHLO "+ehloName(c), 250); err != nil {
			return err
		}
	}
	c.Offers = strings.Join(ehlo.lines, "\n")
	s.learn(c.Address(), parseSMTPOffer(ehlo.lines).submission())
	return nil
}

// quitSMTP is upstream.Config.Quit.
func quitSMTP(c *upstream.Conn) { _, _ = command(c, "QUIT", 221) }

// command has a command executed that go-smtp's client does not know, or not
// yet. Its error is the reply when that has another code than the wanted one.
func command(c *upstream.Conn, line string, code int) (smtpReply, error) {
	verb, _, _ := strings.Cut(line, " ")
	if c.R.Buffered() > 0 {
		return smtpReply{}, fmt.Errorf("%s: %w", verb, errUnasked)
	}
	if _, err := c.Conn.Write([]byte(line + "\r\n")); err != nil {
		return smtpReply{}, fmt.Errorf("%s: %w", verb, err)
	}
	reply, err := readSMTPReply(c.ReadLine)
	if err == nil && reply.code != code {
		err = reply.err()
	}
	if err != nil {
		return smtpReply{}, fmt.Errorf("%s: %w", verb, err)
	}
	return reply, nil
}

// smtpLogin is a way to become a user.
type smtpLogin struct {
	method  Method      // empty: the user's own password
	user    string      // in the PROXY header, or in XCLIENT; empty: it names nobody
	auth    sasl.Client // nil: nothing is to be said
	sent    credentials // what auth says; zero: no secret
	xclient bool
}

// say has the login made with SASL PLAIN.
func (l *smtpLogin) say(c credentials) {
	l.auth, l.sent = sasl.NewPlainClient(c.identity, c.user, c.password), c
}

// loginAs is the login without the user's own password.
func (s *submissionServer) loginAs(user string) (smtpLogin, error) {
	l := smtpLogin{method: s.config.Method, xclient: s.config.Inform}
	switch l.method {
	case Master:
		l.say(credentials{user, s.config.User, s.config.Password})
	case MasterSeparator:
		l.say(credentials{"", user + s.config.Separator + s.config.User, s.config.Password})
	case XClient:
		l.user, l.xclient = user, true
	case ProxyCN:
		l.user, l.auth = user, sasl.NewExternalClient("")
	case Trusted:
	default:
		return l, ErrPasswordNeeded
	}
	if l.auth != nil && l.method != ProxyCN && strings.Contains(user, s.config.Separator) {
		return l, errors.New("the master user's separator in a user name")
	}
	return l, nil
}

// loginWith is the login with a user's own password. A name that makes the user
// a master user is nobody's.
func (s *submissionServer) loginWith(user, password string) (smtpLogin, error) {
	if strings.Contains(user, s.config.Separator) || strings.ContainsRune(user+password, 0) {
		return smtpLogin{}, accounts.ErrWrongPassword
	}
	l := smtpLogin{xclient: s.config.Inform}
	l.say(credentials{"", user, password})
	return l, nil
}

// dial opens a connection for a client and logs in on it. The error wraps
// accounts.ErrNotAsked when it had come to nothing before the login.
func (s *submissionServer) dial(ctx context.Context, c *Client, l smtpLogin) (conn *submissionConn, err error) {
	began := time.Now()
	defer func() { s.logins.note(l.method, began, err) }()
	h := upstream.Header{Remote: c.Remote, Local: c.Local, ServerName: c.ServerName, TLS: c.TLS}
	if l.method == ProxyCN {
		h.CommonName = l.user
	}
	up, err := s.pool.Dial(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", accounts.ErrNotAsked, err)
	}
	err = up.Within(ctx, s.timeouts.Login, func() (err error) {
		conn, err = s.logIn(up, c, l)
		return err
	})
	if err != nil {
		_ = up.Close()
		return nil, fmt.Errorf("login at %s: %w", up.Address(), err)
	}
	return conn, nil
}

// logIn makes a new connection that of a user.
func (s *submissionServer) logIn(up *upstream.Conn, c *Client, l smtpLogin) (*submissionConn, error) {
	ehlo := smtpReply{code: 250, lines: strings.Split(up.Offers, "\n")}
	if l.xclient {
		if err := introduce(up, c.Remote, l.user); err != nil {
			return nil, fmt.Errorf("%w: %w", accounts.ErrNotAsked, refusal(err))
		}
		ehlo = smtpReply{} // which has to be said again
	}
	conn := newSubmissionConn(up, ehlo, &s.timeouts)
	if err := conn.hello(); err != nil {
		return nil, fmt.Errorf("%w: EHLO: %w", accounts.ErrNotAsked, err)
	}
	if l.auth == nil {
		return conn, nil
	}
	mechanism, _, err := l.auth.Start()
	if err != nil || !conn.offer().authenticates(mechanism) {
		return nil, errors.Join(errNoMechanism, err)
	}
	if err := conn.client.Auth(l.auth); err != nil {
		return nil, l.failed(err)
	}
	return conn, nil
}

// failed says what it means that AUTH failed. Only one code is a verdict on
// what was sent (RFC 4954 section 6).
func (l *smtpLogin) failed(err error) error {
	var reply *smtp.SMTPError
	rejected := errors.As(err, &reply) && reply.Code == 535
	if reply != nil && l.sent.repeatedIn(reply.Message) {
		err = &smtp.SMTPError{Code: reply.Code, EnhancedCode: reply.EnhancedCode, Message: withheld}
	}
	switch {
	case l.method == "" && rejected:
		return fmt.Errorf("%w: %w", accounts.ErrWrongPassword, err)
	case l.method != "":
		err = refusal(err)
	}
	return fmt.Errorf("AUTH: %w", err)
}

// refusal marks a server's final word on the gateway's own login.
func refusal(err error) error {
	if reply, ok := verdict(err); ok && reply.Code/100 == 5 {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// introduce tells Postfix of a client (Postfix's XCLIENT_README). One that does
// not do IPv6 itself knows no such addresses; it is told of none then.
func introduce(up *upstream.Conn, remote netip.AddrPort, user string) error {
	_, err := command(up, xclient(remote, user), 220)
	var reply *smtp.SMTPError
	if remote.Addr().Is6() && errors.As(err, &reply) && reply.Code == 501 {
		_, err = command(up, xclient(netip.AddrPort{}, user), 220)
	}
	return err
}

// xclient is the command for a client that is somewhere, and somebody; empty:
// nobody. What is not known of it has to be said too, or that of the gateway
// would be taken: its address may have rights that no client has.
func xclient(remote netip.AddrPort, user string) string {
	ip, address := remote.Addr().Unmap().WithZone(""), "[UNAVAILABLE]"
	switch {
	case ip.Is6():
		address = "IPV6:" + ip.String()
	case ip.IsValid():
		address = ip.String()
	}
	line := "XCLIENT NAME=[UNAVAILABLE] ADDR=" + address
	if ip.IsValid() {
		line += fmt.Sprintf(" PORT=%d", remote.Port())
	}
	if user != "" {
		line += " LOGIN=" + xtext(user)
	}
	return line
}

// xtext is RFC 3461 section 4's encoding.
func xtext(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c > ' ' && c < 0x7f && c != '+' && c != '=' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "+%02X", c)
		}
	}
	return b.String()
}
