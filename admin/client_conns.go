package admin

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"posthorn/accounts"
	"posthorn/mux"
	"posthorn/sessions"
)

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

// ListBlocks returns the sources whose passwords are refused for a while.
func (c *Client) ListBlocks(ctx context.Context) ([]accounts.Block, error) {
	return list[accounts.Block](ctx, c, "blocks", nil)
}

// RemoveBlock forgets the failures of a source.
func (c *Client) RemoveBlock(ctx context.Context, source string) error {
	if strings.Trim(source, ".") == "" {
		return &InvalidError{"source", "must be an IP address, an IPv6 /64 or a fingerprint"}
	}
	return c.call(ctx, "DELETE", "blocks/"+url.PathEscape(source), nil, nil)
}
