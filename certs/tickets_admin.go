package certs

import (
	"context"
	"time"

	"posthorn/alpn"
)

// TicketStatus is the state of a class's session ticket keys.
type TicketStatus struct {
	Class  alpn.Class
	Keys   int           // accepted now
	Made   time.Time     // when the one in use was made
	Next   time.Time     // when another takes its place
	Accept time.Duration // for how long tickets are accepted
}

// Tickets returns the state of each class's ticket keys.
func (m *Manager) Tickets() (all []TicketStatus) {
	keys := m.tickets.Load()
	for class, c := range m.config.ticketClasses() {
		st := TicketStatus{Class: alpn.Class(class), Keys: len(keys[class]), Accept: c.life}
		if len(keys[class]) > 0 {
			st.Made = keys[class][0].made
			st.Next = st.Made.Add(c.inUse())
		}
		all = append(all, st)
	}
	return all
}

// RotateTickets has a new key of each class make tickets at once. With discard,
// those that were made before are not accepted any more: every client makes a
// full handshake next. Listeners take up to a minute to follow.
func (m *Manager) RotateTickets(ctx context.Context, discard bool) error {
	return m.rotateWith(ctx, func(c ticketClass, old []ticketKey, now time.Time) []ticketKey {
		if discard {
			old = nil
		}
		return append([]ticketKey{newTicketKey(now)}, c.accepted(old, now)...)
	})
}
