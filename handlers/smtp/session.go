package smtp

import (
	"context"
	"errors"
	"io"
	"strings"
	"unicode"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/mux"
)

// session is one connection's conversation as go-smtp sees it: who is logged
// in, and the message under way. It is used on go-smtp's goroutine.
type session struct {
	h      *Handler
	ctx    context.Context
	conn   *mux.Conn
	guard  *guard
	auth   *accounts.Auth
	client backend.Client

	login    *accounts.Login // nil: nobody
	upstream gosmtp.Session  // the backend's, opened at AUTH or at the first MAIL; nil: none

	sender    string // for the message under way, also with MAIL FROM:<>
	anySender bool   // the backend decides whose addresses may be in that message
	utf8      bool   // SMTPUTF8 was asked for
}

func (h *Handler) newSession(ctx context.Context, c *mux.Conn, g *guard) *session {
	s := &session{h: h, ctx: ctx, conn: c, guard: g}
	s.client = backend.Client{ID: c.ID, Remote: c.Remote, Local: c.Local, ServerName: c.ServerName, TLS: c.TLS()}
	s.auth = h.Accounts.NewAuth(accounts.Peer{
		Remote:    c.Remote.Addr(),
		Key:       c.Key,
		Scope:     authkeys.ScopeSMTP,
		TLS:       s.client.TLS,
		Passwords: h.Backend.Passwords(backend.SMTP, &s.client),
	})
	return s
}

func (s *session) log() *zerolog.Logger {
	l := s.h.Log.With().Uint64("id", s.conn.ID).Logger()
	return &l
}

// panicked reports a panic outside of go-smtp's commands.
func (s *session) panicked(value any, stack []byte) {
	s.log().Error().Interface("panic", value).Bytes("stack", stack).Msg("panic in a submission")
}

func (s *session) loggedIn() bool { return s.login != nil }

// enterByKey logs in whoever showed a key that is known, unless AUTH is wanted
// of everybody. A key that does not count is no error: there may be a password.
// One that cannot be looked up is, lest its owner hear a final refusal.
func (s *session) enterByKey() error {
	if s.h.RequireAuth || s.conn.Key.IsZero() {
		return nil
	}
	login, err := s.auth.Key(s.ctx)
	if refused, ok := isRefused(err); ok {
		s.conn.AuthFailed("PREAUTH", string(refused.Reason))
		return nil
	}
	if err != nil {
		s.log().Warn().Err(err).Msg("client key cannot be looked up")
		return errLater
	}
	return s.enter(login)
}

// enter makes login the connection's, with the conversation that it has opened.
func (s *session) enter(login *accounts.Login) error {
	if err := s.admit(login); err != nil {
		if login.Opened != nil {
			_ = login.Opened.Close()
			login.Opened = nil
		}
		return err
	}
	s.dropUpstream()
	s.login = login
	if login.Opened != nil {
		return s.openUpstream()
	}
	return nil
}

// admit lets login have the connection, if mux and accounts still let it.
func (s *session) admit(login *accounts.Login) error {
	err := s.conn.SetIdentity(mux.Identity{
		Account:   login.Account.ID,
		Address:   login.Address,
		Mechanism: login.Mechanism,
		Key:       login.Key,
		Backend:   login.Account.Backend,
		Expires:   login.Expires,
	})
	if err != nil { // which mux logs
		return errConns
	}
	return s.confirm(login)
}

// confirm looks a login up again, after the connection has become its own: a
// revocation, or an expiry, that came before that did not find it.
func (s *session) confirm(login *accounts.Login) error {
	for {
		expires := login.Expires
		if err := s.h.Accounts.Check(s.ctx, login); err != nil {
			refused, ok := isRefused(err)
			if !ok {
				s.log().Warn().Err(err).Msg("login cannot be confirmed")
				return errLater
			}
			s.conn.AuthFailed(login.Mechanism, string(refused.Reason))
			return errRevoked
		}
		if login.Expires.Equal(expires) {
			return nil
		}
		s.conn.SetExpires(login.Expires) // and look whether that still holds
	}
}

// AuthMechanisms implements gosmtp.AuthSession.
func (s *session) AuthMechanisms() []string { return s.auth.Mechanisms(s.ctx) }

// Auth implements gosmtp.AuthSession.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	x, err := s.auth.Start(s.ctx, mechanism)
	if err != nil {
		return nil, s.authFailed(mechanism, err)
	}
	return &exchange{s, x, mechanism}, nil
}

// exchange is a SASL exchange whose errors are replies.
type exchange struct {
	s         *session
	x         *accounts.Exchange
	mechanism string
}

func (e *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = e.x.Next(response)
	switch {
	case err != nil:
		return nil, false, e.s.authFailed(e.mechanism, err)
	case done:
		return nil, true, e.s.enter(e.x.Login())
	}
	return challenge, false, nil
}

// authFailed notes why a login failed and returns what the client hears: what
// the backend has said, when that is neither yes nor no.
func (s *session) authFailed(mechanism string, err error) error {
	refused, ok := isRefused(err)
	if !ok {
		if reply := new(gosmtp.SMTPError); errors.As(err, &reply) {
			return shown(reply)
		}
		s.log().Warn().Err(err).Msg("logins are not available")
		return errAuthLater
	}
	if refused.Reason == accounts.BadMechanism {
		return errMechanism // and the name, which is the client's, stays out of the log
	}
	s.conn.AuthFailed(mechanism, string(refused.Reason))
	if refused.Reason == accounts.TooMany {
		return errTooMany
	}
	return errCredentials
}

// Mail implements gosmtp.Session. Whoever was disabled or lost the key since
// logging in is nobody now. The null sender is allowed: receipts have it
// (RFC 8098 section 3), and the message's From field is still checked.
func (s *session) Mail(from string, o *gosmtp.MailOptions) error {
	s.endMessage()
	if err := s.check(); err != nil {
		return err
	}
	s.anySender = s.h.Backend.Submission(s.login).AnySender
	address, err := s.checkSender(from, o.UTF8)
	if err != nil {
		return err
	}
	if err := s.openUpstream(); err != nil {
		return shown(err)
	}
	if err := s.upstream.Mail(address, o); err != nil {
		return shown(err)
	}
	s.utf8 = o.UTF8
	if s.sender = address; address == "" {
		s.sender = s.login.Address
	}
	return nil
}

// check returns an error unless somebody is logged in, still.
func (s *session) check() error {
	if s.login == nil {
		if err := s.enterByKey(); err != nil {
			return err
		}
	} else if err := s.h.Accounts.Check(s.ctx, s.login); err != nil {
		if _, refused := isRefused(err); !refused {
			return errLater
		}
		s.login = nil
		s.dropUpstream()
	}
	if s.login == nil {
		return errNotLoggedIn
	}
	return nil
}

// checkSender returns the normalized form of an own address, or of none. An
// address that the backend judges is left as it was written.
func (s *session) checkSender(from string, utf8 bool) (string, error) {
	if from == "" {
		return "", nil
	}
	if !utf8 && !isASCII(from) {
		return "", errNeedUTF8
	}
	address, err := accounts.ParseAddress(from)
	if err != nil {
		return "", errSenderSyntax
	}
	switch {
	case s.anySender:
		return from, nil
	case !s.login.Account.Has(address):
		return "", errForeignFrom
	}
	return address, nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

// Rcpt implements gosmtp.Session. The address goes on as it was written: its
// local part may be another system's, where case counts.
func (s *session) Rcpt(to string, o *gosmtp.RcptOptions) error {
	if !s.utf8 && !isASCII(to) {
		return errNeedUTF8
	}
	if !isRecipient(to) {
		return errRcptSyntax
	}
	switch original := o.OriginalRecipient; {
	case strings.ContainsFunc(original, unicode.IsControl):
		return errRcptOriginal
	case !s.utf8 && !isASCII(original): // RFC 6533 section 3
		return errNeedUTF8
	}
	return shown(s.upstream.Rcpt(to, o))
}

// isRecipient reports whether mail can go to an address: at a domain, or at the
// IP address of a server that has no name (RFC 5321 section 4.1.3).
func isRecipient(address string) bool {
	if local, domain, ok := strings.Cut(address, "@"); ok && isLiteral(domain) {
		address = local + "@localhost" // the rules for local parts are the same
	}
	_, err := accounts.ParseAddress(address)
	return err == nil
}

// Data implements gosmtp.Session. What go-smtp reads is empty; the message is
// in the guard.
func (s *session) Data(io.Reader) error {
	in := s.guard.body
	message, err := s.compose(&unhurried{in: in, excuse: func() { s.conn.OwesData(true) }})
	if err == nil {
		err = s.upstream.Data(message)
	}
	if in.err != nil { // else the backend's words for it would be shown
		err = in.err
	}
	s.log().Debug().Int64("octets", in.n).AnErr("refused", err).Msg("message")
	s.endMessage()
	return shown(err)
}

func (s *session) openUpstream() (err error) {
	if s.upstream == nil {
		s.upstream, err = s.h.Backend.OpenSubmission(s.ctx, s.login, &s.client)
		s.login.Opened = nil
	}
	return err
}

func (s *session) dropUpstream() {
	if s.upstream != nil {
		s.upstream.Logout()
		s.upstream = nil
	}
}

func (s *session) endMessage() { s.sender, s.utf8 = "", false }

// Reset implements gosmtp.Session.
func (s *session) Reset() {
	s.endMessage()
	if s.upstream != nil {
		s.upstream.Reset()
	}
}

// Logout implements gosmtp.Session. The session outlives it until ServeConn
// is done.
func (s *session) Logout() error { return nil }

func (s *session) close() { s.dropUpstream() }

// offer is what clients can do here, and whoever is logged in at the backend.
func (s *session) offer() backend.Submission { return s.h.offer(s.login) }

// isRefused reports whether err is the door's answer to wrong credentials, and
// not a failure of the door.
func isRefused(err error) (*accounts.RefusedError, bool) {
	var refused *accounts.RefusedError
	return refused, errors.As(err, &refused)
}
