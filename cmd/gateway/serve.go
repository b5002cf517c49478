package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/certs"
	"posthorn/handlers/https/sites"
	"posthorn/handlers/imap"
	"posthorn/mailbox"
	"posthorn/mux"
	"posthorn/passkeys"
	"posthorn/sessions"
	"posthorn/store/badgerkv"
)

// gateway is a running gateway, in the order in which it is put together.
type gateway struct {
	cli      *cli
	cfg      *Config // reload changes what is reloadable, and reads it alone
	log      zerolog.Logger
	store    *badgerkv.DB
	certs    *certs.Manager
	keys     *authkeys.Store
	accounts *accounts.Store
	mail     *mailbox.Store
	backends *backends
	sites    *sites.Set
	imap     *imap.Handler
	sessions *sessions.Manager
	passkeys *passkeys.Store
	admin    *admin.Service
	gate     *admin.Gate // nil: admin.host is not configured
	mux      *mux.Server
	sockets  *sockets
	metrics  *prometheus.Registry
	hangups  chan os.Signal         // SIGHUP
	limits   atomic.Pointer[Limits] // those in force, for whoever asks
}

// serve runs the gateway until ctx ends or one of its parts fails.
func (c *cli) serve(ctx context.Context) error {
	cfg, err := c.configBy(loadForServing)
	if err != nil {
		return err
	}
	if err := harden(); err != nil {
		return err
	}
	g := &gateway{cli: c, cfg: cfg, log: newLog(c.stderr, cfg.Log), hangups: make(chan os.Signal, 1)}
	signal.Notify(g.hangups, syscall.SIGHUP) // so early that none kills
	defer signal.Stop(g.hangups)
	outliveReaders()
	warnOfFiles(g.log, cfg.Limits.Connections)
	defer g.close()
	err = g.open(ctx)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		g.log.Info().Msg("stopped before it served")
		return nil
	}
	if err != nil {
		return err
	}
	return g.run(ctx)
}

// open puts the gateway together. What it has opened when it fails is for
// close.
func (g *gateway) open(ctx context.Context) (err error) {
	if err := prepareData(g.cfg); err != nil {
		return err
	}
	if g.store, err = badgerkv.Open(g.cfg.storeDir(), g.log); err != nil {
		return openError(g.cfg, err)
	}
	if err := g.openCerts(ctx); err != nil {
		return err
	}
	g.keys = authkeys.New(g.store)
	if g.accounts, err = accounts.New(ctx, g.store, g.keys, accountsOptions(g.cfg, g.log)); err != nil {
		return err
	}
	if g.mail, err = mailbox.Open(g.cfg.mailDir(), mailboxOptions(g.cfg, g.log)); err != nil {
		return err
	}
	if err := g.openBehind(ctx); err != nil {
		return err
	}
	g.sessions = sessions.New(sessionsConfig(g.cfg, g.store, g.accounts, g.keys, g.log))
	g.passkeys = passkeys.New(passkeys.Config{Store: g.store, Accounts: g.accounts, Log: g.log})
	g.admin = &admin.Service{
		Accounts: g.accounts, Keys: g.keys, Sessions: g.sessions, Passkeys: g.passkeys, Certs: g.certs, Mail: g.mail, Backends: g.backends, Store: g.store,
		Log: g.log, Privacy: g.cfg.Log.Privacy,
	}
	if err := g.admin.Sweep(ctx); err != nil {
		return err
	}
	if g.sockets, err = openSockets(g.cfg); err != nil {
		return err
	}
	g.imap = g.imapHandler()
	web, err := g.httpsServer()
	if err != nil {
		return err
	}
	g.mux = mux.New(muxConfig(g.cfg, g.certs, g.sites, g.handlers(web), g.log))
	g.admin.Mux, g.admin.Zones = g.mux, g.zones()
	g.admin.Instance = admin.Instance{
		Version: version(), PID: os.Getpid(), Started: time.Now().Truncate(time.Second),
		Config: g.cli.configPath(), DataDir: g.cfg.DataDir, Listeners: g.sockets.listeners(),
	}
	g.metrics = newMetrics(g.store, g.certs, g.accounts, g.mux, g.backends)
	g.admin.Metrics = g.metrics
	return nil
}

func (g *gateway) openCerts(ctx context.Context) error {
	cfg, err := certsConfig(g.cfg, g.store, g.log)
	if err != nil {
		return err
	}
	g.certs, err = certs.New(ctx, cfg)
	if errors.Is(err, certs.ErrSealed) {
		err = withHint(err, "tls.key_file must name the file that it named when the secrets were stored")
	}
	return err
}

// openBehind makes what lies behind the gateway. Nothing is connected to yet.
func (g *gateway) openBehind(ctx context.Context) (err error) {
	own := &backend.Embedded{Mail: g.mail, Accounts: g.accounts, Domains: g.cfg.domainsOf(embedded), Log: g.log}
	if g.backends, err = openBackends(g.cfg, own, g.log); err != nil {
		return err
	}
	g.backends.warnOfLost(ctx, g.accounts, g.log)
	behind, err := g.cfg.sites()
	if err != nil {
		return err
	}
	g.sites, err = sites.New(behind, g.log)
	return err
}

// close closes what open has opened, last first.
func (g *gateway) close() {
	if g.sockets != nil {
		g.sockets.close()
	}
	if g.sites != nil {
		g.sites.Close()
	}
	if g.mail != nil {
		if err := g.mail.Close(); err != nil {
			g.log.Error().Err(err).Msg("mailboxes did not close well")
		}
	}
	if g.store != nil {
		if err := g.store.Close(); err != nil {
			g.log.Error().Err(err).Msg("store did not close well")
		}
	}
}

// errStopped ends the background loops after the connections have ended.
var errStopped = errors.New("stopped")

// run serves until ctx ends or a part fails; then it drains, and stops the
// loops only after that, since connections need them to the end.
func (g *gateway) run(ctx context.Context) error {
	group, loops := errgroup.WithContext(context.WithoutCancel(ctx))
	loop := func(name string, run func(context.Context) error) {
		group.Go(func() error {
			err := run(loops)
			switch {
			case err == nil:
			case loops.Err() == nil:
				return fmt.Errorf("%s: %w", name, err)
			default:
				g.log.Warn().Err(err).Str("part", name).Msg("did not stop well")
			}
			return nil
		})
	}
	loop("store", g.store.Run)
	loop("certificates", g.certs.Run)
	loop("keys", g.keys.Run)
	loop("accounts", g.accounts.Run)
	loop("mailboxes", g.mail.Run)
	loop("web sessions", g.sessions.Run)
	loop("passkeys", g.passkeys.Run)
	loop("backends", g.backends.run)
	enforcer := &admin.Enforcer{Store: g.store, Accounts: g.accounts, Keys: g.keys, Mux: g.mux, Log: g.log}
	loop("enforcer", enforcer.Run)
	loop("reload", g.reloadOnHangup)
	loop("memory", tendMemory)
	for _, s := range g.sockets.mail {
		loop(s.name, func(ctx context.Context) error { return g.mux.Serve(ctx, s.Listener, s.port) })
	}
	plain := g.plain()
	for _, ln := range g.sockets.http {
		loop(httpName, func(ctx context.Context) error { return plain.Serve(ctx, ln) })
	}
	server := &admin.Server{Service: g.admin, Metrics: g.metrics, Log: g.log}
	loop(adminName, func(ctx context.Context) error { return server.Serve(ctx, g.sockets.admin) })
	if ln := g.sockets.metrics; ln != nil {
		loop(metricsName, func(ctx context.Context) error { return server.ServeMetrics(ctx, ln) })
	}
	g.ready(ctx)

	select {
	case <-ctx.Done():
	case <-loops.Done(): // and now it may take shutdown_timeout to end
		g.log.Error().Err(context.Cause(loops)).Msg("a part of the gateway failed")
	}
	g.drain()
	group.Go(func() error { return errStopped })
	if err := group.Wait(); !errors.Is(err, errStopped) {
		return err
	}
	g.log.Info().Msg("stopped")
	return nil
}

// ready tells everybody who waits that the gateway serves.
func (g *gateway) ready(ctx context.Context) {
	g.admin.SetState(admin.Serving)
	for _, l := range g.sockets.listeners() {
		g.log.Info().Str("name", l.Name).Str("address", l.Address).Msg("listening")
	}
	g.notify(daemon.SdNotifyReady)
	g.welcome(ctx)
}

// drain lets the connections end.
func (g *gateway) drain() {
	g.admin.SetState(admin.Draining)
	g.notify(daemon.SdNotifyStopping)
	g.log.Info().Stringer("timeout", g.cfg.ShutdownTimeout).Msg("draining")
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(g.cfg.ShutdownTimeout))
	defer cancel()
	if err := g.mux.Shutdown(ctx); err != nil {
		g.log.Warn().Err(err).Msg("connections were cut off")
	}
}

// notify tells systemd, if it started the gateway.
func (g *gateway) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		g.log.Warn().Err(err).Msg("systemd could not be told")
	}
}
