package accounts

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"slices"
	"time"

	"posthorn/authkeys"
	"posthorn/store"
)

// Peer is what is known of a connection before anybody has logged in.
type Peer struct {
	Remote netip.Addr           // after PROXY protocol
	Key    authkeys.Fingerprint // of the client certificate; zero: none, or of a refused type
	Scope  authkeys.Scope       // the one protocol that it wants to log in to
	TLS    *tls.ConnectionState // for channel binding (RFC 9266); nil: all logins are refused
	// Passwords checks those that the mail system behind the gateway keeps;
	// nil: all are kept here. With it SCRAM is not offered: it wants a verifier.
	Passwords Passwords
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
	// Opened is the conversation that took the password, from Peer.Passwords.
	// Whoever gets the Login passes it on to the backend, or closes it.
	Opened io.Closer

	password []byte // the record of the one that proved it; nil: none that is kept here
	recorded bool   // Recent tells of it
	version  uint64 // of the store, when it was last seen to hold; zero: not known
}

// RefusedError is the answer to every failed login. Peers hear one generic
// text, whatever the reason; the reason is for the log and holds no secret.
type RefusedError struct {
	Reason Reason
	Detail string // such as the fingerprint, or the mechanism's own complaint

	account string // whose key it was that was refused; empty: nobody's, or no key
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
	Moved         Reason = "account moved to another backend"
	OtherAccount  Reason = "key and password of different accounts"
	BadIdentity   Reason = "authorization identity of another account"
	Throttled     Reason = "throttled"
	Malformed     Reason = "malformed exchange"
	BadBinding    Reason = "channel binding mismatch"
	BadMechanism  Reason = "mechanism not offered"
	TooMany       Reason = "too many attempts on this connection"
)

func refuse(r Reason, detail string) error { return &RefusedError{Reason: r, Detail: detail} }

// refuseKey is refuse for a key of an account.
func refuseKey(r Reason, k authkeys.Key) error {
	return &RefusedError{r, k.Fingerprint.String(), k.Account}
}

// isRefusal tells a refusal from a store that failed or a context that ended.
func isRefusal(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused)
}

// keyMechanism is Login.Mechanism for a key without SASL.
const keyMechanism = "PREAUTH"

// Check reports whether l still holds: its account is there, enabled and at the
// same backend, and what proved it is what it was: a key is registered for the
// account, unexpired and in scope; a password that is kept here has not been set
// anew. A submission asks at each MAIL. On success it brings l up to date.
// Its errors are those of Auth.
func (s *Store) Check(ctx context.Context, l *Login) error {
	version := s.version()
	if version != 0 && version == l.version && (l.Expires.IsZero() || s.now().Before(l.Expires)) {
		if !l.Key.IsZero() {
			s.noteKey(l)
		}
		return nil
	}
	if err := s.checkAnew(ctx, l); err != nil {
		return err
	}
	l.version = version
	return nil
}

// version is that of the KV; zero: not known.
func (s *Store) version() uint64 {
	if kv, ok := s.kv.(store.Versioned); ok {
		return kv.Version()
	}
	return 0
}

func (s *Store) checkAnew(ctx context.Context, l *Login) error {
	if !l.Key.IsZero() {
		return s.checkKey(ctx, l)
	}
	a, err := s.Get(ctx, l.Account.ID)
	switch {
	case errors.Is(err, ErrNoAccount):
		return refuse(UnknownUser, "account is gone")
	case err != nil:
		return err
	case a.Disabled:
		return refuse(Disabled, a.ID)
	}
	if l.password != nil { // which may have been replaced since: SCRAM's last response is the client's to delay
		now, err := s.PasswordStamp(ctx, a.ID)
		switch {
		case err != nil:
			return err
		case now != l.PasswordStamp():
			return refuse(WrongPassword, a.ID)
		}
	}
	return l.update(a)
}

func (s *Store) checkKey(ctx context.Context, l *Login) error {
	now, err := s.byKey(ctx, l.Peer)
	switch {
	case err != nil:
		return err
	case l.Key != l.Peer.Key || now.Account.ID != l.Account.ID:
		return refuse(UnknownKey, l.Key.String()+" belongs to another account now")
	}
	if err := l.update(now.Account); err != nil {
		return err
	}
	l.Expires, l.NoPreauth = now.Expires, now.NoPreauth
	s.noteKey(l)
	return nil
}

// update gives l a newer snapshot of its account, or refuses one whose mail is
// elsewhere now than where l has led.
func (l *Login) update(a *Account) error {
	if a.Backend != l.Account.Backend {
		return refuse(Moved, a.ID)
	}
	l.Account = a
	if !slices.Contains(a.Addresses, l.Address) {
		l.Address = a.Primary()
	}
	return nil
}

// byKey finds who a peer's key logs in, as the registry and the account are
// now. It is the one place that decides whether a shown key counts: a key that
// is unknown, expired, out of scope or of a disabled account is as if it had
// not been shown. A password then decides alone, as it would on a connection
// without a key, so showing such a key gains and costs nothing.
func (s *Store) byKey(ctx context.Context, p Peer) (*Login, error) {
	if p.Key.IsZero() || p.TLS == nil {
		return nil, refuse(NoKey, "")
	}
	version := s.version()
	k, err := s.keys.Lookup(ctx, p.Key)
	if errors.Is(err, authkeys.ErrUnknown) {
		return nil, refuse(UnknownKey, p.Key.String())
	}
	if err != nil {
		return nil, err
	}
	switch err := k.Usable(p.Scope, s.now()); {
	case errors.Is(err, authkeys.ErrExpired):
		return nil, refuseKey(ExpiredKey, k)
	case err != nil, p.Scope == 0 && k.Scope != 0: // a peer that wants everything needs a key for everything
		return nil, refuseKey(ScopedKey, k)
	}
	a, err := s.Get(ctx, k.Account)
	switch {
	case errors.Is(err, ErrNoAccount):
		return nil, refuse(UnknownKey, p.Key.String()+" of an account that is gone")
	case err != nil:
		return nil, err
	case a.Disabled:
		return nil, refuseKey(Disabled, k)
	}
	return &Login{
		Account:   a,
		Address:   a.Primary(),
		Mechanism: keyMechanism,
		Key:       p.Key,
		Expires:   k.Expires,
		NoPreauth: k.NoPreauth,
		Peer:      p,
		version:   version,
	}, nil
}

// noteKey records that l's key was used.
func (s *Store) noteKey(l *Login) {
	s.recordLogin(l)
	s.keys.Used(l.Key, s.now(), l.Peer.Scope.String()+" "+l.Mechanism)
}
