package accounts

import (
	"context"
	"errors"
	"strings"

	"posthorn/authkeys"
	"posthorn/store"
)

// Auth is one connection's dealings with the door. It counts the connection's
// password attempts; it is used by one goroutine at a time.
//
// Errors of its methods are *RefusedError, or another error when the store
// failed or ctx ended: then the peer hears that the service is unavailable,
// never that its credentials are wrong.
type Auth struct {
	store    *Store
	peer     Peer
	attempts int // passwords taken, whether or not they were evaluated
}

// NewAuth begins a connection's dealings.
func (s *Store) NewAuth(p Peer) *Auth { return &Auth{store: s, peer: p} }

// Key logs in by the key that was shown, without SASL: for IMAP's PREAUTH, and
// for submission. Each call looks the key and its account up anew. A login
// whose NoPreauth is set must not become a PREAUTH greeting.
func (a *Auth) Key(ctx context.Context) (*Login, error) {
	l, err := a.store.byKey(ctx, a.peer)
	if err != nil {
		a.store.recordRefusal(err, a.peer, keyMechanism, a.peer.Key, "")
		return nil, err
	}
	if !l.NoPreauth { // else it logs in later, by EXTERNAL or at MAIL
		a.store.noteKey(l)
	}
	return l, nil
}

// Password logs in with an address and a password, as IMAP's LOGIN does.
func (a *Auth) Password(ctx context.Context, address, password string) (*Login, error) {
	return a.password(ctx, claim{mechanism: mechLogin, user: address}, password)
}

// claim is who a peer says it is.
type claim struct {
	mechanism string
	user      string // authentication identity
	identity  string // authorization identity; empty: the same
}

func (a *Auth) password(ctx context.Context, c claim, password string) (*Login, error) {
	if c.user == "" || password == "" || strings.ContainsRune(c.user+password, 0) {
		return nil, refuse(Malformed, "empty or with a NUL")
	}
	return a.admit(ctx, c, func(t *attempt) (*Login, error) {
		if a.keeps(c, t.account) {
			return a.ask(ctx, t, password)
		}
		return a.local(ctx, t, func(v verifier) error {
			if !v.matches(password) {
				return errProof
			}
			return nil
		})
	})
}

// errProof is what a proof returns when it is sound and the password is wrong.
var errProof = errors.New("wrong password")

// attempt is a password that is being tried.
type attempt struct {
	claim
	candidate
	keyed   *Login // who the peer's key is; nil: nobody
	blocked bool   // it is refused whatever it turns out to be
	asked   bool   // the mail system behind the gateway has heard of it
}

// admit is the one way to try a password: when the peer may, and counted. Every
// refusal that try comes to counts as a failure, also that of a right password,
// which would otherwise be found out by not being counted.
func (a *Auth) admit(ctx context.Context, c claim, try func(*attempt) (*Login, error)) (*Login, error) {
	s := a.store
	if a.peer.TLS == nil {
		return nil, refuse(BadMechanism, "no TLS")
	}
	if a.attempts >= s.limiter.perConn() {
		return nil, refuse(TooMany, "")
	}
	a.attempts++
	keyed, err := s.byKey(ctx, a.peer)
	if err != nil && !isRefusal(err) {
		return nil, err
	}
	permit, err := s.limiter.begin(ctx, a.subject(keyed), foldUser(c.user))
	if err != nil {
		return nil, err
	}
	end := failed // so it is if try panics
	defer func() { permit.settle(end) }()
	t := &attempt{claim: c, keyed: keyed, blocked: permit.blocked}
	t.version = s.version()
	if t.account, err = s.find(ctx, c.user); err != nil {
		end = passed
		return nil, err
	}
	l, err := try(t)
	end = t.outcome(ctx, err)
	s.metrics.count(err)
	if err != nil {
		// A key that was shown may be another account's, whose owner is nobody's business.
		s.recordRefusal(err, a.peer, c.mechanism, authkeys.Fingerprint{}, t.id())
		return nil, err
	}
	s.recordLogin(l)
	return l, nil
}

// outcome is what an attempt that ended with err counts as.
func (t *attempt) outcome(ctx context.Context, err error) outcome {
	switch {
	case isRefusal(err):
		return failed
	case err == nil || !t.asked || errors.Is(err, ErrNotAsked):
		return passed
	case ctx.Err() != nil:
		// Mail systems answer wrong passwords late and right ones at once. Who
		// hangs up in between has guessed.
		return failed
	}
	return unanswered
}

// evaluate tries a password that is kept here: proof says whether the peer
// knows the one that a verifier was made from.
func (a *Auth) evaluate(ctx context.Context, c claim, proof func(verifier) error) (*Login, error) {
	return a.admit(ctx, c, func(t *attempt) (*Login, error) { return a.local(ctx, t, proof) })
}

func (a *Auth) local(ctx context.Context, t *attempt, proof func(verifier) error) (*Login, error) {
	if err := a.check(ctx, t, proof); err != nil {
		return nil, err
	}
	return t.login(t.claim, a.peer), nil
}

// check judges an attempt by proof. Everything that can refuse the login
// happens after proof has done its work, so that neither time nor count tells
// the reasons apart.
func (a *Auth) check(ctx context.Context, t *attempt, proof func(verifier) error) error {
	free, err := a.store.limiter.compute(ctx)
	if err != nil {
		return err
	}
	defer free()
	if err := a.store.verify(ctx, t.user, &t.candidate); err != nil {
		return err
	}
	err = t.judge(t.claim, t.keyed, proof(t.verifier))
	if t.blocked {
		return refuse(Throttled, "")
	}
	return err
}

// subject is whom a password attempt is counted against. A peer whose key
// counts answers for itself alone: what others do at its network address is
// not its doing, and what it may guess leads into no account but its own.
func (a *Auth) subject(keyed *Login) subject {
	if keyed != nil {
		return keySubject(keyed.Key)
	}
	return sourceSubject(a.peer.Remote)
}

// candidate is what is known of a user name: an account and its verifier, or
// as much of it as there is and a decoy.
type candidate struct {
	account  *Account // nil: unknown
	version  uint64   // of the store, from before it was asked for account
	record   []byte   // what verifier stands in; nil: a decoy
	verifier verifier
	decoy    bool
}

func (s *Store) candidate(ctx context.Context, user string) (c candidate, err error) {
	c.version = s.version()
	if c.account, err = s.find(ctx, user); err != nil {
		return c, err
	}
	err = s.verify(ctx, user, &c)
	return c, err
}

// find returns the account of a user; nil: there is none.
func (s *Store) find(ctx context.Context, user string) (*Account, error) {
	a, err := s.ByAddress(ctx, user)
	if errors.Is(err, ErrNoAccount) {
		return nil, nil
	}
	return a, err
}

// verify completes c by a verifier.
func (s *Store) verify(ctx context.Context, user string, c *candidate) error {
	c.verifier, c.decoy = s.decoys.verifier(foldUser(user)), true
	if c.account == nil {
		return nil
	}
	b, err := s.kv.Get(ctx, passwordPrefix+c.account.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c.verifier, err = decodeVerifier(b)
	c.record, c.decoy = b, false
	return err
}

// foldUser makes the spellings of one user name the same, whether or not there
// is such a user.
func foldUser(user string) string {
	if n, err := ParseAddress(user); err == nil {
		return n
	}
	return user
}

// id is the account's, or empty.
func (cand *candidate) id() string {
	if cand.account == nil {
		return ""
	}
	return cand.account.ID
}

// judge returns the refusal of c, or nil; proof is what the exchange itself
// came to.
func (cand *candidate) judge(c claim, keyed *Login, proof error) error {
	a := cand.account
	switch {
	case proof != nil && !errors.Is(proof, errProof):
		return proof
	case a == nil:
		return refuse(UnknownUser, "")
	case a.Disabled:
		return refuse(Disabled, a.ID)
	case cand.decoy:
		return refuse(NoPassword, a.ID)
	case proof != nil:
		return refuse(WrongPassword, a.ID)
	case keyed != nil && keyed.Account.ID != a.ID:
		return refuse(OtherAccount, keyed.Key.String())
	case c.identity != "" && !a.Has(c.identity):
		return refuse(BadIdentity, a.ID)
	}
	return nil
}

// login is the outcome of c once judge has let it pass.
func (cand *candidate) login(c claim, p Peer) *Login {
	as := c.user
	if c.identity != "" {
		as = c.identity
	}
	return &Login{Account: cand.account, Address: foldUser(as), Mechanism: c.mechanism, Peer: p, password: cand.record, version: cand.version}
}
