package main

import (
	"cmp"
	"net"

	"posthorn/alpn"
	"posthorn/handlers/https"
	"posthorn/handlers/imap"
	"posthorn/handlers/smtp"
	"posthorn/mux"
)

// handlers returns who speaks each protocol; web is who speaks HTTP.
func (g *gateway) handlers(web *https.Server) map[alpn.Protocol]mux.Handler {
	return map[alpn.Protocol]mux.Handler{
		alpn.IMAP: g.imap,
		alpn.SMTP: &smtp.Handler{
			Accounts:       g.accounts,
			Backend:        g.backends,
			Hostname:       g.cfg.hostname(),
			MaxMessageSize: int64(g.cfg.MaxMessageSize),
			MaxRecipients:  g.cfg.Submission.MaxRecipients,
			RequireAuth:    g.cfg.Submission.RequireAuth,
			From:           smtp.FromPolicy(g.cfg.Submission.FromHeader),
			ReceivedFrom:   g.cfg.Submission.ReceivedFrom,
			Log:            g.log,
		},
		alpn.HTTP1: web,
	}
}

// plain is who serves port 80.
func (g *gateway) plain() *https.Plain {
	return &https.Plain{Serves: g.certs.Named, Port: g.sharedPort(), Challenges: g.certs.HTTPHandler}
}

// sharedPort is the port of every protocol; 443 when there is none.
func (g *gateway) sharedPort() int { return cmp.Or(int(g.sockets.port(alpn.Shared)), 443) }

func (g *gateway) imapHandler() *imap.Handler {
	return &imap.Handler{
		Accounts: g.accounts,
		Backend:  g.backends,
		Hostname: g.cfg.hostname(),
		ID:       []string{"name", "Posthorn"},
		Limits:   imapLimits(g.cfg),
		Log:      g.log,
	}
}

// endpoints are the ways in that the web page shows. On the shared port they
// have the names that lead there when a program offers no ALPN.
func (g *gateway) endpoints() (all []https.Endpoint) {
	own := g.cfg.hostname()
	add := func(port int, protocol, host, security string) {
		all = append(all, https.Endpoint{Protocol: protocol, Host: host, Port: port, Security: security})
	}
	seen := make(map[string]bool)
	for _, s := range g.sockets.mail {
		tcp, ok := s.Addr().(*net.TCPAddr)
		if !ok || seen[s.name] {
			continue
		}
		seen[s.name] = true
		switch s.port {
		case alpn.Shared:
			add(tcp.Port, "IMAP", g.cfg.imapNames()[0], "TLS")
			add(tcp.Port, "Submission", g.cfg.submissionNames()[0], "TLS")
		case alpn.IMAPS:
			add(tcp.Port, "IMAP", own, "TLS")
		case alpn.Submissions:
			add(tcp.Port, "Submission", own, "TLS")
		case alpn.IMAPStartTLS:
			add(tcp.Port, "IMAP", own, "STARTTLS")
		case alpn.SubmissionStartTLS:
			add(tcp.Port, "Submission", own, "STARTTLS")
		}
	}
	return all
}
