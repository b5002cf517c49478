package main

import (
	"crypto/tls"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/certs"
	"posthorn/handlers/https/sites"
	"posthorn/handlers/imap"
	"posthorn/mailbox"
	"posthorn/mux"
	"posthorn/sessions"
	"posthorn/store"
)

// What follows turns the configuration into what each package wants to know.

func certsConfig(c *Config, kv store.KV, log zerolog.Logger) (certs.Config, error) {
	t := &c.TLS
	cfg := certs.Config{
		Names:              c.serverNames(),
		SelfSigned:         t.SelfSigned,
		UnknownNameDefault: t.UnknownName == "default",
		ECHPublicName:      t.ECH.PublicName,
		MailTickets:        time.Duration(t.Tickets.Mail),
		WebTickets:         time.Duration(t.Tickets.Web),
		KeyFile:            t.KeyFile,
		Store:              kv,
		Log:                log,
	}
	for _, f := range t.Files {
		cfg.Files = append(cfg.Files, certs.Files{Cert: f.Cert, Key: f.Key})
	}
	if !t.ACME.AgreeTerms {
		return cfg, nil
	}
	eab, err := t.ACME.eabKey()
	cfg.ACME = &certs.ACME{
		Directory: t.ACME.directory(), AgreeTerms: true, Email: t.ACME.Email, CAFile: t.ACME.CA,
		EABKeyID: t.ACME.EABKeyID, EABKey: eab, HTTP01: t.ACME.HTTP01, RSA: t.ACME.RSA,
	}
	return cfg, err
}

func accountsOptions(c *Config, log zerolog.Logger) accounts.Options {
	return accounts.Options{Domains: c.Domains, Throttle: throttle(c), Privacy: c.Log.Privacy, Log: log}
}

func throttle(c *Config) accounts.Throttle {
	return accounts.Throttle{
		PerConn:   c.Limits.PasswordsPerConnection,
		PerSource: c.Limits.PasswordFailures,
		Window:    time.Duration(c.Limits.PasswordWindow),
		Block:     time.Duration(c.Limits.PasswordBlock),
	}
}

// addedFields is how much longer a message may become between submission, which
// adds a trace field and what is missing, and a mailbox. APPENDLIMIT shows the
// sum, so that what has been delivered can be put into another mailbox.
const addedFields = 64 << 10

func mailboxOptions(c *Config, log zerolog.Logger) mailbox.Options {
	return mailbox.Options{MaxMessageSize: int64(c.MaxMessageSize) + addedFields, Quota: int64(c.Quota), Log: log}
}

func sessionsConfig(c *Config, kv store.KV, who *accounts.Store, keys *authkeys.Store, log zerolog.Logger) sessions.Config {
	return sessions.Config{
		Store: kv, Accounts: who, Keys: keys, Privacy: c.Log.Privacy, Log: log,
		Idle: time.Duration(c.Web.SessionIdle), Max: time.Duration(c.Web.SessionMax),
	}
}

func imapLimits(c *Config) imap.Limits {
	return imap.Limits{Line: int(c.Limits.PreLoginLine), Literal: int(c.Limits.PreLoginLiteral)}
}

func muxConfig(c *Config, m *certs.Manager, behind *sites.Set, handlers map[alpn.Protocol]mux.Handler, log zerolog.Logger) mux.Config {
	cfg := mux.Config{
		Handlers:   handlers,
		Router:     &alpn.Router{Names: make(map[string]alpn.Protocol), CertNames: c.certNames(), HTTP1Only: behind.HTTP1Only, ACMEPending: m.Pending},
		Certs:      m,
		MinVersion: tls.VersionTLS12,
		Limits:     muxLimits(c),
		ProxyFrom:  c.proxyFrom(),
		Log:        log,
		Privacy:    c.Log.Privacy,
	}
	if c.TLS.MinVersion == "1.3" {
		cfg.MinVersion = tls.VersionTLS13
	}
	for _, n := range c.imapNames() {
		cfg.Router.Names[n] = alpn.IMAP
	}
	for _, n := range c.submissionNames() {
		cfg.Router.Names[n] = alpn.SMTP
	}
	return cfg
}

func muxLimits(c *Config) mux.Limits {
	l := &c.Limits
	return mux.Limits{
		Handshake:       time.Duration(l.Handshake),
		PreLogin:        time.Duration(l.PreLogin),
		Idle:            time.Duration(l.Idle),
		DeadPeer:        time.Duration(l.DeadPeer),
		MinRate:         l.MinRate,
		Conns:           l.Connections,
		ConnsPerSource:  l.ConnectionsPerSource,
		ConnsPerAccount: l.ConnectionsPerAccount,
		UnauthStart:     l.UnauthenticatedStart,
		UnauthFull:      l.UnauthenticatedFull,
		UnauthPerSource: l.UnauthenticatedPerSource,
	}
}

// measured is a part that has metrics.
type measured interface{ Collectors() []prometheus.Collector }

func newMetrics(parts ...measured) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, p := range parts {
		r.MustRegister(p.Collectors()...)
	}
	return r
}
