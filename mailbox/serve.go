package mailbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/rs/zerolog"

	"posthorn/mailbox/guard"
)

// Capabilities is what sessions offer, as it stands in a CAPABILITY response
// code: "IMAP4rev1 IMAP4rev2 IDLE …".
func (s *Store) Capabilities() string { return s.capabilities }

// capabilityList is one string for all sessions, thousands of which keep it.
func capabilityList(appendLimit uint32) string {
	return fmt.Sprintf("IMAP4rev2 IMAP4rev1 LITERAL- ENABLE UNSELECT IDLE NAMESPACE UIDPLUS ESEARCH SEARCHRES "+
		"LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE CHILDREN MOVE STATUS=SIZE BINARY "+
		"APPENDLIMIT=%d ID QUOTA QUOTA=RES-STORAGE", appendLimit)
}

func (s *Store) appendLimit() uint32 { return uint32(min(s.options.MaxMessageSize, math.MaxInt32)) }

// serve starts the IMAP server, which waits for connections from ServeIMAP.
func (s *Store) serve() {
	s.capabilities = capabilityList(s.appendLimit())
	s.accept = &sessionListener{conns: make(chan *servedConn), closed: make(chan struct{})}
	s.server = imapserver.New(&imapserver.Options{
		NewSession: func(c *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			served, ok := c.NetConn().(*servedConn)
			if !ok {
				return nil, nil, errors.New("a connection from elsewhere")
			}
			served.session = s.newSession(c, served.user)
			return served.session, &imapserver.GreetingData{PreAuth: true}, nil
		},
		Caps: imap.CapSet{
			imap.CapIMAP4rev1:        {},
			imap.CapIMAP4rev2:        {},
			imap.CapBinary:           {},
			imap.CapSpecialUse:       {},
			imap.CapCreateSpecialUse: {},
			imap.CapStatusSize:       {},
			imap.CapSearchRes:        {},
		},
		Logger:       serverLog{s.options.Log},
		InsecureAuth: true,
	})
	s.served = make(chan struct{})
	go s.runServer()
}

func (s *Store) runServer() {
	defer close(s.served)
	if err := s.server.Serve(s.accept); err != nil {
		s.options.Log.Error().Err(err).Msg("IMAP server ended")
	}
}

// ServeIMAP speaks IMAP in the authenticated state with client on behalf of
// user, without a greeting (the caller has sent one), until LOGOUT, the end of
// either side, or the end of ctx: then it says BYE with the text of
// context.Cause(ctx). It does not close client. The error is io.EOF when the
// client hung up without LOGOUT.
func (s *Store) ServeIMAP(ctx context.Context, client net.Conn, user string) error {
	if !validUser(user) {
		return ErrNoUser
	}
	if !s.begin() {
		return ErrClosed
	}
	defer s.working.Done()
	if err := s.ensureUser(user); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &servedConn{user: user, cancel: cancel}
	c.Conn = guard.New(ctx, client, guard.Options{
		Capabilities: s.Capabilities(),
		ID:           []string{"name", "Posthorn"},
		AppendLimit:  int64(s.appendLimit()),
		Quota: func(ctx context.Context, mailbox string) (used, limit int64, exists bool, err error) {
			return s.Quota(ctx, user, mailbox)
		},
		Idle: func(wake func()) (stop func()) { return c.session.idle(wake) },
	})
	s.enter(c)
	defer s.exit(c)
	select {
	case s.accept.conns <- c:
	case <-s.accept.closed:
		return errors.Join(ErrClosed, c.Close())
	}
	return c.Run()
}

// ensureUser creates a user on first use.
func (s *Store) ensureUser(user string) error {
	err := s.view(func(v snapshot) error { return v.get(userKey(user), func([]byte) error { return nil }) })
	if !notFound(err) {
		return err
	}
	return s.committer.do(func(t *tx) error {
		_, err := t.openUser(user, s.options.Now())
		return err
	})
}

// servedConn is the connection that imapserver gets. It knows its user.
type servedConn struct {
	*guard.Conn
	user    string
	cancel  context.CancelCauseFunc
	session *session // set when imapserver begins
}

func (s *Store) enter(c *servedConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[c.user] == nil {
		s.sessions[c.user] = make(map[*servedConn]struct{}, 1)
	}
	s.sessions[c.user][c] = struct{}{}
	if s.closing {
		c.cancel(errShutdown)
	}
}

func (s *Store) exit(c *servedConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions[c.user], c)
	if len(s.sessions[c.user]) == 0 {
		delete(s.sessions, c.user)
	}
}

// endSessions ends the sessions of a user.
func (s *Store) endSessions(user string, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions[user] {
		c.cancel(cause)
	}
}

func (s *Store) endAllSessions(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conns := range s.sessions {
		for c := range conns {
			c.cancel(cause)
		}
	}
}

// sessionListener hands connections from ServeIMAP to imapserver.
type sessionListener struct {
	conns  chan *servedConn
	closed chan struct{}
}

func (l *sessionListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close is called once by Store.Close.
func (l *sessionListener) Close() error {
	close(l.closed)
	return nil
}

func (l *sessionListener) Addr() net.Addr { return &net.UnixAddr{Name: "mailbox", Net: "unix"} }

// serverLog sorts what imapserver has to say: a panic is an error of ours, all
// else is how conversations end.
type serverLog struct{ log zerolog.Logger }

func (l serverLog) Printf(format string, args ...any) {
	level := zerolog.DebugLevel
	if strings.HasPrefix(format, "panic") {
		level = zerolog.ErrorLevel
	}
	l.log.WithLevel(level).Str("note", fmt.Sprintf(format, args...)).Msg("imapserver")
}
