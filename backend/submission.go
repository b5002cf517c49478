package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"posthorn/accounts"
	"posthorn/backend/upstream"
)

// submissionServer is the submission part of a Proxy.
type submissionServer struct {
	config    Server
	anySender bool
	timeouts  SubmissionTimeouts
	pool      *upstream.Pool
	idle      idleConns
	logins    *logins
	log       zerolog.Logger

	mu  sync.Mutex
	can map[string]Submission // by address, as it was said last; guarded by mu
}

func newSubmissionServer(c ProxyConfig) (*submissionServer, error) {
	s := &submissionServer{
		config:    *c.Submission,
		anySender: c.AnySender,
		timeouts:  c.SubmissionTimeouts.withDefaults(),
		logins:    newLogins(c.Name, SMTP),
		log:       c.Log.With().Str("backend", c.Name).Str("service", SMTP.String()).Logger(),
		can:       make(map[string]Submission),
	}
	if err := s.config.check("", Master, MasterSeparator, XClient, ProxyCN, Trusted); err != nil {
		return nil, err
	}
	if s.config.Method == "" && !c.KeepsPasswords {
		return nil, errors.New("without a method nobody can log in, as passwords are not kept there")
	}
	s.config.Separator = cmp.Or(s.config.Separator, "*")
	s.idle.time = s.timeouts.Idle
	u := c.Submission.Upstream
	u.Backend, u.Service, u.Log = c.Name, SMTP.String(), c.Log
	u.Open, u.Quit = s.open, quitSMTP
	var err error
	s.pool, err = upstream.New(u)
	return s, err
}

func (t SubmissionTimeouts) withDefaults() SubmissionTimeouts {
	return SubmissionTimeouts{
		Login:   cmp.Or(t.Login, 30*time.Second),
		Command: cmp.Or(t.Command, 2*time.Minute),
		Block:   cmp.Or(t.Block, 3*time.Minute),
		Final:   cmp.Or(t.Final, 10*time.Minute),
		Idle:    cmp.Or(t.Idle, 15*time.Second),
	}
}

func (s *submissionServer) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.pool.Run(ctx) })
	g.Go(func() error { return s.idle.run(ctx) })
	return g.Wait()
}

func (s *submissionServer) status() []upstream.Status { return s.pool.Status() }

func (s *submissionServer) collectors() []prometheus.Collector {
	return append(s.pool.Collectors(), s.logins.collectors()...)
}

// learn notes what the server at an address can do.
func (s *submissionServer) learn(address string, can Submission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.can[address] = can
}

// offer is what every address can do that was heard of. Before any was, it is
// what clients can do without, except for that which practically all servers
// have: sessions see to it that nothing is garbled by one that has not.
func (s *submissionServer) offer() Submission {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := Submission{EightBitMIME: true, UTF8: true, DSN: len(s.can) > 0}
	for _, one := range s.can {
		all = all.and(one)
	}
	all.AnySender = s.anySender
	return all
}

// Submission implements Backend.
func (p *Proxy) Submission(*accounts.Login) Submission {
	if p.submission == nil {
		return Submission{EightBitMIME: true, UTF8: true, DSN: true, AnySender: true} // which refuses nothing to others
	}
	return p.submission.offer()
}

// OpenSubmission implements Backend.
func (p *Proxy) OpenSubmission(ctx context.Context, l *accounts.Login, c *Client) (smtp.Session, error) {
	if opened, ok := l.Opened.(*submission); ok && opened.server == p.submission {
		l.Opened = nil
		opened.ctx = ctx
		return opened, nil
	}
	closeOpened(l)
	if p.submission == nil {
		p.config.Log.Error().Uint64("id", c.ID).Err(p.lacks(SMTP)).Msg("no submission")
		return nil, errNoSubmission
	}
	user, err := p.config.user(l.Account.Primary())
	if err != nil {
		p.config.Log.Error().Uint64("id", c.ID).Err(err).Msg("no submission")
		return nil, later
	}
	s := &submission{server: p.submission, ctx: ctx, client: c, user: user, account: l.Account.ID}
	if err := s.connect(); err != nil {
		return nil, err
	}
	return s, nil
}

// openWith opens a conversation with a user's own password, which is sent once.
// Its errors are those of accounts.Passwords; one that is an *smtp.SMTPError is
// the server's answer.
func (s *submissionServer) openWith(ctx context.Context, c *Client, user, password string) (io.Closer, error) {
	l, err := s.loginWith(user, password)
	if err != nil {
		return nil, err
	}
	conn, err := s.dial(ctx, c, l)
	if err == nil {
		return &submission{server: s, client: c, user: user, conn: conn}, nil
	}
	if errors.Is(err, accounts.ErrWrongPassword) {
		return nil, err
	}
	s.log.Warn().Uint64("id", c.ID).Err(err).Msg("password cannot be checked")
	if reply, ok := verdict(err); ok && !errors.Is(err, accounts.ErrNotAsked) {
		return nil, fmt.Errorf("AUTH: %w", reply)
	}
	return nil, fmt.Errorf("%w: %w", errAuthLater, err)
}
