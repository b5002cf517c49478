package mux

import (
	"cmp"
	"context"
	"crypto/tls"
	"time"
)

// log writes the connection's line. Connections that never came as far as a
// handler are chatter.
func (c *Conn) log() {
	t := &c.srv.table
	t.mu.Lock()
	id, failures, failure, reason := c.identity, c.failures, c.failure, c.reason
	served := c.handled || c.version != 0
	t.mu.Unlock()

	e := c.srv.config.Log.Debug()
	if served {
		e = c.srv.config.Log.Info()
	}
	if e == nil {
		return
	}
	e = e.Uint64("id", c.ID).Str("protocol", string(c.Protocol)).Str("server_name", c.ServerName)
	if remote := c.remoteForLog(); remote != "" {
		e = e.Str("remote", remote)
	}
	if c.via != nil {
		e = e.Uint64("via", c.via.ID)
	}
	if id.Account != "" {
		e = e.Str("account", c.accountForLog(id)).Str("mechanism", id.Mechanism)
	}
	if !c.Key.IsZero() {
		e = e.Stringer("key", c.Key)
	}
	if c.KeyErr != nil {
		e = e.Stringer("key", *c.refused).AnErr("key_refused", c.KeyErr)
	}
	if failures > 0 {
		e = e.Int("login_failures", failures).Str("login_failure", failure)
	}
	if c.version != 0 {
		e = e.Str("tls", tls.VersionName(c.version)).Bool("resumed", c.resumed)
	}
	if cause := context.Cause(c.ctx); reason == "" && cause != nil {
		reason = cause.Error()
	}
	e.Dur("duration", time.Since(c.since)).
		Uint64("bytes_in", c.wire.in.Load()).Uint64("bytes_out", c.wire.out.Load()).
		Str("reason", cmp.Or(reason, "closed")).Msg("connection")
}

// accountForLog is the address, or the ID when the log keeps addresses private.
func (c *Conn) accountForLog(id Identity) string {
	if c.srv.config.Privacy {
		return id.Account
	}
	return cmp.Or(id.Address, id.Account)
}

// remoteForLog is empty when the log keeps remotes private.
func (c *Conn) remoteForLog() string {
	if c.srv.config.Privacy || !c.Remote.IsValid() {
		return ""
	}
	return c.Remote.String()
}
