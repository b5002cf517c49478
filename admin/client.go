package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
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

// callID calls what has an ID.
func (c *Client) callID(ctx context.Context, method, above, id string) error {
	if strings.Trim(id, ".") == "" { // a path segment must not be empty or dots
		return &InvalidError{"id", "must not be empty"}
	}
	return c.call(ctx, method, above+url.PathEscape(id), nil, nil)
}
