// Package certs provides the server's certificates and session ticket keys. A
// handshake gets a ready certificate or fails at once: nothing here waits for
// a CA, a disk or a lock while a client does.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"

	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/store"
)

// Files names a PEM certificate chain and its private key on disk.
type Files struct{ Cert, Key string }

// Config says where certificates come from.
type Config struct {
	// Names are the server names that are served, in lower case; the first is
	// the default one, for clients that send no SNI.
	Names []string
	// Files are looked through first, for each of Names. Names that no file
	// covers get a self-signed certificate, whose key stays the same over
	// renewals and restarts.
	Files []Files
	// UnknownNameDefault serves the default certificate to names that are not
	// served, instead of the alert unrecognized_name.
	UnknownNameDefault bool
	Store              store.KV
	Log                zerolog.Logger
}

// Manager holds ready certificates. Its methods may be called concurrently.
type Manager struct{}

// New loads or makes every certificate of c. Errors name the file and what is
// wrong with it.
func New(ctx context.Context, c Config) (*Manager, error) { panic("unbuilt") }

// Reload reads the files again (SIGHUP). A pair that is broken now keeps its
// old certificate, and is in the error.
func (m *Manager) Reload(ctx context.Context) error { panic("unbuilt") }

// GetCertificate implements tls.Config.GetCertificate. It returns nil and no
// error for a name that is not served, which crypto/tls answers with the alert
// unrecognized_name when its config has no other certificate.
func (m *Manager) GetCertificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	panic("unbuilt")
}

// Serves reports whether a handshake with this SNI ("" for none) gets a
// certificate.
func (m *Manager) Serves(serverName string) bool { panic("unbuilt") }

// Default returns the certificate for clients that send no SNI, and the
// fingerprint of its public key.
func (m *Manager) Default() (*x509.Certificate, authkeys.Fingerprint) { panic("unbuilt") }

// TicketKeys returns a class's session ticket keys for
// tls.Config.SetSessionTicketKeys, the one in use first. The slice changes at
// rotation: ask again, at most every minute.
func (m *Manager) TicketKeys(c alpn.Class) [][32]byte { panic("unbuilt") }

// Run renews self-signed certificates and rotates ticket keys until ctx ends.
func (m *Manager) Run(ctx context.Context) error { panic("unbuilt") }
