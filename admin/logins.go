package admin

import (
	"context"
	"fmt"

	"posthorn/accounts"
)

// RecentLogins returns the latest logins to an account (ID or address), and
// failures to log in to it, newest first.
func (s *Service) RecentLogins(ctx context.Context, who Actor, account string) ([]accounts.Attempt, error) {
	const action = "account logins"
	a, err := s.find(ctx, who, action, account)
	if err != nil {
		return nil, err
	}
	all, err := s.Accounts.Recent(ctx, a.ID)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return append([]accounts.Attempt{}, all...), nil
}
