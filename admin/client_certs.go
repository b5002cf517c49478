package admin

import (
	"context"
	"net/url"
	"strings"
)

// ListCerts describes the certificates of all server names.
func (c *Client) ListCerts(ctx context.Context) ([]Cert, error) {
	return list[Cert](ctx, c, "certificates", nil)
}

// ShowCert describes the certificates of one server name.
func (c *Client) ShowCert(ctx context.Context, name string) ([]Cert, error) {
	var out Certs
	err := c.callName(ctx, "GET", "certificates/", name, "", &out)
	return out.Items, err
}

// RenewCert gets new certificates for a server name; it may take minutes.
func (c *Client) RenewCert(ctx context.Context, name string) ([]Cert, error) {
	var out Certs
	err := c.callName(ctx, "POST", "certificates/", name, "/renewal", &out)
	return out.Items, err
}

// CheckCert looks at a server name from outside; address "" means where the DNS
// leads.
func (c *Client) CheckCert(ctx context.Context, name, address string) (*CertCheck, error) {
	out := new(CertCheck)
	return out, c.callName(ctx, "GET", "certificates/", name, "/check?address="+url.QueryEscape(address), out)
}

// ShowECH returns what to publish for Encrypted Client Hello.
func (c *Client) ShowECH(ctx context.Context) (*ECH, error) {
	out := new(ECH)
	return out, c.call(ctx, "GET", "ech", nil, out)
}

// Records returns the DNS records that a mail domain wants.
func (c *Client) Records(ctx context.Context, domain string) ([]Record, error) {
	var out Records
	err := c.callName(ctx, "GET", "records/", domain, "", &out)
	return out.Items, err
}

// callName calls what stands below the path of a host name.
func (c *Client) callName(ctx context.Context, method, above, name, below string, out any) error {
	if strings.Trim(name, ".") == "" { // a path segment must not be empty or dots
		return &InvalidError{"name", "must be a host name"}
	}
	return c.call(ctx, method, above+url.PathEscape(name)+below, nil, out)
}
