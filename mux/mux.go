// Package mux owns the listening sockets and every connection's life: accept,
// PROXY protocol, limits, TLS handshake, dispatch by protocol, the table of
// live connections, revocation and drain.
//
// Everything that wraps a connection wraps it below TLS (see transport), so
// that libraries get the bare *tls.Conn that they insist on, and Of finds the
// way back.
package mux

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"posthorn/alpn"
	"posthorn/authkeys"
)

// Handler serves connections of one protocol. ServeConn returns when it is
// done with c; mux closes c then. ctx ends when the connection has to go, and
// context.Cause says why: ErrDraining, ErrRevoked, ErrEvicted or ErrTimeout.
// The handler then says goodbye in its protocol's words and returns. After
// ErrDraining it may finish what it is at first, for as long as Shutdown
// waits. After the others nothing more is read from the network, and mux closes
// the connection under a handler that takes longer than Config.Grace.
// A panic ends this one connection and is logged by mux with its stack.
type Handler interface {
	ServeConn(ctx context.Context, c *Conn)
	// Busy is the whole answer of a protocol to a connection that is over a
	// limit: "* BYE …", "421 …" or an HTTP 503, complete with line ends. It is
	// nil when the protocol has no such answer.
	Busy() []byte
}

// Causes of the end of a connection's context.
var (
	ErrDraining = errors.New("shutting down")
	ErrRevoked  = errors.New("access revoked")
	ErrEvicted  = errors.New("closed by the administrator")
	ErrTimeout  = errors.New("timeout")
	// ErrCrowded ends a connection without a login, or the longest silent one
	// of an account, that has to make room for others.
	ErrCrowded = errors.New("closed to make room")
)

// ErrTooMany says that an account has too many connections.
var ErrTooMany = errors.New("too many connections for this account")

// Identity is who a connection belongs to, for the table, the log and
// revocation.
type Identity struct {
	Account   string               `json:"account,omitempty"`   // ID
	Address   string               `json:"address,omitempty"`   // as logged in
	Mechanism string               `json:"mechanism,omitempty"` // as in accounts.Login
	Key       authkeys.Fingerprint `json:"key,omitzero"`        // the key that proved it, or zero
	Backend   string               `json:"backend,omitempty"`   // that the account's record names; empty: none
	Expires   time.Time            `json:"expires,omitzero"`    // the connection is closed with ErrRevoked then; zero: never
}

// Info is what the table knows about a live connection.
type Info struct {
	ID         uint64         `json:"id"`
	Via        uint64         `json:"via,omitempty"` // the ID of the web connection that it came in; 0: none
	Protocol   alpn.Protocol  `json:"protocol"`      // empty: not known yet
	ServerName string         `json:"server_name,omitempty"`
	Remote     netip.AddrPort `json:"remote"`
	Since      time.Time      `json:"since"`
	Identity   Identity       `json:"identity,omitzero"`
	In         uint64         `json:"bytes_in"` // below TLS
	Out        uint64         `json:"bytes_out"`
}
