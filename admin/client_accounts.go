package admin

import (
	"context"
	"net/url"
	"strings"

	"posthorn/accounts"
)

// AddAccount creates an account.
func (c *Client) AddAccount(ctx context.Context, req NewAccount) (*CreatedAccount, error) {
	out := new(CreatedAccount)
	return out, c.call(ctx, "POST", "accounts", req, out)
}

// ListAccounts returns all accounts.
func (c *Client) ListAccounts(ctx context.Context) ([]Account, error) {
	return list[Account](ctx, c, "accounts", nil)
}

// ShowAccount describes one account.
func (c *Client) ShowAccount(ctx context.Context, ref string) (*AccountDetails, error) {
	out := new(AccountDetails)
	return out, c.callAccount(ctx, "GET", ref, "", nil, out)
}

// SetDisabled disables or enables an account.
func (c *Client) SetDisabled(ctx context.Context, ref string, disabled bool) (*Account, error) {
	out := new(Account)
	return out, c.callAccount(ctx, "PATCH", ref, "", accountChange{Disabled: &disabled}, out)
}

// SetBackend moves an account to another backend; name "" means the default.
func (c *Client) SetBackend(ctx context.Context, ref, name string) (*Account, error) {
	out := new(Account)
	return out, c.callAccount(ctx, "PATCH", ref, "", accountChange{Backend: &name}, out)
}

// RecentLogins returns the latest logins to an account, newest first.
func (c *Client) RecentLogins(ctx context.Context, ref string) ([]accounts.Attempt, error) {
	var out Logins
	err := c.callAccount(ctx, "GET", ref, "/logins", nil, &out)
	return out.Items, err
}

// RemoveAccount deletes an account with all that belongs to it.
func (c *Client) RemoveAccount(ctx context.Context, ref string) error {
	return c.callAccount(ctx, "DELETE", ref, "", nil, nil)
}

// SetPassword sets, generates or removes a password.
func (c *Client) SetPassword(ctx context.Context, ref string, p NewPassword) (string, error) {
	var out generated
	err := c.callAccount(ctx, "PUT", ref, "/password", p, &out)
	return out.Password, err
}

// AddAddress gives an account one more address.
func (c *Client) AddAddress(ctx context.Context, ref, address string) (*Account, error) {
	return c.address(ctx, "PUT", ref, address)
}

// RemoveAddress takes an address from an account.
func (c *Client) RemoveAddress(ctx context.Context, ref, address string) (*Account, error) {
	return c.address(ctx, "DELETE", ref, address)
}

func (c *Client) address(ctx context.Context, method, ref, address string) (*Account, error) {
	// One that is checked here is neither empty nor dots, which a path must
	// not hold.
	norm, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	out := new(Account)
	return out, c.callAccount(ctx, method, ref, "/addresses/"+url.PathEscape(norm), nil, out)
}

// callAccount calls what stands below an account's path.
func (c *Client) callAccount(ctx context.Context, method, ref, below string, in, out any) error {
	if strings.Trim(ref, ".") == "" { // a path segment must not be empty or dots
		return &InvalidError{"account", "must be an address or an ID"}
	}
	return c.call(ctx, method, "accounts/"+url.PathEscape(ref)+below, in, out)
}
