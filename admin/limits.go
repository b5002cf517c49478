package admin

import "context"

// Limit is one of the configured limits.
type Limit struct {
	Name string `json:"name" doc:"Its key in the configuration."`
	// InForce is its value, as the configuration writes it.
	InForce string `json:"in_force"`
	// Configured is what the file says now; it comes into force at a reload.
	Configured string `json:"configured"`
}

// ListLimits returns the limits, as they are in force and as they are configured.
func (s *Service) ListLimits(_ context.Context, who Actor) ([]Limit, error) {
	if err := s.operator(who, "limit list"); err != nil {
		return nil, err
	}
	if s.Limits == nil {
		return []Limit{}, nil
	}
	return s.Limits(), nil
}
