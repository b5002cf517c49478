package admin

import (
	"context"

	"posthorn/accounts"
)

// ListBlocks returns the sources whose passwords are refused for a while, for
// too many wrong ones.
func (s *Service) ListBlocks(_ context.Context, who Actor) ([]accounts.Block, error) {
	if err := s.operator(who, "block list"); err != nil {
		return nil, err
	}
	return append([]accounts.Block{}, s.Accounts.Blocks()...), nil
}

// RemoveBlock forgets the failures of a source: an IP address, a network as
// ListBlocks shows it, or a fingerprint.
func (s *Service) RemoveBlock(ctx context.Context, who Actor, source string) error {
	const action = "block remove"
	if err := s.operator(who, action); err != nil {
		return err
	}
	if !accounts.IsSource(source) {
		return &InvalidError{"source", "must be an IP address, an IPv6 /64 or a fingerprint"}
	}
	return s.do(ctx, who, &Event{Action: action, Detail: source}, func() error {
		was, err := s.Accounts.Unblock(source)
		if err == nil && !was {
			err = ErrNoBlock
		}
		return err
	})
}
