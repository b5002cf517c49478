package accounts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"posthorn/store"
)

// Passwords checks passwords of accounts that are kept by the mail system
// behind the gateway. What it keeps, it alone decides: a password that such an
// account has here as well is not looked at.
type Passwords interface {
	// Keeps reports whether the password for an address (normalized) is kept
	// there; a is the account that has it, nil when none has (yet).
	Keeps(address string, a *Account) bool
	// Login logs in there, once: a first login may create the user. It returns
	// the conversation that it has opened. The error wraps ErrWrongPassword
	// when the credentials were refused, and ErrNotAsked when they were not
	// sent; any other says nothing about them.
	Login(ctx context.Context, address string, a *Account, password string) (io.Closer, error)
}

var (
	// ErrWrongPassword is what Passwords.Login returns when the credentials
	// were refused.
	ErrWrongPassword = errors.New("wrong user name or password")
	// ErrNotAsked is what Passwords.Login returns when there was nobody to send
	// the credentials to. Attempts that end otherwise without a verdict use up
	// some of what their source may try.
	ErrNotAsked = errors.New("mail system could not be asked")
)

// keeps reports whether the mail system behind the gateway has the password for
// c. It never hears of what is no address.
func (a *Auth) keeps(c claim, account *Account) bool {
	if a.peer.Passwords == nil {
		return false
	}
	address, err := ParseAddress(c.user)
	return err == nil && a.peer.Passwords.Keeps(address, account)
}

// ask is check for a password that the mail system behind the gateway keeps.
//
// A disabled account's is sent there as well, so that time does not tell that
// it is disabled to those who do not know its password. The price is that a
// system which creates users at their first login may do so for one.
func (a *Auth) ask(ctx context.Context, t *attempt, password string) (l *Login, err error) {
	if err := a.unaskable(t, password); err != nil {
		return nil, a.check(ctx, t, func(v verifier) error { // as long as others take that are not asked
			v.matches(password)
			return err
		})
	}
	address := foldUser(t.user)
	t.asked = true
	opened, err := a.peer.Passwords.Login(ctx, address, t.account, password)
	defer func() {
		if l == nil && opened != nil {
			_ = opened.Close() // its client is refused; there is nothing to lose
		}
	}()
	switch {
	case errors.Is(err, ErrWrongPassword):
		return nil, refuse(WrongPassword, t.id())
	case err != nil:
		return nil, err
	}
	if t.account == nil {
		if t.account, err = a.store.adopt(ctx, address); err != nil {
			return nil, err
		}
	}
	if err := t.judge(t.claim, t.keyed, nil); err != nil {
		return nil, err
	}
	l = t.login(t.claim, a.peer)
	l.Opened = opened
	return l, nil
}

// unaskable returns why an attempt is refused without a word to the mail
// system, where it might create a user; else nil. Nobody learns from it, or from
// the time that it saves, what is not public or the peer's own.
func (a *Auth) unaskable(t *attempt, password string) error {
	switch {
	case t.blocked:
		return refuse(Throttled, "")
	case !a.store.serves(foldUser(t.user)):
		return refuse(UnknownUser, "domain is not served here")
	case t.keyed != nil && (t.account == nil || t.account.ID != t.keyed.Account.ID):
		return refuse(OtherAccount, t.keyed.Key.String())
	case len(password) > maxPassword || !isText([]byte(password)):
		return refuse(WrongPassword, "with what no password has")
	}
	return nil
}

// serves reports whether a normalized address lies in one of Options.Domains.
func (s *Store) serves(address string) bool {
	return s.domains == nil || slices.Contains(s.domains, domainOf(address))
}

// errElsewhere says that an address was given to an account for which the mail
// system was not asked.
var errElsewhere = errors.New("address was given away during its first login")

// adopt returns the account that has a normalized address, and creates one if
// there is none: its user is known behind the gateway, and can have keys now.
// However many logins do so at once, there is one account.
func (s *Store) adopt(ctx context.Context, address string) (a *Account, err error) {
	fresh := s.newAccount(address)
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		id, err := tx.Get(ctx, addressPrefix+address)
		switch {
		case err == nil:
			a, err = getAccount(ctx, tx, string(id))
			if err == nil && (a.Primary() != address || a.Backend != "") {
				err = errElsewhere
			}
			return err
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		a = fresh
		if err := tx.Put(addressPrefix+address, []byte(a.ID)); err != nil {
			return err
		}
		return putAccount(tx, a)
	})
	if err != nil {
		return nil, fmt.Errorf("record a first login: %w", err)
	}
	if a == fresh {
		s.log.Info().Str("account", a.ID).Msg("account created by its first login")
	}
	return a, nil
}

// newAccount returns the record of an account to be.
func (s *Store) newAccount(address string) *Account {
	return &Account{ID: newID(), Addresses: []string{address}, Created: s.now().UTC().Truncate(time.Second)}
}
