package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"posthorn/accounts"
	"posthorn/backend/upstream"
	"posthorn/splice"
)

// imapServer is the IMAP part of a Proxy.
type imapServer struct {
	name    string // the backend's
	config  Server
	pool    *upstream.Pool
	logins  *logins
	recall  recall
	timeout time.Duration // of a login
	started string        // tells this process's connections from those of others
}

func newIMAPServer(c ProxyConfig) (*imapServer, error) {
	s := &imapServer{name: c.Name, config: *c.IMAP, logins: newLogins(c.Name, IMAP), timeout: cmp.Or(c.IMAPLoginTimeout, 30*time.Second)}
	if err := s.config.check("", Master, MasterSeparator, ProxyCN); err != nil {
		return nil, err
	}
	if s.config.Method == "" && !c.KeepsPasswords {
		return nil, errors.New("without a method nobody can log in, as passwords are not kept there")
	}
	s.config.Separator = cmp.Or(s.config.Separator, "*")
	s.started = strconv.FormatInt(time.Now().Unix(), 36)
	u := c.IMAP.Upstream
	u.Backend, u.Service, u.Log = c.Name, IMAP.String(), c.Log
	u.Open, u.Quit = s.open, quitIMAP
	var err error
	s.pool, err = upstream.New(u)
	return s, err
}

func (s *imapServer) collectors() []prometheus.Collector {
	return append(s.pool.Collectors(), s.logins.collectors()...)
}

// open is upstream.Config.Open.
func (s *imapServer) open(ctx context.Context, c *upstream.Conn) error {
	d := imapDialog{conn: c}
	offers, err := d.begin(ctx, s.config.Upstream.Security)
	c.Offers = offers
	if errors.Is(err, errIMAPBye) {
		return fmt.Errorf("%w: %w", upstream.ErrBusy, err)
	}
	return err
}

// openAs opens a session without the user's password.
func (s *imapServer) openAs(ctx context.Context, c *Client, user string) (*imapSession, error) {
	cred := imapCredentials{s.config.Method, credentials{user: s.config.User, password: s.config.Password}}
	switch s.config.Method {
	case "":
		return nil, fmt.Errorf("backend %s: imap: %w", s.name, ErrPasswordNeeded)
	case Master:
		cred.identity = user
	case MasterSeparator:
		cred.user = user + s.config.Separator + s.config.User
	case ProxyCN:
		cred.credentials = credentials{user: user}
	}
	if strings.Contains(user, s.config.Separator) {
		return nil, fmt.Errorf("backend %s: imap: separator in a user name", s.name)
	}
	return s.dial(ctx, c, cred)
}

// openWith opens a session with a user's own password, which is sent once. A
// name that makes the user a master user is nobody's.
func (s *imapServer) openWith(ctx context.Context, c *Client, user, password string) (*imapSession, error) {
	if strings.Contains(user, s.config.Separator) || strings.ContainsRune(user+password, 0) {
		return nil, accounts.ErrWrongPassword
	}
	return s.dial(ctx, c, imapCredentials{credentials: credentials{user: user, password: password}})
}

// dial opens a connection and logs in on it.
func (s *imapServer) dial(ctx context.Context, c *Client, cred imapCredentials) (session *imapSession, err error) {
	began := time.Now()
	defer func() { s.logins.note(cred.method, began, err) }()
	h := upstream.Header{Remote: c.Remote, Local: c.Local, ServerName: c.ServerName, TLS: c.TLS}
	if cred.method == ProxyCN {
		h.CommonName = cred.user
	}
	conn, err := s.pool.Dial(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("backend %s: imap: %w: %w", s.name, accounts.ErrNotAsked, err)
	}
	session = &imapSession{server: s, conn: conn}
	err = conn.Within(ctx, s.timeout, func() error { return session.logIn(c, cred) })
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("backend %s: imap: login at %s: %w", s.name, conn.Address(), err)
	}
	conn.Offers = "" // it has served
	session.head = append(session.head, conn.Detach()...)
	return session, nil
}

// imapSession is a connection to an IMAP server on which a user is logged in.
type imapSession struct {
	server       *imapServer
	conn         *upstream.Conn
	capabilities string
	head         []byte // what the server has said since
}

func (s *imapSession) logIn(c *Client, cred imapCredentials) error {
	offer := parseIMAPOffer(s.conn.Offers)
	var id []byte
	if s.server.config.Inform && offer.id {
		id = idCommand(c, strconv.FormatUint(c.ID, 10)+"."+s.server.started)
	}
	d := imapDialog{conn: s.conn}
	at := loginAt{s.conn.Address(), cred.name()}
	list, head, err := d.logIn(cred, offer, id, s.server.recall.list(at))
	if err == nil && d.asked {
		s.server.recall.keep(at, list)
	}
	s.capabilities, s.head = afterLogin(list), head
	return err
}

// Capabilities implements IMAPSession.
func (s *imapSession) Capabilities() string { return s.capabilities }

// Close implements IMAPSession.
func (s *imapSession) Close() error { return s.conn.Close() }

// Serve implements IMAPSession.
func (s *imapSession) Serve(ctx context.Context, client net.Conn) error {
	return s.link(client).Run(ctx)
}

// Start implements IMAPStarter.
func (s *imapSession) Start(ctx context.Context, client net.Conn, done func(error)) {
	s.link(client).Start(ctx, done)
}

func (s *imapSession) link(client net.Conn) *splice.Link {
	return &splice.Link{Client: client, Server: s.conn, Head: s.head, Goodbye: goodbyeIMAP}
}

// goodbyeIMAP says goodbye where a response can begin, as far as can be seen.
func goodbyeIMAP(cause error, last []byte) []byte {
	if len(last) > 0 && !strings.HasSuffix(string(last), "\r\n") {
		return nil
	}
	return []byte("* BYE " + printable(cause.Error()) + "\r\n")
}
