package certs

import "time"

// SetBackoff has a failed attempt repeated after d.
func (m *Manager) SetBackoff(d time.Duration) {
	m.issuer.backoff = func(int, bool) time.Duration { return d }
}
