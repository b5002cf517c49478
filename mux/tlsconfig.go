package mux

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"posthorn/alpn"
)

// tlsConfigs holds a ready config for each way a handshake can go. None is made
// while a client waits.
type tlsConfigs struct {
	certs Certificates
	now   func() int64
	// base only asks configFor which of the others to use.
	base   *tls.Config
	routes map[routeKey]*tls.Config
	// noProtocol and noName end the handshake with the alerts
	// no_application_protocol and unrecognized_name. crypto/tls sends
	// internal_error when GetConfigForClient fails, so these fail later.
	noProtocol, noName *tls.Config

	refreshed atomic.Int64 // when the ticket keys were last looked at
	mu        sync.Mutex   // guards keys
	keys      map[alpn.Class][][32]byte
}

// routeKey is what of a route matters to its config.
type routeKey struct {
	class       alpn.Class
	nextProto   string
	requestCert bool
}

// ticketRefresh is how old our copy of the ticket keys may get.
const ticketRefresh = int64(time.Minute)

func newTLSConfigs(s *Server) *tlsConfigs {
	t := &tlsConfigs{
		certs: s.config.Certs, now: s.now,
		routes: map[routeKey]*tls.Config{}, keys: map[alpn.Class][][32]byte{},
	}
	for _, k := range []routeKey{
		{alpn.Mail, "", true}, {alpn.Mail, "imap", true}, {alpn.Mail, "smtp", true}, {alpn.Mail, "submission", true},
		{alpn.Web, "", false}, {alpn.Web, "h2", false}, {alpn.Web, "http/1.1", false}, {alpn.Web, "acme-tls/1", false},
		{alpn.Web, "", true}, {alpn.Web, "h2", true}, {alpn.Web, "http/1.1", true},
	} {
		r := alpn.Route{Class: k.class, NextProto: k.nextProto, RequestCert: k.requestCert}
		c := r.TLSConfig(s.config.MinVersion)
		c.GetCertificate, c.GetEncryptedClientHelloKeys = t.certs.GetCertificate, t.certs.ECHKeys
		t.routes[k] = c
	}
	t.base = alpn.Route{}.TLSConfig(s.config.MinVersion)
	t.base.GetConfigForClient = configFor
	t.base.SessionTicketsDisabled = true
	// base opens an encrypted hello; the route's config, to which that leads, has
	// the retry configs for one that does not open.
	t.base.GetEncryptedClientHelloKeys = t.certs.ECHKeys

	t.noName = alpn.Route{}.TLSConfig(s.config.MinVersion) // without a certificate
	t.noName.SessionTicketsDisabled = true                 // nor resumption, which needs none
	t.noProtocol = t.noName.Clone()
	t.noProtocol.NextProtos = []string{strings.Repeat("-", 256)} // longer than any offer can be
	t.refreshTickets()
	return t
}

// forRoute returns the config of a route.
func (t *tlsConfigs) forRoute(r alpn.Route) *tls.Config {
	if t.now()-t.refreshed.Load() > ticketRefresh {
		t.refreshTickets()
	}
	return t.routes[routeKey{r.Class, r.NextProto, r.RequestCert}]
}

// refreshTickets brings changed ticket keys to the configs. Handshakes that
// come while another one does it go on with the old keys.
func (t *tlsConfigs) refreshTickets() {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	t.refreshed.Store(t.now())
	for _, class := range []alpn.Class{alpn.Web, alpn.Mail} {
		keys := t.certs.TicketKeys(class)
		if len(keys) == 0 && t.keys[class] == nil {
			// Without keys a config would share those that crypto/tls makes for
			// base, and the classes with it.
			keys = make([][32]byte, 1)
			_, _ = rand.Read(keys[0][:]) // never fails
		}
		if len(keys) == 0 || slices.Equal(keys, t.keys[class]) {
			continue
		}
		t.keys[class] = slices.Clone(keys)
		for k, c := range t.routes {
			if k.class == class {
				c.SetSessionTicketKeys(ticketKeysFor(k, keys))
			}
		}
	}
}

// ticketKeysFor separates the web names that ask for certificates from those
// that do not: a ticket of the latter would resume without having been asked.
func ticketKeysFor(k routeKey, keys [][32]byte) [][32]byte {
	if k.class != alpn.Web || !k.requestCert {
		return keys
	}
	own := make([][32]byte, len(keys))
	for i, key := range keys {
		own[i] = sha256.Sum256(append([]byte("web with certificate\x00"), key[:]...))
	}
	return own
}
