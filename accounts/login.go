package accounts

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"

	"posthorn/authkeys"
)

// Peer is what is known of a connection before anybody has logged in.
type Peer struct {
	Remote netip.Addr           // after PROXY protocol
	Key    authkeys.Fingerprint // of the client certificate; zero: none, or of a refused type
	Scope  authkeys.Scope       // the one protocol that it wants to log in to
	TLS    *tls.ConnectionState // for channel binding (RFC 9266); never nil when logins are allowed
}

// Login is a peer that turned out to be somebody.
type Login struct {
	Account   *Account
	Address   string               // the address it logged in as; the primary one with a key alone
	Mechanism string               // "PREAUTH" for a key without SASL, else the SASL name; "LOGIN" for IMAP's command too
	Key       authkeys.Fingerprint // the key that proved it; zero: a password did
	Expires   time.Time            // when the key does; zero: never
	NoPreauth bool                 // the key asked not to be greeted with PREAUTH
	Peer      Peer
}

// RefusedError is the answer to every failed login. Peers hear one generic
// text, whatever the reason; the reason is for the log and holds no secret.
type RefusedError struct {
	Reason Reason
	Detail string // such as the fingerprint, or the mechanism's own complaint
}

func (e *RefusedError) Error() string { return "login refused: " + string(e.Reason) }

// Reason is why a login was refused, fit for logs and metric labels.
type Reason string

const (
	NoKey         Reason = "no key shown"
	UnknownKey    Reason = "unknown key"
	ExpiredKey    Reason = "expired key"
	ScopedKey     Reason = "key not for this protocol"
	Disabled      Reason = "account disabled"
	UnknownUser   Reason = "unknown user"
	NoPassword    Reason = "account has no password"
	WrongPassword Reason = "wrong password"
	OtherAccount  Reason = "key and password of different accounts"
	BadIdentity   Reason = "authorization identity of another account"
	Throttled     Reason = "throttled"
	Malformed     Reason = "malformed exchange"
	BadBinding    Reason = "channel binding mismatch"
	BadMechanism  Reason = "mechanism not offered"
	TooMany       Reason = "too many attempts on this connection"
)

// Auth is one connection's dealings with the door. It counts the connection's
// password attempts; it is used by one goroutine at a time.
//
// Errors of its methods are *RefusedError, or another error when the store
// failed or ctx ended: then the peer hears that the service is unavailable,
// never that its credentials are wrong.
type Auth struct{}

// NewAuth begins a connection's dealings.
func (s *Store) NewAuth(p Peer) *Auth { panic("unbuilt") }

// Key logs in by the key that was shown, without SASL: for IMAP's PREAUTH, and
// for submission. Each call looks the key and its account up anew. A login
// whose NoPreauth is set must not become a PREAUTH greeting.
func (a *Auth) Key(ctx context.Context) (*Login, error) { panic("unbuilt") }

// Mechanisms returns the SASL mechanisms to advertise, strongest first;
// EXTERNAL is among them only when Key would succeed.
func (a *Auth) Mechanisms(ctx context.Context) []string { panic("unbuilt") }

// Start begins a SASL exchange. A mechanism that is not offered is a
// *RefusedError with BadMechanism.
func (a *Auth) Start(ctx context.Context, mechanism string) (*Exchange, error) { panic("unbuilt") }

// Password logs in with an address and a password, as IMAP's LOGIN does.
func (a *Auth) Password(ctx context.Context, address, password string) (*Login, error) {
	panic("unbuilt")
}

// Check reports whether l still holds: its account is there and enabled, and
// its key, if one proved it, is registered for the account, unexpired and in
// scope. A submission asks at each MAIL. On success it brings l up to date.
func (s *Store) Check(ctx context.Context, l *Login) error { panic("unbuilt") }

// Exchange is one SASL exchange (RFC 4422). It implements go-sasl's Server.
type Exchange struct{}

// Next takes the client's response, nil when there was no initial response,
// and returns the next challenge, or done. A nil challenge without done and
// without error asks for the response with an empty challenge.
func (x *Exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	panic("unbuilt")
}

// Login is who logged in, once Next has returned done and no error.
func (x *Exchange) Login() *Login { panic("unbuilt") }

// Throttle limits password guessing. Zero fields take the defaults.
type Throttle struct {
	PerConn   int           // passwords evaluated on one connection; default 5
	PerSource int           // failures of one source (IPv4 address, IPv6 /64) in Window; default 10
	Window    time.Duration // default 20 s
	Block     time.Duration // for how long a source that went on is blocked; default 5 min
}
