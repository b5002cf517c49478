// Package sessions keeps people signed in to the web pages. A session belongs to
// an account, is named by a random token in a cookie, and stands in the store under
// a hash of that token, so whoever reads the store cannot use it.
//
// A session ends when it is signed out or revoked, has been idle for too long or is
// too old; when its account is disabled or removed, or the account's password
// changes; and when the key that opened it may no longer do so.
package sessions

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/alexedwards/scs/v2"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/store"
)

// ErrNoSession says that an account has no session with the ID.
var ErrNoSession = errors.New("no such session")

// Cookie is the name of the cookie. Browsers keep the prefix for cookies that the
// host itself has set over TLS (RFC 6265bis section 4.1.3.2).
const Cookie = "__Host-posthorn"

// Session is a visit of somebody who has signed in.
type Session struct {
	// ID names the session to its owner and to operators. It is a hash of the
	// token (store.NameOf), and of no use as one.
	ID      string `json:"id"`
	Account string `json:"account"` // ID
	Address string `json:"address"` // that signed in
	How     How    `json:"how"`
	// Key is the key that signed in; zero: none did.
	Key authkeys.Fingerprint `json:"key,omitzero"`
	// Passkey is the ID of the passkey that signed in; empty: none did.
	Passkey   string    `json:"passkey,omitempty"`
	Created   time.Time `json:"created"`
	LastSeen  time.Time `json:"last_seen"` // to about a minute
	Expires   time.Time `json:"expires"`   // at the latest
	Remote    string    `json:"remote,omitempty"`
	UserAgent string    `json:"user_agent,omitempty"` // cut, printable

	// Stamp is accounts.Login.PasswordStamp of who signs in; empty: the session holds
	// with the password that the account has now.
	Stamp string `json:"-"`
	// Confirm is asked once the session can be found and ended, and before the browser
	// hears of it: an error, which SignIn returns, says that what signs in has lost its
	// right meanwhile. Nil: it holds.
	Confirm func(ctx context.Context) error `json:"-"`
	// Owner is the account as it was when the request came; nil in lists.
	Owner *accounts.Account `json:"-"`
}

// How says by what somebody has signed in.
type How string

const (
	Password How = "password"
	Key      How = "key"
	Passkey  How = "passkey"
)

// Config says where sessions are and how long they last.
type Config struct {
	Store    store.KV
	Accounts *accounts.Store
	Keys     *authkeys.Store
	// Idle and Max are how long a session lasts without a request, and at most;
	// 0: 30 minutes, 12 hours.
	Idle, Max time.Duration
	// Privacy leaves the visitor's network address out of the records.
	Privacy bool
	// Unavailable answers when the store fails; nil: 503.
	Unavailable http.Handler
	Log         zerolog.Logger
}

const (
	// maxPerAccount is how many sessions an account may have; the one that has been
	// idle longest gives way.
	maxPerAccount = 50
	// seenEvery is how often LastSeen is written.
	seenEvery = time.Minute
	// maxUserAgent is in characters.
	maxUserAgent = 160
)

// Manager keeps the sessions. Its methods may be called concurrently.
type Manager struct {
	Config
	tokens *scs.SessionManager
}

// New returns the sessions in c.Store.
func New(c Config) *Manager {
	if c.Idle == 0 {
		c.Idle = 30 * time.Minute
	}
	if c.Max == 0 {
		c.Max = 12 * time.Hour
	}
	m := &Manager{Config: c}
	m.tokens = &scs.SessionManager{ // scs.New would leave a goroutine behind
		Store:    (*tokenStore)(m),
		Codec:    codec{},
		Lifetime: c.Max,
		Cookie:   scs.SessionCookie{Name: Cookie, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode},
	}
	return m
}

type currentKey struct{}

// Current returns the session of the request that ctx belongs to.
func Current(ctx context.Context) (*Session, bool) {
	s, ok := ctx.Value(currentKey{}).(*Session)
	return s, ok
}

// Wrap finds the session of each request, for Current. The methods that take a
// request want one that has passed through Wrap.
func (m *Manager) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Cookie")
		token := ""
		if c, err := r.Cookie(Cookie); err == nil {
			token = c.Value
		}
		ctx, err := m.tokens.Load(r.Context(), token)
		if err != nil {
			m.unavailable(w, r, err)
			return
		}
		switch s, err := m.current(ctx); {
		case err != nil:
			m.unavailable(w, r, err)
			return
		case s != nil:
			ctx = context.WithValue(ctx, currentKey{}, s)
		case token != "":
			m.forget(ctx, w)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (m *Manager) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		m.Log.Error().Err(err).Msg("web session cannot be looked up")
	}
	if m.Unavailable != nil {
		m.Unavailable.ServeHTTP(w, r)
		return
	}
	http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
}

// current returns the session that Load has found, brought up to date; nil: there
// is none, or none any more.
func (m *Manager) current(ctx context.Context) (*Session, error) {
	rec, ok := m.tokens.Get(ctx, recordValue).(*record)
	if !ok {
		return nil, nil
	}
	owner, err := m.check(ctx, rec)
	switch {
	case errors.Is(err, errEnded):
		return nil, m.tokens.Destroy(ctx)
	case err != nil:
		return nil, err
	}
	s := rec.Session
	s.Owner = owner
	if seen := now(); seen.Sub(s.LastSeen) >= seenEvery {
		s.LastSeen = seen
		if err := m.seen(ctx, s.ID, seen); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

// SignIn begins a session on the response to r, in place of the one that the
// browser had. Of s it takes Account, Address, How, Key, Passkey, Stamp and Confirm;
// the rest is filled in. The token is a new one, so nobody can have planted it. ErrNoSession
// says that what signed in has lost its right meanwhile.
func (m *Manager) SignIn(w http.ResponseWriter, r *http.Request, s Session) error {
	s.Created = now()
	s.Expires = s.Created.Add(m.Max)
	return m.begin(w, r, s)
}

// Renew gives the session of r a new token, and makes it hold with the password
// that the account has now: after a change of it, when all others end.
func (m *Manager) Renew(w http.ResponseWriter, r *http.Request) error {
	s, ok := Current(r.Context())
	if !ok {
		return ErrNoSession
	}
	return m.begin(w, r, *s)
}

func (m *Manager) begin(w http.ResponseWriter, r *http.Request, s Session) error {
	ctx := r.Context()
	rec := &record{Session: s, Stamp: s.Stamp}
	if rec.Stamp == "" {
		var err error
		if rec.Stamp, err = m.Accounts.PasswordStamp(ctx, s.Account); err != nil {
			return err
		}
	}
	rec.LastSeen = now()
	rec.UserAgent = printable(r.UserAgent(), maxUserAgent)
	if !m.Privacy {
		rec.Remote = remote(r)
	}
	if err := m.tokens.RenewToken(ctx); err != nil {
		return err
	}
	m.tokens.Put(ctx, recordValue, rec)
	token, _, err := m.tokens.Commit(ctx)
	if err != nil {
		return err
	}
	// What ends sessions may have looked for them just before.
	if err := m.confirm(ctx, rec); err != nil {
		return errors.Join(err, m.tokens.Destroy(ctx))
	}
	m.tokens.WriteSessionCookie(ctx, w, token, s.Expires)
	return nil
}

// confirm returns why a session that is in the store should not have begun.
func (m *Manager) confirm(ctx context.Context, rec *record) error {
	_, err := m.check(ctx, rec)
	switch {
	case errors.Is(err, errEnded):
		return ErrNoSession
	case err == nil && rec.Confirm != nil:
		return rec.Confirm(ctx)
	}
	return err
}

// SignOut ends the session of r, if it has one.
func (m *Manager) SignOut(w http.ResponseWriter, r *http.Request) error {
	if err := m.tokens.Destroy(r.Context()); err != nil {
		return err
	}
	m.forget(r.Context(), w)
	return nil
}

// forget has the browser forget its cookie.
func (m *Manager) forget(ctx context.Context, w http.ResponseWriter) {
	m.tokens.WriteSessionCookie(ctx, w, "", time.Time{})
}

// now is to the second, as records are.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// remote is the client's address without its port.
func remote(r *http.Request) string {
	i := strings.LastIndexByte(r.RemoteAddr, ':')
	return strings.Trim(r.RemoteAddr[:max(i, 0)], "[]")
}

// printable cuts what a stranger wrote to n characters, and leaves out those that
// could upset a terminal or turn the direction of a line.
func printable(text string, n int) string {
	var b strings.Builder
	for _, c := range text {
		if n == 0 {
			break
		}
		if unicode.IsPrint(c) && c != unicode.ReplacementChar {
			b.WriteRune(c)
			n--
		}
	}
	return b.String()
}
