package admin

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
)

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

// ListBackends returns the state of every backend's servers.
func (c *Client) ListBackends(ctx context.Context) ([]BackendStatus, error) {
	return list[BackendStatus](ctx, c, "backends", nil)
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
