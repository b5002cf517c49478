// Package alpn says which protocol a connection speaks, and under which TLS
// policy. It does no I/O: mux shows it what a ClientHello offered (RFC 7301)
// and what a silent client's first bytes were, and does what it answers.
package alpn

import (
	"errors"
	"strings"
)

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

// Protocol is the only protocol of a dedicated port; empty on the shared one.
func (p Port) Protocol() Protocol {
	switch p {
	case IMAPS, IMAPStartTLS:
		return IMAP
	case Submissions, SubmissionStartTLS:
		return SMTP
	}
	return ""
}

// StartTLS reports whether connections to the port begin in cleartext.
func (p Port) StartTLS() bool { return p == IMAPStartTLS || p == SubmissionStartTLS }

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
// The zero value works.
type Router struct {
	// Names maps server names (lower case, no final dot) to IMAP or SMTP, for
	// clients that offer no ALPN on the shared port.
	Names map[string]Protocol
	// CertNames are the server names on which web clients are asked for a
	// certificate; on all others they are not, so that no browser prompts.
	CertNames map[string]bool
	// HTTP1Only reports whether HTTP/2 is not spoken on a server name; nil: it is
	// on all of them.
	HTTP1Only func(serverName string) bool
	// ACMEPending reports whether a tls-alpn-01 challenge is pending for a
	// server name; nil: never.
	ACMEPending func(serverName string) bool
}

// names are the protocol IDs that clients may offer, in the server's order of
// preference. "submission" is no registered ID, but some clients' spelling of
// "smtp".
var names = [...]struct {
	id string
	p  Protocol
}{
	{"imap", IMAP},
	{"smtp", SMTP},
	{"submission", SMTP},
	{"h2", HTTP2},
	{"http/1.1", HTTP1},
	{"acme-tls/1", ACME},
}

// Route says where a ClientHello leads on a port. Its error is ErrNoOverlap.
// A client that offers ALPN is never routed by its server name or first bytes.
// The case of serverName does not matter.
func (r *Router) Route(p Port, offered []string, serverName string) (Route, error) {
	serverName = strings.ToLower(serverName)
	if len(offered) == 0 {
		return r.to(r.withoutALPN(p, serverName), "", serverName), nil
	}
	for _, n := range names {
		if only := p.Protocol(); only != "" && n.p != only {
			continue
		}
		if n.p == ACME && (r.ACMEPending == nil || !r.ACMEPending(serverName)) {
			continue
		}
		if n.p == HTTP2 && r.HTTP1Only != nil && r.HTTP1Only(serverName) {
			continue
		}
		for _, o := range offered {
			if o == n.id {
				return r.to(n.p, n.id, serverName), nil
			}
		}
	}
	return Route{}, ErrNoOverlap
}

// withoutALPN is the protocol of a client that offers none; empty when its
// first bytes decide.
func (r *Router) withoutALPN(p Port, serverName string) Protocol {
	if only := p.Protocol(); only != "" {
		return only
	}
	return r.Names[serverName]
}

func (r *Router) to(p Protocol, nextProto, serverName string) Route {
	rt := Route{Class: Web, Protocol: p, NextProto: nextProto}
	switch p {
	case IMAP, SMTP:
		rt.Class, rt.RequestCert = Mail, true
	case ACME:
	default:
		rt.RequestCert = r.CertNames[serverName]
	}
	return rt
}
