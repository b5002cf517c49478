package main

import (
	"posthorn/alpn"
	"posthorn/handlers/imap"
	"posthorn/handlers/smtp"
	"posthorn/mux"
)

// handlers returns who speaks each protocol.
func (g *gateway) handlers() map[alpn.Protocol]mux.Handler {
	return map[alpn.Protocol]mux.Handler{
		alpn.IMAP: &imap.Handler{
			Accounts: g.accounts,
			Backend:  g.backend,
			ID:       []string{"name", "Posthorn"},
			Limits:   imap.Limits{Line: int(g.cfg.Limits.PreLoginLine), Literal: int(g.cfg.Limits.PreLoginLiteral)},
			Log:      g.log,
		},
		alpn.SMTP: &smtp.Handler{
			Accounts:       g.accounts,
			Backend:        g.backend,
			Hostname:       g.cfg.hostname(),
			MaxMessageSize: int64(g.cfg.MaxMessageSize),
			MaxRecipients:  g.cfg.Submission.MaxRecipients,
			RequireAuth:    g.cfg.Submission.RequireAuth,
			From:           smtp.FromPolicy(g.cfg.Submission.FromHeader),
			ReceivedFrom:   g.cfg.Submission.ReceivedFrom,
			Log:            g.log,
		},
	}
}
