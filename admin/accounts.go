package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"posthorn/accounts"
	"posthorn/mux"
)

// MinPassword is how many characters a password must have that a person chose.
// What else it must be is for accounts to say.
const MinPassword = 8

// NewAccount is a request to create an account. Its password is empty,
// generated, or chosen.
type NewAccount struct {
	Address  string      `json:"address"`
	Password NewPassword `json:"password,omitzero"`
	Backend  string      `json:"backend,omitempty"` // empty: the default
}

// NewPassword says what an account's password shall be; the zero value: none.
type NewPassword struct {
	// Generate makes one; for a new account only if it would be kept here.
	Generate bool   `json:"generate,omitempty"`
	Chosen   string `json:"chosen,omitempty"`
}

// text returns the password, or an *InvalidError.
func (p NewPassword) text() (string, error) {
	switch {
	case p.Generate && p.Chosen != "":
		return "", &InvalidError{"password", "either generate or choose one"}
	case p.Generate:
		return accounts.GeneratePassword(), nil
	case p.Chosen == "":
		return "", nil
	case utf8.RuneCountInString(p.Chosen) < MinPassword:
		return "", &InvalidError{"password", fmt.Sprintf("must have at least %d characters", MinPassword)}
	}
	return p.Chosen, nil
}

// Account is an account and where its mail is.
type Account struct {
	*accounts.Account
	Home Home `json:"home"`
}

// CreatedAccount is a new account. Password is set when it was generated: this
// is the only time that anybody sees it.
type CreatedAccount struct {
	Account
	GeneratedPassword string `json:"password,omitempty"`
}

// AddAccount creates an account.
func (s *Service) AddAccount(ctx context.Context, who Actor, req NewAccount) (*CreatedAccount, error) {
	const action = "account add"
	if err := s.operator(who, action); err != nil {
		return nil, err
	}
	address, err := parseAddress(req.Address)
	if err != nil {
		return nil, err
	}
	if err := s.checkBackend(req.Backend); err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	created := new(CreatedAccount)
	created.Home = s.home(&accounts.Account{Addresses: []string{address}, Backend: req.Backend})
	switch {
	case created.Home.KeepsPasswords && req.Password.Chosen != "":
		return nil, fmt.Errorf("%s: %w", action, ErrPasswordElsewhere)
	case created.Home.KeepsPasswords:
		req.Password = NewPassword{}
	}
	password, err := req.Password.text()
	if err != nil {
		return nil, err
	}
	ev := Event{Action: action, Address: address, Detail: req.Backend}
	err = s.do(ctx, who, &ev, func() (err error) {
		n := accounts.NewAccount{Address: address, Password: password, Backend: req.Backend}
		if created.Account.Account, err = s.Accounts.Create(ctx, n); err == nil {
			ev.Account = created.ID
			ev.after(created.Account.Account)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if req.Password.Generate {
		created.GeneratedPassword = password
	}
	return created, nil
}

// ListAccounts returns all accounts.
func (s *Service) ListAccounts(ctx context.Context, who Actor) ([]Account, error) {
	return s.FindAccounts(ctx, who, AccountFilter{})
}

// AccountFilter says which accounts are asked for; zero fields do not matter.
type AccountFilter struct {
	Text     string // is a part of the ID or of an address, in any case
	Domain   string // of an address
	Backend  string // name of the one where its mail is
	Disabled *bool
}

func (f *AccountFilter) match(a Account) bool {
	has := func(test func(address string) bool) bool { return slices.ContainsFunc(a.Addresses, test) }
	text := strings.ToLower(f.Text)
	switch {
	case text != "" && !strings.Contains(a.ID, text) && !has(func(s string) bool { return strings.Contains(strings.ToLower(s), text) }):
	case f.Domain != "" && !has(func(s string) bool { return strings.HasSuffix(s, "@"+hostName(f.Domain)) }):
	case f.Backend != "" && a.Home.Backend != f.Backend:
	case f.Disabled != nil && a.Disabled != *f.Disabled:
	default:
		return true
	}
	return false
}

// FindAccounts returns the accounts that a filter lets through.
func (s *Service) FindAccounts(ctx context.Context, who Actor, f AccountFilter) ([]Account, error) {
	if err := s.operator(who, "account list"); err != nil {
		return nil, err
	}
	all := []Account{}
	for a, err := range s.Accounts.List(ctx) {
		if err != nil {
			return nil, fmt.Errorf("account list: %w", err)
		}
		if one := (Account{a, s.home(a)}); f.match(one) {
			all = append(all, one)
		}
	}
	return all, nil
}

// PageAccounts returns a part of the accounts that a filter lets through, in the order
// of their primary addresses. Without a filter no other accounts are read, only counted.
func (s *Service) PageAccounts(ctx context.Context, who Actor, f AccountFilter, c Cut) (*Page[Account], error) {
	list := ordered[Account]{name: func(a Account) string { return a.Primary() }}
	if f != (AccountFilter{}) {
		all, err := s.FindAccounts(ctx, who, f)
		if err != nil {
			return nil, err
		}
		list.items = all
		return list.page(c)
	}
	const action = "account list"
	if err := s.operator(who, action); err != nil {
		return nil, err
	}
	after, err := c.after()
	if err != nil {
		return nil, err
	}
	for a, err := range s.Accounts.ListAfter(ctx, after) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", action, err)
		}
		if list.items = append(list.items, Account{a, s.home(a)}); len(list.items) > c.Limit {
			break // one more says that there are more
		}
	}
	p := list.cut(list.items, c.Limit)
	if p.Total, err = s.Accounts.Count(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return p, nil
}

// AccountDetails is an account with what belongs to it.
type AccountDetails struct {
	Account
	Keys  []Key  `json:"keys"`
	Conns int    `json:"connections"`
	Mail  *Usage `json:"mail,omitempty"` // nil: kept elsewhere
}

// Usage is how much mail an account has.
type Usage struct {
	Bytes    int64 `json:"bytes"`
	Messages int   `json:"messages"`
}

// ShowAccount describes one account, named by ID or address.
func (s *Service) ShowAccount(ctx context.Context, who Actor, ref string) (*AccountDetails, error) {
	const action = "account show"
	a, err := s.find(ctx, who, action, ref)
	if err != nil {
		return nil, err
	}
	d := &AccountDetails{Account: Account{a, s.home(a)}}
	if d.Keys, err = s.listKeys(ctx, a); err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	for _, c := range s.Mux.Conns() {
		if c.Identity.Account == a.ID {
			d.Conns++
		}
	}
	if s.Mail != nil && d.Home.Embedded {
		d.Mail = new(Usage)
		if d.Mail.Bytes, d.Mail.Messages, err = s.Mail.Usage(ctx, a.ID); err != nil {
			return nil, fmt.Errorf("%s: %w", action, err)
		}
	}
	return d, nil
}

// SetDisabled disables or enables an account. Disabling ends its sessions, those on
// the web among them, before it returns: enabling brings none of them back.
func (s *Service) SetDisabled(ctx context.Context, who Actor, ref string, disabled bool, only ...Condition) (*accounts.Account, error) {
	action := "account enable"
	if disabled {
		action = "account disable"
	}
	return s.changeAccount(ctx, who, ref, Event{Action: action}, only, func(a *accounts.Account) error {
		if err := s.Accounts.SetDisabled(ctx, a.ID, disabled); err != nil || !disabled {
			return err
		}
		s.Mux.CloseAccount(a.ID, everyConn, mux.ErrRevoked)
		_, err := s.Sessions.RevokeAll(ctx, a.ID, "")
		return err
	})
}

// AddAddress gives an account one more address. One that it has already stays.
func (s *Service) AddAddress(ctx context.Context, who Actor, ref, address string, only ...Condition) (*accounts.Account, error) {
	address, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	ev := Event{Action: "account address add", Detail: address}
	return s.changeAccount(ctx, who, ref, ev, only, func(a *accounts.Account) error {
		if slices.Contains(a.Addresses, address) {
			return nil
		}
		return s.Accounts.AddAddress(ctx, a.ID, address)
	})
}

// RemoveAddress takes an address from an account.
func (s *Service) RemoveAddress(ctx context.Context, who Actor, ref, address string, only ...Condition) (*accounts.Account, error) {
	address, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	ev := Event{Action: "account address remove", Detail: address}
	return s.changeAccount(ctx, who, ref, ev, only, func(a *accounts.Account) error {
		return s.Accounts.RemoveAddress(ctx, a.ID, address)
	})
}

// changeAccount carries out an operator's change, which ev tells of, where only
// holds (ErrChanged), and returns the account as it is afterwards.
func (s *Service) changeAccount(ctx context.Context, who Actor, ref string, ev Event, only []Condition,
	act func(*accounts.Account) error) (is *accounts.Account, err error) {
	if err := s.operator(who, ev.Action); err != nil {
		return nil, err
	}
	a, err := s.find(ctx, who, ev.Action, ref)
	if err != nil {
		return nil, err
	}
	err = s.exclusively(ctx, a.ID, func() error {
		a, err := s.Accounts.Get(ctx, a.ID)
		if err == nil {
			err = all(only, AccountTag(a))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", ev.Action, err)
		}
		ev.Account, ev.Address = a.ID, a.Primary()
		return s.do(ctx, who, &ev, func() error {
			if err := act(a); err != nil {
				return err
			}
			if is, err = s.Accounts.Get(ctx, a.ID); err == nil {
				ev.change(a, is)
			}
			return err
		})
	})
	return is, err
}

// SetPassword sets, generates or (with the zero NewPassword) removes an
// account's password, and ends the sessions that the old one opened. It
// returns the password when it was generated. One that the account's mail system
// keeps cannot be set (ErrPasswordElsewhere), but one that is left over here can
// be removed.
func (s *Service) SetPassword(ctx context.Context, who Actor, ref string, p NewPassword, only ...Condition) (generated string, err error) {
	const action = "account password"
	a, err := s.find(ctx, who, action, ref)
	if err != nil {
		return "", err
	}
	password, err := p.text()
	if err != nil {
		return "", err
	}
	kept := s.home(a).KeepsPasswords
	if kept && password != "" {
		return "", fmt.Errorf("%s: %w", action, ErrPasswordElsewhere)
	}
	ev := Event{Action: action, Account: a.ID, Address: a.Primary(), Detail: p.detail()}
	err = s.exclusively(ctx, a.ID, func() error {
		was, err := s.Accounts.Get(ctx, a.ID)
		if err == nil {
			err = all(only, AccountTag(was))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		return s.do(ctx, who, &ev, func() error {
			if err := s.Accounts.SetPassword(ctx, a.ID, password); err != nil {
				return err
			}
			if is, err := s.Accounts.Get(ctx, a.ID); err == nil {
				ev.change(was, is)
			}
			if kept { // it opened none
				return nil
			}
			s.Mux.CloseAccount(a.ID, func(c mux.Info) bool { return c.Identity.Key.IsZero() }, mux.ErrRevoked)
			return nil
		})
	})
	if err != nil || !p.Generate {
		return "", err
	}
	return password, nil
}

func (p NewPassword) detail() string {
	switch {
	case p.Generate:
		return "generated"
	case p.Chosen != "":
		return "chosen"
	}
	return "removed"
}

func everyConn(mux.Info) bool { return true }

func isAddress(ref string) bool { return strings.Contains(ref, "@") }

func parseAddress(address string) (string, error) {
	norm, err := accounts.ParseAddress(address)
	if err != nil {
		return "", &InvalidError{"address", err.Error()}
	}
	return norm, nil
}
