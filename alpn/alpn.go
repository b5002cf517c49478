// Package alpn says which protocol a connection speaks, and under which TLS
// policy. It does no I/O: mux shows it what a ClientHello offered (RFC 7301)
// and what a silent client's first bytes were, and does what it answers.
package alpn

import "errors"

// Protocol is an ALPN protocol ID, as registered with IANA, of a protocol
// that the gateway speaks.
type Protocol string

const (
	IMAP  Protocol = "imap"       // RFC 2595 with RFC 8314: IMAP over TLS
	SMTP  Protocol = "smtp"       // submission (RFC 6409); "submission" is another name of it
	HTTP2 Protocol = "h2"         // RFC 9113
	HTTP1 Protocol = "http/1.1"   // RFC 9112
	ACME  Protocol = "acme-tls/1" // RFC 8737; no application data follows
)

// Port is what a listening socket is for.
type Port uint8

const (
	Shared             Port = iota // every protocol, normally 443
	IMAPS                          // IMAP with implicit TLS, normally 993
	Submissions                    // submission with implicit TLS, normally 465
	IMAPStartTLS                   // IMAP that begins in cleartext, normally 143
	SubmissionStartTLS             // submission that begins in cleartext, normally 587
)

// Class groups the protocols that share a TLS policy and session ticket keys.
// A ticket of one class never resumes in another.
type Class uint8

const (
	Web  Class = iota // h2, http/1.1, acme-tls/1, and what first bytes decide
	Mail              // imap, smtp: a client certificate is requested, never required
)

// ErrNoOverlap says that the client offered protocols and none is served on
// the port: the handshake ends with the alert no_application_protocol
// (RFC 7301 section 3.2; RFC 9325 section 3.8).
var ErrNoOverlap = errors.New("alpn: no protocol in common")

// Route is what a ClientHello leads to.
type Route struct {
	Class Class
	// Protocol is spoken after the handshake. It is empty when the first bytes
	// decide (see Sniff).
	Protocol Protocol
	// NextProto is the ID to select from the client's offer, in the client's
	// spelling; empty when it offered none.
	NextProto string
	// RequestCert says whether a client certificate is asked for.
	RequestCert bool
}

// Router decides routes. Its fields are set before use and not changed after.
type Router struct {
	// Names maps server names (lower case, no final dot) to IMAP or SMTP, for
	// clients that offer no ALPN on the shared port.
	Names map[string]Protocol
	// CertNames are the server names on which web clients are asked for a
	// certificate; on all others they are not, so that no browser prompts.
	CertNames map[string]bool
	// ACMEPending reports whether a tls-alpn-01 challenge is pending for a
	// server name; nil: never.
	ACMEPending func(serverName string) bool
}

// Route says where a ClientHello leads on a port. Its error is ErrNoOverlap.
// A client that offers ALPN is never routed by its server name or first bytes.
func (r *Router) Route(p Port, offered []string, serverName string) (Route, error) {
	panic("unbuilt")
}

// SniffLen is how many bytes Sniff needs at most.
const SniffLen = 64

// Sniff decides by a client's first bytes which protocol it speaks: EHLO or
// HELO is submission, an IMAP tag and command is IMAP, all else HTTP. more is
// true as long as b could still become something else.
func Sniff(b []byte) (p Protocol, more bool) { panic("unbuilt") }
