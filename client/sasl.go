package client

import (
	"crypto/tls"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
)

// The SASL mechanisms, in the order of preference.
const (
	external  = "EXTERNAL"
	scramPlus = "SCRAM-SHA-256-PLUS"
	scramOnly = "SCRAM-SHA-256"
	plain     = "PLAIN"
)

// LoginError says that the gateway was reached and nobody is logged in. Trying
// another route would change nothing.
type LoginError struct {
	Mechanism string // empty: there is none in common
	Err       error  // such as *imap.Error or *smtp.SMTPError
}

func (e *LoginError) Error() string {
	if e.Mechanism == "" {
		return "login: " + e.Err.Error()
	}
	return "login with " + e.Mechanism + ": " + e.Err.Error()
}

// Unwrap returns what the server said.
func (e *LoginError) Unwrap() error { return e.Err }

var (
	// ErrNoMechanism says that the gateway offers no way to log in with what there
	// is: the key is not known there, or no password was given.
	ErrNoMechanism = errors.New("the gateway does not know the key, and there is no password that it would take")
	// ErrImpostor says that a server does not know the password that it pretends to
	// have checked (RFC 5802 section 5.1).
	ErrImpostor = errors.New("the server has not proved that it knows the password")
)

// exchange is a SASL exchange whose end can be judged.
type exchange interface {
	sasl.Client
	// finished returns nil when the client has seen all that it must before it
	// may believe in its success.
	finished() error
}

// mechanism is a way to log in, ready to be begun.
type mechanism struct {
	name  string
	begin func() (exchange, error)
}

// mechanisms are the ways to log in on a connection on which a server offers
// some, one for the key and one for the password, in order. There is no weaker
// one for a password that a stronger one has failed with.
func (d *Dialer) mechanisms(c *Conn, offered func(name string) bool) (all []mechanism) {
	config := &d.config
	if c.Shown && offered(external) {
		all = append(all, mechanism{external, func() (exchange, error) {
			return unproved{sasl.NewExternalClient(config.User)}, nil
		}})
	}
	if config.Password == "" {
		return all
	}
	names := []string{scramPlus, scramOnly, plain}
	i := slices.IndexFunc(names, offered)
	if i < 0 {
		return all
	}
	return append(all, mechanism{names[i], func() (exchange, error) {
		if names[i] == plain {
			return unproved{sasl.NewPlainClient("", config.User, string(config.Password))}, nil
		}
		return newScram(names[i], config.User, string(config.Password), c.ConnectionState())
	}})
}

// unproved is an exchange after which there is nothing to check.
type unproved struct{ sasl.Client }

func (unproved) finished() error { return nil }

// scramClient is SCRAM-SHA-256 or SCRAM-SHA-256-PLUS (RFC 7677), bound to the TLS
// connection (RFC 9266).
type scramClient struct {
	name string
	conv *scram.ClientConversation
}

// newScram binds to what the connection has. crypto/tls exports keying material
// whenever that is safe, and the gateway takes tls-exporter wherever it offers
// PLUS. Without PLUS the flag "y" tells the gateway, if it did offer it, that
// somebody took it away (RFC 5802 section 6).
func newScram(name, user, password string, state tls.ConnectionState) (*scramClient, error) {
	c, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		return nil, err
	}
	if name == scramOnly {
		return &scramClient{name, c.NewConversationAdvertisingChannelBinding()}, nil
	}
	binding, err := scram.NewTLSExporterBinding(&state)
	if err != nil {
		return nil, err
	}
	return &scramClient{name, c.NewConversationWithChannelBinding(binding)}, nil
}

// Start implements sasl.Client.
func (s *scramClient) Start() (string, []byte, error) {
	first, err := s.conv.Step("")
	return s.name, []byte(first), err
}

// maxIterations bounds what a server may make its client compute; it is some
// seconds' work.
const maxIterations = 10_000_000

var (
	errIterations = errors.New("the server asks for too many iterations")
	errAfterLast  = errors.New("the server goes on after the end")
)

// exchangeError is what a server's message in an exchange deserves.
type exchangeError struct{ error }

// Next implements sasl.Client.
func (s *scramClient) Next(challenge []byte) ([]byte, error) {
	if s.conv.Done() {
		return nil, exchangeError{errAfterLast}
	}
	for field := range strings.SplitSeq(string(challenge), ",") {
		if n, ok := strings.CutPrefix(field, "i="); ok {
			if i, err := strconv.Atoi(n); err != nil || i > maxIterations {
				return nil, exchangeError{errIterations}
			}
		}
	}
	response, err := s.conv.Step(string(challenge))
	if err != nil {
		return nil, exchangeError{err}
	}
	return []byte(response), nil
}

func (s *scramClient) finished() error {
	if !s.conv.Valid() {
		return ErrImpostor
	}
	return nil
}
