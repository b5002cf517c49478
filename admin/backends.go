package admin

import (
	"context"
	"errors"
	"time"

	"posthorn/accounts"
	"posthorn/mux"
)

var (
	// ErrNoBackend says that no backend is configured that has the name.
	ErrNoBackend = errors.New("no such backend")
	// ErrPasswordElsewhere says that a password cannot be set here, because the
	// account's mail system keeps it.
	ErrPasswordElsewhere = errors.New("the account's mail system keeps its password")
)

// Backends are where accounts' mail is. The methods may be called concurrently.
type Backends interface {
	// Has reports whether there is a backend of that name.
	Has(name string) bool
	// Of returns where an account's mail is; the account may be one to be.
	Of(a *accounts.Account) Home
	// Status returns the state of every server.
	Status() []BackendStatus
}

// Home is where an account's mail is.
type Home struct {
	// Backend is the name: what the account's record says, else its domain's,
	// else the default. There need not be a backend of that name any more.
	Backend string `json:"backend"`
	// Embedded says that these are the gateway's own mailboxes.
	Embedded bool `json:"embedded"`
	// KeepsPasswords says that the mail system checks passwords, not the gateway.
	KeepsPasswords bool `json:"keeps_passwords"`
}

// The states of a server.
const (
	Up   = "up"
	Down = "down"
)

// BackendStatus is the state of one of a backend's servers. The embedded
// mailboxes have neither Service nor Address.
type BackendStatus struct {
	Name    string    `json:"name"`
	Service string    `json:"service,omitempty"` // "imap" or "submission"
	Address string    `json:"address,omitempty"`
	State   string    `json:"state"`          // Up or Down
	Since   time.Time `json:"since,omitzero"` // when State became what it is
	Conns   int       `json:"connections"`
	Error   string    `json:"error,omitempty"` // the last one, while down
}

// BackendCounts counts the servers' addresses.
type BackendCounts struct {
	Total int `json:"total"`
	Up    int `json:"up"`
}

// ListBackends returns the state of every backend's servers.
func (s *Service) ListBackends(_ context.Context, who Actor) ([]BackendStatus, error) {
	if err := s.operator(who, "backend list"); err != nil {
		return nil, err
	}
	return s.backends(), nil
}

func (s *Service) backends() []BackendStatus {
	if s.Backends == nil {
		return []BackendStatus{{Name: "embedded", State: Up}}
	}
	return s.Backends.Status()
}

func (s *Service) backendCounts() (n BackendCounts) {
	for _, b := range s.backends() {
		if b.Address == "" {
			continue
		}
		n.Total++
		if b.State == Up {
			n.Up++
		}
	}
	return n
}

// home returns where an account's mail is.
func (s *Service) home(a *accounts.Account) Home {
	if s.Backends == nil {
		return Home{Backend: "embedded", Embedded: true}
	}
	return s.Backends.Of(a)
}

// checkBackend returns ErrNoBackend unless there is a backend of that name; the
// empty name is the default.
func (s *Service) checkBackend(name string) error {
	if name == "" || s.Backends == nil && name == "embedded" || s.Backends != nil && s.Backends.Has(name) {
		return nil
	}
	return ErrNoBackend
}

// SetBackend moves an account to another backend, or with an empty name to that
// of its domain, and ends its sessions. Mail and passwords stay where they are.
func (s *Service) SetBackend(ctx context.Context, who Actor, ref, name string, only ...Condition) (*accounts.Account, error) {
	ev := Event{Action: "account backend", Detail: name}
	if name == "" {
		ev.Detail = "default"
	}
	return s.changeAccount(ctx, who, ref, ev, only, func(a *accounts.Account) error {
		if err := s.checkBackend(name); err != nil {
			return err
		}
		if err := s.Accounts.SetBackend(ctx, a.ID, name); err != nil {
			return err
		}
		s.Mux.CloseAccount(a.ID, func(c mux.Info) bool { return c.Identity.Backend != name }, mux.ErrEvicted)
		return nil
	})
}
