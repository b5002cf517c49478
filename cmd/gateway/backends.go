package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/backend"
	"posthorn/backend/upstream"
)

// backends are the gateway's own mailboxes and the mail systems behind it.
type backends struct {
	*backend.Set
	// usual are those where accounts can be whose record names none.
	usual   *backend.Set
	proxies []*backend.Proxy
	keep    map[string]bool // the names of those that keep passwords
}

// openBackends makes what the configuration names. own are the embedded
// mailboxes, which are there in any case, because the record of an account may
// name them.
func openBackends(cfg *Config, own *backend.Embedded, log zerolog.Logger) (*backends, error) {
	b := &backends{keep: make(map[string]bool)}
	set := backend.Set{
		Backends: make(map[string]backend.Backend),
		Domains:  make(map[string]string),
		Default:  cfg.DefaultBackend,
		Log:      log,
	}
	usual := set
	for i := range cfg.Backends {
		c := &cfg.Backends[i]
		config, err := proxyConfig(c, cfg, log)
		if err != nil {
			return nil, err
		}
		p, err := backend.NewProxy(config)
		if err != nil {
			return nil, err
		}
		b.proxies = append(b.proxies, p)
		b.keep[c.Name] = config.KeepsPasswords
		set.Backends[c.Name] = p
		for _, d := range c.Domains {
			set.Domains[d] = c.Name
		}
		c.warn(log)
	}
	if set.Default != embedded {
		usual.Backends = make(map[string]backend.Backend)
		for name, p := range set.Backends {
			usual.Backends[name] = p
		}
	}
	own.Has = func(a *accounts.Account) bool { return set.Of(a) == embedded }
	set.Backends[embedded] = own
	b.Set, b.usual = &set, &usual
	return b, nil
}

// warn warns of what may be meant, and may not.
func (b *Backend) warn(log zerolog.Logger) {
	for _, s := range b.parts() {
		log := log.With().Str("backend", b.Name).Str("service", s.key).Logger()
		if s.has() && s.Login == "" {
			log.Warn().Msg("without login nobody can log in there by key, only by password")
		}
		if s.Login == "trusted" && s.ClientAddress != "none" {
			log.Warn().Msg("a server that trusts the gateway's address (login: trusted) may judge by the client's, which it is told (client_address)")
		}
	}
}

// warnOfLost warns of accounts whose record names a backend that is configured no
// more. Nobody else would notice before they try to log in.
func (b *backends) warnOfLost(ctx context.Context, all *accounts.Store, log zerolog.Logger) {
	lost := make(map[string]int)
	for a, err := range all.List(ctx) {
		if err != nil {
			log.Error().Err(err).Msg("accounts cannot be looked through")
			return
		}
		if a.Backend != "" && !b.Has(a.Backend) {
			lost[a.Backend]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lost)) {
		log.Warn().Str("backend", name).Int("accounts", lost[name]).
			Msg(`its accounts cannot log in; "account list" shows them, "account backend ACCOUNT NAME" leads them elsewhere`)
	}
}

// proxyConfig turns a backend's configuration into what package backend wants
// to know. It reads the secrets.
func proxyConfig(b *Backend, cfg *Config, log zerolog.Logger) (backend.ProxyConfig, error) {
	c := backend.ProxyConfig{
		Name:           b.Name,
		KeepsPasswords: b.Passwords == "backend",
		AnySender:      b.Submission.Sender == "backend",
		Log:            log,
	}
	if b.UserName == "local_part" {
		c.LocalDomain = cfg.reach(b)[0]
	}
	for _, s := range b.parts() {
		if !s.has() {
			continue
		}
		server, err := proxyServer(s.BackendServer, time.Duration(cfg.Limits.DeadPeer))
		if err != nil {
			return c, fmt.Errorf("backend %s: %s: %w", b.Name, s.key, err)
		}
		if s.BackendServer == &b.IMAP.BackendServer {
			c.IMAP = server
		} else {
			c.Submission = server
		}
	}
	return c, nil
}

func proxyServer(s *BackendServer, deadPeer time.Duration) (*backend.Server, error) {
	server := &backend.Server{
		Upstream: upstream.Config{
			Addresses:     s.Addresses,
			Security:      map[string]upstream.Security{"implicit": upstream.ImplicitTLS, "starttls": upstream.StartTLS}[s.TLS],
			ProxyProtocol: s.ClientAddress == "proxy",
			DeadPeer:      deadPeer,
		},
		Method:    backend.Method(s.Login),
		User:      s.MasterUser,
		Separator: s.MasterSeparator,
		Inform:    s.ClientAddress == "id" || s.ClientAddress == "xclient",
	}
	var err error
	if s.TLS != "none" {
		if server.Upstream.TLS, err = upstream.TrustConfig(s.CA, s.Pins, s.ServerName); err != nil {
			return nil, err
		}
	}
	if s.MasterPasswordFile != "" {
		server.Password, err = readSecret(s.MasterPasswordFile)
	}
	return server, err
}

// domainsOf are the domains whose accounts are at a backend unless their record
// names another.
func (c *Config) domainsOf(name string) (all []string) {
	homes := make(map[string]string)
	for _, b := range c.Backends {
		for _, d := range b.Domains {
			homes[d] = b.Name
		}
	}
	for _, d := range c.Domains {
		if cmp.Or(homes[d], c.DefaultBackend) == name {
			all = append(all, d)
		}
	}
	return all
}

// reach are the domains from which accounts come to a backend: its own, or any
// when the records of accounts alone lead there.
func (c *Config) reach(b *Backend) []string {
	if own := c.domainsOf(b.Name); len(own) > 0 {
		return own
	}
	return c.Domains
}

// Submission implements backend.Backend. What the embedded mailboxes cannot do
// is not missed where only the records of some accounts lead to them.
func (b *backends) Submission(l *accounts.Login) backend.Submission {
	if l == nil {
		return b.usual.Submission(nil)
	}
	return b.Set.Submission(l)
}

// run tends the mail systems until ctx ends.
func (b *backends) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range b.proxies {
		g.Go(func() error { return p.Run(ctx) })
	}
	return g.Wait()
}

// Collectors returns the metrics of all of them.
func (b *backends) Collectors() (all []prometheus.Collector) {
	for _, p := range b.proxies {
		all = append(all, p.Collectors()...)
	}
	return all
}

// Has implements admin.Backends.
func (b *backends) Has(name string) bool {
	_, ok := b.Backends[name]
	return ok
}

// Of implements admin.Backends.
func (b *backends) Of(a *accounts.Account) admin.Home {
	name := b.Set.Of(a)
	return admin.Home{Backend: name, Embedded: name == embedded, KeepsPasswords: b.keep[name]}
}

// Status implements admin.Backends.
func (b *backends) Status() []admin.BackendStatus {
	all := []admin.BackendStatus{{Name: embedded, State: admin.Up}}
	for _, p := range b.proxies {
		for _, s := range p.Status() {
			st := admin.BackendStatus{Name: s.Backend, Service: s.Service, Address: s.Address,
				State: admin.Down, Since: s.Since, Conns: s.Conns, Error: s.Error}
			if s.Up {
				st.State = admin.Up
			}
			all = append(all, st)
		}
	}
	return all
}
