package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/mux"
	"posthorn/sessions"
)

// Client asks a running gateway, over its unix socket or the network. Its methods do what
// Service's methods of the same names do; what the gateway refuses is a
// *Problem.
type Client struct {
	http  *http.Client
	base  string // URL of APIPath
	token string // empty: none
}

// NewClient returns a client of the gateway whose socket is at path. Nothing
// is dialled before the first request.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial}}, "http://gateway" + APIPath, ""}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call sends a request and decodes the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}

// send returns a response of success; the caller closes its body.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/"+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // the URL says nothing that the caller does not know
		}
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, readProblem(resp)
	}
	return resp, nil
}

// list gets all pages of a list.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	all := []T{}
	if query == nil {
		query = make(url.Values)
	}
	query.Set("limit", "1000")
	for {
		var p Page[T]
		if err := c.call(ctx, "GET", path+"?"+query.Encode(), nil, &p); err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
		if p.Next == "" {
			return all, nil
		}
		query.Set("cursor", p.Next)
	}
}

// of is the query for what belongs to an account; none for all.
func of(account string) url.Values {
	if account == "" {
		return make(url.Values)
	}
	return url.Values{"account": {account}}
}

// Status describes the running gateway.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	out := new(Status)
	return out, c.call(ctx, "GET", "status", nil, out)
}

// Audit returns the last entries of the audit trail, oldest first.
func (c *Client) Audit(ctx context.Context, limit int) (events []Event, err error) {
	if limit == 0 || limit > 1000 {
		events, err = list[Event](ctx, c, "audit", nil)
	} else {
		var p Page[Event]
		err = c.call(ctx, "GET", "audit?limit="+strconv.Itoa(limit), nil, &p)
		events = p.Items
	}
	if limit > 0 && len(events) > limit {
		events = events[:limit]
	}
	slices.Reverse(events)
	return events, err
}

// Backup copies a backup to w. After an error what w holds is of no use.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	resp, err := c.send(ctx, "GET", "backup", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

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

// ListBackends returns the state of every backend's servers.
func (c *Client) ListBackends(ctx context.Context) ([]BackendStatus, error) {
	return list[BackendStatus](ctx, c, "backends", nil)
}

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

// AddKey registers a key. Of req.PublicKey only the public part leaves this
// process, also when a private key stands beside it.
func (c *Client) AddKey(ctx context.Context, req NewKey) (*Key, error) {
	if _, err := authkeys.ParsePublicKey([]byte(req.PublicKey)); err != nil {
		return nil, badKey(err)
	}
	var err error
	if req.PublicKey, err = publicPart(req.PublicKey); err != nil {
		return nil, err
	}
	out := new(Key)
	return out, c.call(ctx, "POST", "keys", req, out)
}

// publicPart returns the first certificate or public key among a text's PEM
// blocks, or, when it holds no PEM at all, the text.
func publicPart(text string) (string, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return text, nil
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "CERTIFICATE") || strings.HasSuffix(block.Type, "PUBLIC KEY") {
			return string(pem.EncodeToMemory(block)), nil
		}
	}
	return "", &InvalidError{"public_key", "holds neither a certificate nor a public key"}
}

// ListKeys returns the keys of an account; account "" means all.
func (c *Client) ListKeys(ctx context.Context, account string) ([]Key, error) {
	return list[Key](ctx, c, "keys", of(account))
}

// ShowKey describes a key.
func (c *Client) ShowKey(ctx context.Context, f authkeys.Fingerprint) (*Key, error) {
	out := new(Key)
	return out, c.call(ctx, "GET", "keys/"+f.String(), nil, out)
}

// SetKey changes a key's settings.
func (c *Client) SetKey(ctx context.Context, f authkeys.Fingerprint, change KeyChange) (*Key, error) {
	out := new(Key)
	return out, c.call(ctx, "PATCH", "keys/"+f.String(), change, out)
}

// RemoveKey deletes a key.
func (c *Client) RemoveKey(ctx context.Context, f authkeys.Fingerprint) error {
	return c.call(ctx, "DELETE", "keys/"+f.String(), nil, nil)
}

// ListConns returns the live connections of an account; account "" means all.
func (c *Client) ListConns(ctx context.Context, account string) ([]mux.Info, error) {
	return list[mux.Info](ctx, c, "connections", of(account))
}

// CloseConn ends a live connection.
func (c *Client) CloseConn(ctx context.Context, id uint64) error {
	return c.call(ctx, "DELETE", "connections/"+strconv.FormatUint(id, 10), nil, nil)
}

// CloseConns ends all live connections of an account.
func (c *Client) CloseConns(ctx context.Context, account string) (int, error) {
	var out closed
	err := c.call(ctx, "DELETE", "connections?"+of(account).Encode(), nil, &out)
	return out.Closed, err
}

// ListSessions returns the web sessions of an account; account "" means all.
func (c *Client) ListSessions(ctx context.Context, account string) ([]sessions.Session, error) {
	return list[sessions.Session](ctx, c, "sessions", of(account))
}

// EndSession signs out a web session.
func (c *Client) EndSession(ctx context.Context, id string) error {
	return c.callID(ctx, "DELETE", "sessions/", id)
}

// EndSessions signs out all web sessions of an account.
func (c *Client) EndSessions(ctx context.Context, account string) (int, error) {
	var out closed
	err := c.call(ctx, "DELETE", "sessions?"+of(account).Encode(), nil, &out)
	return out.Closed, err
}

// AddToken makes a token.
func (c *Client) AddToken(ctx context.Context, req NewToken) (*CreatedToken, error) {
	out := new(CreatedToken)
	return out, c.call(ctx, "POST", "tokens", req, out)
}

// ListTokens returns all tokens, oldest first.
func (c *Client) ListTokens(ctx context.Context) ([]Token, error) {
	return list[Token](ctx, c, "tokens", nil)
}

// RemoveToken revokes a token.
func (c *Client) RemoveToken(ctx context.Context, id string) error {
	return c.callID(ctx, "DELETE", "tokens/", id)
}

// callID calls what has an ID.
func (c *Client) callID(ctx context.Context, method, above, id string) error {
	if strings.Trim(id, ".") == "" { // a path segment must not be empty or dots
		return &InvalidError{"id", "must not be empty"}
	}
	return c.call(ctx, method, above+url.PathEscape(id), nil, nil)
}

// ListBlocks returns the sources whose passwords are refused for a while.
func (c *Client) ListBlocks(ctx context.Context) ([]accounts.Block, error) {
	return list[accounts.Block](ctx, c, "blocks", nil)
}

// RemoveBlock forgets the failures of a source.
func (c *Client) RemoveBlock(ctx context.Context, source string) error {
	if strings.Trim(source, ".") == "" {
		return &InvalidError{"source", "must be an IP address or a fingerprint"}
	}
	return c.call(ctx, "DELETE", "blocks/"+url.PathEscape(source), nil, nil)
}
