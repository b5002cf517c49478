package certs

import "net/http"

// HTTPHandler answers the CA's http-01 challenges on port 80, and leaves all
// other requests to next, which normally redirects to HTTPS.
func (m *Manager) HTTPHandler(next http.Handler) http.Handler {
	if m.issuer == nil {
		return next
	}
	return m.issuer.client.HTTPHandler(next)
}
