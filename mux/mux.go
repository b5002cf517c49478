// Package mux owns the listening sockets and every connection's life: accept,
// PROXY protocol, limits and penalties, TLS handshake, dispatch by protocol,
// the table of live connections, revocation and drain.
package mux

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"posthorn/alpn"
	"posthorn/authkeys"
)

// Handler serves connections of one protocol. ServeConn returns when it is
// done with c; mux closes c then. ctx ends when the connection has to go, and
// context.Cause says why: ErrDraining, ErrRevoked, ErrEvicted or ErrTimeout.
// The handler then says goodbye in its protocol's words and returns; mux closes
// the connection under it when that takes longer than a short grace.
// A panic ends this one connection and is logged by mux with its stack.
type Handler interface {
	ServeConn(ctx context.Context, c *Conn)
	// Busy is the whole answer of a protocol to a connection that is over a
	// limit: "* BYE …", "421 …" or an HTTP 503, complete with line ends.
	Busy() []byte
}

// Causes of the end of a connection's context.
var (
	ErrDraining = errors.New("shutting down")
	ErrRevoked  = errors.New("access revoked")
	ErrEvicted  = errors.New("closed by the administrator")
	ErrTimeout  = errors.New("timeout")
)

// Conn is a client's connection. Its TLS handshake is complete, except on a
// STARTTLS port before StartTLS. The exported fields are set before the handler
// sees it, and by StartTLS, and do not change otherwise.
type Conn struct {
	// Conn is the *tls.Conn (or the cleartext connection). Libraries that must
	// have a bare *tls.Conn get this; Of finds the way back. Reading from Conn
	// and from the embedded Conn is the same only when Protocol came from ALPN
	// or the port: bytes that were sniffed come first from Conn.Read only.
	net.Conn

	ID         uint64
	Port       alpn.Port
	Protocol   alpn.Protocol        // never empty
	ServerName string               // SNI as sent, in lower case; empty: none
	Key        authkeys.Fingerprint // zero: no certificate was shown, or KeyErr says why it is refused
	KeyErr     error                // an *authkeys.UnacceptableError, or nil
	Remote     netip.AddrPort       // after PROXY protocol
	Local      netip.AddrPort
}

// TLS returns the state of the TLS connection; nil before StartTLS.
func (c *Conn) TLS() *tls.ConnectionState { panic("unbuilt") }

// StartTLS makes the TLS handshake on a connection of a STARTTLS port, under
// the port's rules (strict ALPN, client certificate requested), and fills in
// the fields. Cleartext that the caller has buffered is the caller's to drop;
// none is read beyond what the caller asked for. After an error the connection
// is of no use.
func (c *Conn) StartTLS(ctx context.Context) error { panic("unbuilt") }

// Identity is who a connection belongs to, for the table, the log and
// revocation.
type Identity struct {
	Account   string               // ID
	Address   string               // as logged in
	Mechanism string               // as in accounts.Login
	Key       authkeys.Fingerprint // the key that proved it, or zero
	Expires   time.Time            // the connection is closed with ErrRevoked then; zero: never
}

// SetIdentity registers who logged in and ends the pre-login phase with its
// deadline and limits. It returns an error when the connection must not go on:
// the account has too many connections.
func (c *Conn) SetIdentity(id Identity) error { panic("unbuilt") }

// SetReason notes why the connection ended, for its log line; the first call
// wins.
func (c *Conn) SetReason(reason string) { panic("unbuilt") }

// AuthFailed notes a failed login for the connection's log line; see also
// Config.Logins.
func (c *Conn) AuthFailed(mechanism, reason string) { panic("unbuilt") }

// Of returns the Conn behind a connection that a library hands back: the *Conn
// itself, or the *tls.Conn inside it.
func Of(nc net.Conn) (*Conn, bool) { panic("unbuilt") }

// Info is what the table knows about a live connection.
type Info struct {
	ID         uint64         `json:"id"`
	Protocol   alpn.Protocol  `json:"protocol"`
	ServerName string         `json:"server_name,omitempty"`
	Remote     netip.AddrPort `json:"remote"`
	Since      time.Time      `json:"since"`
	Identity   Identity       `json:"identity,omitzero"`
	In         uint64         `json:"bytes_in"` // below TLS
	Out        uint64         `json:"bytes_out"`
}
