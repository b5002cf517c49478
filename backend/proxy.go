package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"posthorn/accounts"
	"posthorn/backend/upstream"
)

// ErrRefused says that a server does not let the gateway log in on behalf of
// its users: a mistake in the configuration of one of the two.
var ErrRefused = errors.New("the server refuses the gateway's own login")

// ErrPasswordNeeded says that nobody can log in to a server without the user's
// own password: there is no Method for it.
var ErrPasswordNeeded = errors.New("the server needs the user's password")

// ProxyConfig is a mail system behind the gateway: an IMAP server, a submission
// server, or both.
type ProxyConfig struct {
	Name string
	// KeepsPasswords says that the mail system checks passwords; else they are
	// checked here, and the logins of Server are used for them too.
	KeepsPasswords bool
	// LocalDomain is the one domain whose users are known there by the part
	// before the @; those of others are nobody there. Empty: all are known by
	// their addresses.
	LocalDomain      string
	IMAP, Submission *Server // nil: it has none
	// AnySender leaves it to the submission server which sender addresses an
	// account may use.
	AnySender bool
	// IMAPLoginTimeout is for a login at the IMAP server, which may create the
	// user; default 30 s. (For the time before it see Upstream.)
	IMAPLoginTimeout time.Duration
	// SubmissionTimeouts bound how long clients wait for the submission server.
	SubmissionTimeouts SubmissionTimeouts
	Log                zerolog.Logger
}

// Server is one of a mail system's servers.
type Server struct {
	Upstream upstream.Config // without Backend, Service, Open, and Log
	// Method logs in without the user's password; empty: only passwords do.
	Method Method
	// User and Password are the master user's; Separator stands between user
	// and master user with MasterSeparator; default: Dovecot's, "*".
	User, Password, Separator string
	// Inform says that the client's address is passed on in the protocol: ID
	// with x-originating-ip, or XCLIENT. (For a PROXY header see Upstream.)
	Inform bool
}

// Method is a way to log in on behalf of a user without the user's password.
type Method string

const (
	Master          Method = "master"           // SASL PLAIN as the master user, with the user as authorization identity
	MasterSeparator Method = "master-separator" // SASL PLAIN as user*master
	XClient         Method = "xclient"          // submission: Postfix's XCLIENT with LOGIN
	// ProxyCN is the user name as CN in the PROXY header's TLS part, and
	// EXTERNAL. On connections with TLS, Dovecot 2.3 looks for it elsewhere.
	ProxyCN Method = "proxy-cn"
	Trusted Method = "trusted" // submission: the server lets the gateway's address do it
)

// Proxy is the Backend for one mail system behind the gateway.
type Proxy struct {
	config     ProxyConfig
	imap       *imapServer       // nil: there is none
	submission *submissionServer // nil: there is none
}

// NewProxy returns the Backend for a mail system. It opens no connection.
func NewProxy(c ProxyConfig) (*Proxy, error) {
	p := &Proxy{config: c}
	var err error
	if c.IMAP != nil {
		if p.imap, err = newIMAPServer(c); err != nil {
			return nil, fmt.Errorf("backend %s: IMAP: %w", c.Name, err)
		}
	}
	if c.Submission != nil {
		if p.submission, err = newSubmissionServer(c); err != nil {
			return nil, fmt.Errorf("backend %s: submission: %w", c.Name, err)
		}
	}
	return p, nil
}

// check reports what is missing for s's method, which must be one of those
// that are known.
func (s *Server) check(known ...Method) error {
	for _, m := range known {
		if s.Method != m {
			continue
		}
		if (m == Master || m == MasterSeparator) && (s.User == "" || s.Password == "" || strings.ContainsRune(s.User+s.Password, 0)) {
			return fmt.Errorf("method %s needs the master user's name and password", m)
		}
		if m == ProxyCN && !s.Upstream.ProxyProtocol {
			return fmt.Errorf("method %s needs the PROXY protocol", m)
		}
		return nil
	}
	return fmt.Errorf("unknown method %q", s.Method)
}

// Run checks the servers' health, and closes what has been idle too long, until
// ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if p.imap != nil {
		g.Go(func() error { return p.imap.pool.Run(ctx) })
	}
	if p.submission != nil {
		g.Go(func() error { return p.submission.run(ctx) })
	}
	return g.Wait()
}

// Status returns the state of every address.
func (p *Proxy) Status() []upstream.Status {
	var all []upstream.Status
	if p.imap != nil {
		all = append(all, p.imap.pool.Status()...)
	}
	if p.submission != nil {
		all = append(all, p.submission.status()...)
	}
	return all
}

// Collectors returns the metrics.
func (p *Proxy) Collectors() []prometheus.Collector {
	var all []prometheus.Collector
	if p.imap != nil {
		all = append(all, p.imap.collectors()...)
	}
	if p.submission != nil {
		all = append(all, p.submission.collectors()...)
	}
	return all
}

// OpenIMAP implements Backend.
func (p *Proxy) OpenIMAP(ctx context.Context, l *accounts.Login, c *Client) (IMAPSession, error) {
	if opened, ok := l.Opened.(*imapSession); ok && opened.server == p.imap {
		l.Opened = nil
		return opened, nil
	}
	closeOpened(l)
	if p.imap == nil {
		return nil, p.lacks(IMAP)
	}
	user, err := p.config.user(l.Account.Primary())
	if err != nil {
		return nil, err
	}
	session, err := p.imap.openAs(ctx, c, user)
	if err != nil {
		return nil, err
	}
	return session, nil
}

// closeOpened closes a conversation that cannot be used.
func closeOpened(l *accounts.Login) {
	if l.Opened != nil {
		_ = l.Opened.Close()
		l.Opened = nil
	}
}

// lacks is the error for a service that the mail system does not have.
func (p *Proxy) lacks(s Service) error {
	return fmt.Errorf("backend %s has no %s server", p.config.Name, s)
}

// user is the name by which the mail system knows the user with an address.
// Local parts of two domains would make one user of two people.
func (c *ProxyConfig) user(address string) (string, error) {
	if c.LocalDomain == "" {
		return address, nil
	}
	local, ok := strings.CutSuffix(address, "@"+c.LocalDomain)
	if !ok {
		return "", fmt.Errorf("backend %s knows users of %s only", c.Name, c.LocalDomain)
	}
	return local, nil
}

// Passwords implements Backend.
func (p *Proxy) Passwords(s Service, c *Client) accounts.Passwords {
	if !p.config.KeepsPasswords {
		return nil
	}
	return &proxyPasswords{p, s, c}
}

// proxyPasswords logs in to one of p's servers with users' own passwords.
type proxyPasswords struct {
	*Proxy
	service Service
	client  *Client
}

// Keeps implements accounts.Passwords.
func (p *proxyPasswords) Keeps(string, *accounts.Account) bool { return true }

// Login implements accounts.Passwords. An account is known by its primary
// address, whichever of its addresses it logs in with.
func (p *proxyPasswords) Login(ctx context.Context, address string, a *accounts.Account, password string) (io.Closer, error) {
	if a != nil {
		address = a.Primary()
	}
	user, err := p.config.user(address)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", accounts.ErrNotAsked, err)
	case p.service == IMAP && p.imap != nil:
		session, err := p.imap.openWith(ctx, p.client, user, password)
		if err != nil {
			return nil, err
		}
		return session, nil
	case p.service == SMTP && p.submission != nil:
		return p.submission.openWith(ctx, p.client, user, password)
	case p.service == SMTP: // which does not pass by itself
		return nil, fmt.Errorf("%w: %w", accounts.ErrNotAsked, errNoSubmission)
	}
	return nil, fmt.Errorf("%w: %w", accounts.ErrNotAsked, p.lacks(p.service))
}
