package admin

import (
	"context"
	"time"

	"posthorn/alpn"
)

// Tickets is the state of the session ticket keys of a class of protocols.
type Tickets struct {
	Class  string    `json:"class" enum:"mail,web"`
	Keys   int       `json:"keys" doc:"How many are accepted."`
	Made   time.Time `json:"made,omitzero" doc:"When the one that makes tickets was made."`
	Next   time.Time `json:"next,omitzero" doc:"When another one takes its place."`
	Accept int64     `json:"accepted_seconds" doc:"For how long a ticket is accepted."`
}

// ListTickets returns the state of the session ticket keys.
func (s *Service) ListTickets(_ context.Context, who Actor) ([]Tickets, error) {
	if err := s.operator(who, "ticket show"); err != nil {
		return nil, err
	}
	all := []Tickets{}
	for _, st := range s.Certs.Tickets() {
		t := Tickets{Class: "web", Keys: st.Keys, Made: st.Made, Next: st.Next, Accept: int64(st.Accept / time.Second)}
		if st.Class == alpn.Mail {
			t.Class = "mail"
		}
		all = append(all, t)
	}
	return all, nil
}

// RotateTickets has new keys make session tickets, and with discard those made
// before count no more.
func (s *Service) RotateTickets(ctx context.Context, who Actor, discard bool) ([]Tickets, error) {
	const action = "ticket rotate"
	if err := s.operator(who, action); err != nil {
		return nil, err
	}
	ev := Event{Action: action}
	if discard {
		ev.Detail = "tickets made before are not accepted"
	}
	if err := s.do(ctx, who, &ev, func() error { return s.Certs.RotateTickets(ctx, discard) }); err != nil {
		return nil, err
	}
	return s.ListTickets(ctx, Actor{Operator: true})
}
