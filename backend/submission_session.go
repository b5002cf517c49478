package backend

import (
	"context"
	"errors"
	"io"
	"strings"
	"unicode"

	"github.com/emersion/go-smtp"
)

// What clients hear that no server said.
var (
	errNoSubmission  = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "This account cannot send mail here"}
	errNeedsPassword = &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "The mail server wants your password: log in with it"}
	errAuthLater     = &smtp.SMTPError{Code: 454, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "Temporary authentication failure"}
	errLost          = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "Connection to the mail server was lost, try again later"}
	errLoginLost     = &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "Connection to the mail server was lost, log in again"}
	errNotUTF8       = &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 6, 7}, Message: "The mail server takes no UTF-8 in addresses"}
	errHeaderUTF8    = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 6, 7}, Message: "The mail server takes no UTF-8 in headers"}
	errEightBit      = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 3}, Message: "The mail server takes no 8-bit content"}
	errNoDSN         = &smtp.SMTPError{Code: 555, EnhancedCode: smtp.EnhancedCode{5, 5, 4}, Message: "The mail server takes no parameters for delivery status notifications"}
)

// submission is a conversation with a submission server on behalf of a user. It
// outlives its connection, as long as another one can be opened without the
// user's password.
type submission struct {
	server  *submissionServer
	ctx     context.Context
	client  *Client
	account string // its ID; empty: the user's password was used
	user    string

	conn *submissionConn // nil: it is lost
	utf8 bool            // SMTPUTF8 was asked for
}

// connect makes sure that there is a connection: one that the account has left,
// or a new one.
func (s *submission) connect() error {
	if s.conn != nil {
		return nil
	}
	if s.account == "" {
		return errLoginLost
	}
	for {
		conn := s.server.idle.take(s.owner())
		if conn == nil {
			return s.dial()
		}
		if err := conn.revive(s.ctx); err == nil {
			s.conn = conn
			return nil
		}
		conn.close()
	}
}

// dial opens a new connection.
func (s *submission) dial() error {
	l, err := s.server.loginAs(s.user)
	if err == nil {
		s.conn, err = s.server.dial(s.ctx, s.client, l)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrPasswordNeeded):
		return errNeedsPassword
	}
	event := s.server.log.Warn()
	if errors.Is(err, ErrRefused) {
		event = s.server.log.Error()
	}
	event.Uint64("id", s.client.ID).Err(err).Msg("submission server cannot be used")
	return later
}

// owner is whom the connection belongs to: a server knows it as one account's,
// from one address.
func (s *submission) owner() connOwner {
	return connOwner{account: s.account, user: s.user, remote: s.client.Remote.Addr()}
}

// result is what the client hears of err. What a server did not say itself is
// for the log, and the end of the connection.
func (s *submission) result(operation string, err error) error {
	if err == nil {
		return nil
	}
	reply, ok := verdict(err)
	if !over(err) && !s.conn.dead {
		return reply
	}
	s.server.log.Warn().Uint64("id", s.client.ID).Str("operation", operation).Err(err).Msg("submission server failed")
	s.drop()
	if ok {
		return reply
	}
	return errLost
}

// over reports whether a command has failed because the conversation is over:
// its connection is, or the server has said so (RFC 5321 section 3.8).
func over(err error) bool {
	reply, ok := verdict(err)
	return err != nil && (!ok || reply.Code == 421)
}

func (s *submission) drop() {
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
}

// Mail implements smtp.Session. A connection may have died while it was idle:
// then nothing was begun on it, and it is done once more on a new one.
func (s *submission) Mail(from string, o *smtp.MailOptions) error {
	if err := s.connect(); err != nil {
		return err
	}
	again := s.conn.used && s.account != ""
	err := s.mail(from, o)
	if !again || !over(err) || s.ctx.Err() != nil {
		return s.result("MAIL", err)
	}
	s.drop()
	if err := s.dial(); err != nil {
		return err
	}
	return s.result("MAIL", s.mail(from, o))
}

func (s *submission) mail(from string, o *smtp.MailOptions) error {
	if o == nil {
		o = new(smtp.MailOptions)
	}
	can := s.conn.can
	switch {
	case !can.UTF8 && !isASCII(from):
		return errNotUTF8
	case !can.DSN && (o.Return != "" || o.EnvelopeID != ""):
		return errNoDSN
	}
	s.utf8 = o.UTF8
	// AUTH= is not passed on: who it names is not proved (RFC 4954 section 5).
	return s.conn.mail(s.ctx, from, &smtp.MailOptions{
		Size: o.Size, UTF8: o.UTF8 && can.UTF8, Return: o.Return, EnvelopeID: o.EnvelopeID,
	})
}

// Rcpt implements smtp.Session.
func (s *submission) Rcpt(to string, o *smtp.RcptOptions) error {
	if o == nil {
		o = new(smtp.RcptOptions)
	}
	switch {
	case s.conn == nil:
		return errLost
	case !s.conn.can.UTF8 && !isASCII(to):
		return errNotUTF8
	case !s.conn.can.DSN && (len(o.Notify) > 0 || o.OriginalRecipient != ""):
		return errNoDSN
	}
	return s.result("RCPT", s.conn.rcpt(s.ctx, to, o))
}

// Data implements smtp.Session.
func (s *submission) Data(r io.Reader) error {
	if s.conn == nil {
		return errLost
	}
	can := s.conn.can
	if !can.EightBitMIME || s.utf8 && !can.UTF8 {
		r = &sevenBit{in: r, headerOnly: can.EightBitMIME}
	}
	answer, err := s.conn.data(s.ctx, r)
	if err == nil {
		s.server.log.Debug().Uint64("id", s.client.ID).Str("answer", answer).Msg("message taken")
	}
	var unread *unreadError
	if !errors.As(err, &unread) {
		return s.result("DATA", err)
	}
	s.drop()
	if reply, ok := verdict(unread.cause); ok {
		return reply
	}
	return later
}

// Reset implements smtp.Session.
func (s *submission) Reset() {
	if s.conn == nil {
		return
	}
	if err := s.conn.reset(s.ctx); err != nil {
		_ = s.result("RSET", err)
		s.drop()
	}
}

// Logout implements smtp.Session. The connection may serve its client again.
func (s *submission) Logout() error {
	conn := s.conn
	s.conn = nil
	switch {
	case conn == nil, conn.dead:
	case s.account == "" || s.ctx.Err() != nil:
		conn.quit()
	default:
		s.server.idle.put(s.owner(), conn)
	}
	return nil
}

// Close implements io.Closer, for a conversation that nobody wants.
func (s *submission) Close() error {
	if s.conn != nil {
		s.conn.quit()
		s.conn = nil
	}
	return nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

// sevenBit is a message for a server that takes 7-bit content only, or only in
// headers. Clients may say what they send, or not; so what counts is what comes.
type sevenBit struct {
	in         io.Reader // lines, all of which end in CRLF
	headerOnly bool
	line       int  // octets of the line so far, without its end
	body       bool // the header is over
}

func (s *sevenBit) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	for i, c := range p[:n] {
		switch {
		case s.body && s.headerOnly:
			return n, err
		case c > unicode.MaxASCII && s.headerOnly:
			return i, errHeaderUTF8
		case c > unicode.MaxASCII:
			return i, errEightBit
		case c == '\n':
			s.body = s.body || s.line == 0
			s.line = 0
		case c != '\r':
			s.line++
		}
	}
	return n, err
}
