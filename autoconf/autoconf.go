// Package autoconf makes the documents from which mail programs and servers
// learn how to reach a mail domain: Thunderbird's, Outlook's, the MTA-STS policy
// and security.txt. It does no I/O.
package autoconf

import "strings"

// Deployment is what a mail domain's documents are made of. All names are host
// names in lower case without a final dot.
type Deployment struct {
	// Domain is what stands behind the @ of addresses.
	Domain string
	// Name is what people call it; empty: Domain.
	Name string
	// IMAP is where mail is read, and Submission where it is handed in.
	IMAP, Submission Service
	// ALPN says that all clients offer ALPN, as Delta Chat does. Then Domain is
	// the name for the shared port, which has a certificate in any case.
	ALPN bool
}

// Service is the ways in to one protocol, as clients see them from outside. A
// port is zero where there is none.
type Service struct {
	// SharedPort is where every protocol is spoken, normally 443, and SharedName
	// the server name that leads to this one for clients that offer no ALPN.
	SharedPort uint16
	SharedName string
	// Host is the server name that dedicated ports go by.
	Host string
	// TLSPort is a dedicated port, normally 993 or 465.
	TLSPort uint16
	// StartTLSPort is one that begins in cleartext, normally 143 or 587.
	StartTLSPort uint16
	// Keys says that a client certificate logs in, as a password does.
	Keys bool
}

// Server is one way in.
type Server struct {
	Host     string
	Port     uint16
	StartTLS bool // it begins in cleartext
	Keys     bool // as Service.Keys
}

// IMAPServers returns the ways to read mail, and SubmissionServers those to hand
// it in, in the order in which clients shall try them: the port that gets
// through first, as some clients wait for a minute at each that does not.
func (d *Deployment) IMAPServers() []Server { return d.servers(&d.IMAP) }

// SubmissionServers: see IMAPServers.
func (d *Deployment) SubmissionServers() []Server { return d.servers(&d.Submission) }

func (d *Deployment) servers(s *Service) (all []Server) {
	add := func(host string, port uint16, startTLS bool) {
		if host != "" && port != 0 {
			all = append(all, Server{host, port, startTLS, s.Keys})
		}
	}
	add(d.sharedName(s), s.SharedPort, false)
	add(s.Host, s.TLSPort, false)
	add(s.Host, s.StartTLSPort, true)
	return all
}

// sharedName returns the name for the shared port. A domain whose name begins
// with an underscore has no CA's certificate: none but Delta Chat go there, which
// believes such a certificate under a name that begins so.
func (d *Deployment) sharedName(s *Service) string {
	own := d.ALPN || strings.HasPrefix(d.Domain, "_") && !strings.HasPrefix(s.SharedName, "_")
	if own && s.SharedName != "" {
		return d.Domain
	}
	return s.SharedName
}

// Believed returns d as clients shall be told of it now, which want to believe the
// certificate that a server shows: without the shared port of a service where
// selfSigned says that its name has none of a CA, and that the name of the dedicated
// ports has one. left are the names that are left out. Where all offer ALPN, or there
// is no choice, nothing is.
func (d *Deployment) Believed(selfSigned func(name string) bool) (told *Deployment, left []string) {
	believed := *d
	if d.ALPN {
		return &believed, nil
	}
	for _, s := range []*Service{&believed.IMAP, &believed.Submission} {
		if s.SharedName != "" && s.SharedPort != 0 && s.TLSPort != 0 && selfSigned(s.SharedName) && !selfSigned(s.Host) {
			left = append(left, s.SharedName)
			s.SharedPort = 0
		}
	}
	return &believed, left
}

func (d *Deployment) name() string {
	if d.Name != "" {
		return d.Name
	}
	return d.Domain
}
