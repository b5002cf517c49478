package admin

import (
	"context"
	"net/http"

	"posthorn/accounts"
)

// AccountPath is the part of a path that names an account.
type AccountPath struct {
	Account string `path:"account" maxLength:"320" doc:"ID of the account, or one of its addresses."`
}

// addAccounts adds the operations about accounts.
func (a *api) addAccounts() {
	const tag = "accounts"
	missing := []int{http.StatusNotFound}
	add(a, operation{id: "listAccounts", tag: tag, action: "account list", method: "GET", path: "/accounts", summary: "The accounts, in order of their primary addresses"}, a.listAccounts)
	add(a, operation{
		id: "addAccount", tag: tag, action: "account add", method: "POST", path: "/accounts", summary: "Create an account", status: http.StatusCreated,
		about: "A generated password is in the answer, and can be read nowhere else.", fails: []int{http.StatusConflict, http.StatusPreconditionFailed},
	}, func(ctx context.Context, who Actor, in *struct {
		Fresh
		Body NewAccount
	}) (*tagged[*CreatedAccount], error) {
		made, err := a.AddAccount(ctx, who, in.Body)
		if err != nil {
			return nil, in.check(err)
		}
		return &tagged[*CreatedAccount]{AccountTag(made.Account.Account), made}, nil
	})
	add(a, operation{id: "getAccount", tag: tag, action: "account show", method: "GET", path: "/accounts/{account}", summary: "An account and what belongs to it", fails: missing},
		func(ctx context.Context, who Actor, in *struct{ AccountPath }) (*tagged[*AccountDetails], error) {
			d, err := a.ShowAccount(ctx, who, in.Account)
			if err != nil {
				return nil, err
			}
			return &tagged[*AccountDetails]{AccountTag(d.Account.Account), d}, nil
		})
	add(a, operation{
		id: "changeAccount", tag: tag, action: "account disable", method: "PATCH", path: "/accounts/{account}", summary: "Disable, enable or move an account",
		about: "One change at a time. Its sessions end where they are no longer allowed.", fails: []int{http.StatusNotFound, http.StatusPreconditionFailed},
	}, a.changeAccountBy)
	add(a, operation{id: "removeAccount", tag: tag, action: "account remove", method: "DELETE", path: "/accounts/{account}",
		summary: "Delete an account with its addresses, password, keys and mail", fails: []int{http.StatusNotFound, http.StatusPreconditionFailed}},
		func(ctx context.Context, who Actor, in *struct {
			AccountPath
			Seen
		}) (*nothing, error) {
			return done(a.RemoveAccount(ctx, who, in.Account, in.condition()))
		})
	add(a, operation{
		id: "setPassword", tag: tag, action: "account password", method: "PUT", path: "/accounts/{account}/password", summary: "Set, generate or remove a password",
		about: "An empty object removes it. Sessions that the old one opened end.", fails: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, a.setPassword)
	add(a, operation{id: "addAddress", tag: tag, action: "account address add", method: "PUT", path: "/accounts/{account}/addresses/{address}",
		summary: "Give an account an address", fails: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed}},
		func(ctx context.Context, who Actor, in *AddressPath) (*tagged[*Account], error) {
			return a.account(a.AddAddress(ctx, who, in.Account, in.Address, in.condition()))
		})
	add(a, operation{id: "removeAddress", tag: tag, action: "account address remove", method: "DELETE", path: "/accounts/{account}/addresses/{address}",
		summary: "Take an address from an account", fails: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed}},
		func(ctx context.Context, who Actor, in *AddressPath) (*tagged[*Account], error) {
			return a.account(a.RemoveAddress(ctx, who, in.Account, in.Address, in.condition()))
		})
	add(a, operation{
		id: "listLogins", tag: tag, action: "account logins", method: "GET", path: "/accounts/{account}/logins", summary: "The latest logins, newest first",
		about: "Successes and failures; those of one kind that come within an hour are one.", fails: missing,
	}, func(ctx context.Context, who Actor, in *struct{ AccountPath }) (*body[Logins], error) {
		all, err := a.RecentLogins(ctx, who, in.Account)
		return answer(Logins{all}, err)
	})
}

// Logins are the latest logins to an account, newest first.
type Logins struct {
	Items []accounts.Attempt `json:"items" nullable:"false"`
}

type AddressPath struct {
	AccountPath
	Seen
	Address string `path:"address" maxLength:"320" doc:"An e-mail address."`
}

type accountsQuery struct {
	Cut
	Text     string `query:"text" maxLength:"320" doc:"Only those whose ID, or one of whose addresses, contains this."`
	Domain   string `query:"domain" maxLength:"255" doc:"Only those with an address in this domain."`
	Backend  string `query:"backend" maxLength:"100" doc:"Only those whose mail is at this backend."`
	Disabled string `query:"disabled" enum:"true,false" doc:"Only those that are disabled, or that are not."`
}

func (a *api) listAccounts(ctx context.Context, who Actor, in *accountsQuery) (*body[*Page[Account]], error) {
	f := AccountFilter{Text: in.Text, Domain: in.Domain, Backend: in.Backend}
	if in.Disabled != "" {
		f.Disabled = new(in.Disabled == "true")
	}
	return answer(a.PageAccounts(ctx, who, f, in.Cut))
}

// account completes an account by where its mail is.
func (a *api) account(acc *accounts.Account, err error) (*tagged[*Account], error) {
	if err != nil {
		return nil, err
	}
	return &tagged[*Account]{AccountTag(acc), &Account{acc, a.home(acc)}}, nil
}

// accountChange is what PATCH takes: one of them.
type accountChange struct {
	Disabled *bool   `json:"disabled,omitempty"`
	Backend  *string `json:"backend,omitempty" doc:"Empty: that of its domain, or the default."`
}

func (a *api) changeAccountBy(ctx context.Context, who Actor, in *struct {
	AccountPath
	Seen
	Body accountChange
}) (*tagged[*Account], error) {
	switch c := in.Body; {
	case c.Disabled != nil && c.Backend != nil:
		return nil, &InvalidError{"change", "says more than one thing"}
	case c.Disabled != nil:
		return a.account(a.SetDisabled(ctx, who, in.Account, *c.Disabled, in.condition()))
	case c.Backend != nil:
		return a.account(a.SetBackend(ctx, who, in.Account, *c.Backend, in.condition()))
	}
	return nil, &InvalidError{"change", "says nothing to change"}
}

// generated is the answer to a new password.
type generated struct {
	Password string `json:"password,omitempty" doc:"The generated one."`
}

func (a *api) setPassword(ctx context.Context, who Actor, in *struct {
	AccountPath
	Seen
	Body NewPassword
}) (*body[generated], error) {
	p, err := a.SetPassword(ctx, who, in.Account, in.Body, in.condition())
	return answer(generated{p}, err)
}
