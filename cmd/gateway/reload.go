package main

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

// reloadOnHangup reads again what can change whenever SIGHUP comes, until ctx
// ends.
func (g *gateway) reloadOnHangup(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.hangups:
			g.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
			g.reload(ctx)
			g.notify(daemon.SdNotifyReady)
		}
	}
}

// reload takes over what can change. A configuration with mistakes changes
// nothing.
func (g *gateway) reload(ctx context.Context) {
	if err := g.certs.Reload(ctx); err != nil {
		g.log.Error().Err(err).Msg("reload: certificates that cannot be read stay as they were")
	}
	cfg, err := g.cli.configBy(loadForServing)
	if err != nil {
		g.log.Error().Err(err).Msg("reload: the configuration stays as it was")
		return
	}
	setLevel(cfg.Log)
	g.mux.SetLimits(muxLimits(cfg))
	g.imap.SetLimits(imapLimits(cfg))
	g.accounts.SetThrottle(throttle(cfg))
	if err := g.reloadSites(cfg); err != nil {
		g.log.Error().Err(err).Msg("reload: the sites stay as they were")
		cfg.Site, cfg.Sites = g.cfg.Site, g.cfg.Sites
	}
	changed, restart := changes(g.cfg, cfg)
	if len(restart) > 0 {
		g.log.Warn().Strs("keys", restart).Msg("reload: these keys changed and want a restart")
	}
	// What wants a restart is compared with what is in force, at the next
	// reload too.
	g.cfg.Log.Level = cfg.Log.Level
	g.cfg.Limits = cfg.Limits
	g.limits.Store(&cfg.Limits)
	if g.gate != nil {
		g.cfg.Admin.Keys = cfg.Admin.Keys
		g.gate.SetKeys(cfg.adminKeys())
	}
	g.cfg.Site, g.cfg.Sites = cfg.Site, cfg.Sites
	g.log.Info().Strs("changed", changed).Msg("reloaded")
}

// reloadSites opens the sites anew, even if the configuration has not changed:
// another folder may have taken the name of one.
func (g *gateway) reloadSites(cfg *Config) error {
	behind, err := cfg.sites()
	if err != nil {
		return err
	}
	if err := g.sites.Replace(behind); err != nil {
		return err
	}
	for _, host := range cfg.siteNames() {
		if !g.certs.Named(host) {
			g.log.Warn().Str("host", host).Msg("reload: a site's new name is served after a restart")
		}
	}
	return nil
}

// reloadable reports whether a key takes effect without a restart.
func reloadable(key string) bool {
	return key == "log.level" || key == "admin.keys" || key == "site.upstream" || key == "sites" || strings.HasPrefix(key, "limits.")
}

// changes lists the keys whose values differ: those that take effect at a
// reload, and those that want a restart.
func changes(old, new *Config) (reload, restart []string) {
	for _, key := range differing(reflect.ValueOf(*old), reflect.ValueOf(*new), "") {
		if reloadable(key) {
			reload = append(reload, key)
		} else {
			restart = append(restart, key)
		}
	}
	slices.Sort(reload)
	slices.Sort(restart)
	return reload, restart
}

func differing(a, b reflect.Value, path string) (keys []string) {
	if a.Kind() == reflect.Struct {
		for i := range a.NumField() {
			name := a.Type().Field(i).Tag.Get("yaml")
			keys = append(keys, differing(a.Field(i), b.Field(i), join(path, name))...)
		}
		return keys
	}
	if !reflect.DeepEqual(a.Interface(), b.Interface()) {
		return []string{path}
	}
	return nil
}
