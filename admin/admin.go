// Package admin holds every administrative operation once, below whatever
// transport asks for it: authorize, validate, audit, act. It also holds the
// operations' HTTP form, the unix socket that serves it, and the client that
// the command line uses; and the Enforcer, which ends live sessions whose
// right has ended.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/certs"
	"posthorn/certs/zone"
	"posthorn/mux"
	"posthorn/passkeys"
	"posthorn/sessions"
	"posthorn/store"
)

var (
	// ErrForbidden says that the actor may not do what it asked for.
	ErrForbidden = errors.New("not allowed")
	// ErrNoConn says that no live connection has the ID.
	ErrNoConn = errors.New("no such connection")
	// ErrNoBlock says that no such source is blocked.
	ErrNoBlock = errors.New("not blocked")
	// ErrNoBackup says that the store cannot write itself out.
	ErrNoBackup = errors.New("this store keeps its own backups")
)

// InvalidError says which field of a request is wrong, and why. Its text
// repeats nothing that could be a secret.
type InvalidError struct{ Field, Problem string }

func (e *InvalidError) Error() string { return e.Field + ": " + e.Problem }

// Mail is what the operations need of the embedded mailboxes. The methods are
// those of mailbox.Store.
type Mail interface {
	Usage(ctx context.Context, user string) (bytes int64, messages int, err error)
	RemoveUser(ctx context.Context, user string) error
	Backup(ctx context.Context, w io.Writer) error
}

// Service carries out the operations. Its exported fields are set before use
// and not changed after; its methods may be called concurrently.
type Service struct {
	Accounts *accounts.Store
	Keys     *authkeys.Store
	Mux      *mux.Server
	Sessions *sessions.Manager
	Passkeys *passkeys.Store
	Certs    *certs.Manager
	Mail     Mail     // nil: all mail is kept elsewhere
	Backends Backends // nil: all accounts are in Mail
	// Zones are what DNS records are computed from, one for each domain. Their
	// Keys and ECH are not used: those are the ones in force.
	Zones []zone.Deployment
	Store store.KV
	// Metrics are what the metrics operation shows; nil: none.
	Metrics prometheus.Gatherer
	// Limits returns the configured limits; nil: none.
	Limits   func() []Limit
	Instance Instance
	Log      zerolog.Logger
	// Privacy leaves addresses out of the log; account IDs stay.
	Privacy bool
	// AuditKeep is how many audit records are kept; zero: 10,000.
	AuditKeep int

	state atomic.Int32

	auditMu    sync.Mutex // guards auditCount
	auditCount int        // records in the store; 0: not counted yet
}

// Actor is who asks for an operation. The zero value may do nothing.
type Actor struct {
	// Name is for the audit trail, such as "uid 1000 (unix socket)".
	Name string
	// From is the address that the actor acts from, as far as the log may have
	// it; empty: not known, or this machine.
	From string
	// Operator may do everything.
	Operator bool
	// Scope is what others may do to everybody's.
	Scope Scope
	// Token is the one that lets the actor in; nil: something else does.
	Token *Token
	// Account is the ID of the one account that the actor may manage for
	// itself: its password, keys and connections; empty: none.
	Account string
}

// From returns an address as Actor.From may have it.
func (s *Service) From(a netip.Addr) string {
	if s.Privacy || !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// operator refuses everybody but those who may do it to everybody's.
func (s *Service) operator(who Actor, action string) error {
	if who.may(action) {
		return nil
	}
	return s.forbid(who, action)
}

// self refuses everybody but those whom operator lets pass and the account itself.
func (s *Service) self(who Actor, action, account string) error {
	if who.may(action) || who.Account != "" && who.Account == account {
		return nil
	}
	return s.forbid(who, action)
}

func (s *Service) forbid(who Actor, action string) error {
	s.Log.Warn().Str("actor", who.Name).Str("action", action).Msg("administration refused")
	return fmt.Errorf("%s: %w", action, ErrForbidden)
}

// find returns the account that ref names, by ID or by one of its addresses,
// when the actor may manage it. Actors who are no operators learn nothing about
// which other accounts exist.
func (s *Service) find(ctx context.Context, who Actor, action, ref string) (*accounts.Account, error) {
	a, err := s.lookup(ctx, ref)
	if err != nil && !who.may(action) {
		return nil, s.forbid(who, action)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return a, s.self(who, action, a.ID)
}

func (s *Service) lookup(ctx context.Context, ref string) (*accounts.Account, error) {
	if isAddress(ref) {
		return s.Accounts.ByAddress(ctx, ref)
	}
	return s.Accounts.Get(ctx, ref)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
