package mux

import (
	"context"
	"crypto/tls"
	"time"
)

// log writes the connection's line. Connections that never came as far as a
// handler are chatter.
func (c *Conn) log() {
	t := &c.srv.table
	t.mu.Lock()
	defer t.mu.Unlock()
	e := c.srv.config.Log.Debug()
	if c.handled || c.version != 0 {
		e = c.srv.config.Log.Info()
	}
	if e == nil {
		return
	}
	e = e.Uint64("id", c.ID).Str("protocol", string(c.Protocol)).Str("server_name", c.ServerName)
	if !c.srv.config.Privacy {
		e = e.Str("remote", c.remoteForLog())
	}
	if id := c.identity; id.Account != "" {
		account := id.Address
		if c.srv.config.Privacy || account == "" {
			account = id.Account
		}
		e = e.Str("account", account).Str("mechanism", id.Mechanism)
	}
	if !c.Key.IsZero() {
		e = e.Stringer("key", c.Key)
	}
	if c.KeyErr != nil {
		e = e.AnErr("key_refused", c.KeyErr)
	}
	if c.failures > 0 {
		e = e.Int("login_failures", c.failures).Str("login_failure", c.failure)
	}
	if c.version != 0 {
		e = e.Str("tls", tls.VersionName(c.version)).Bool("resumed", c.resumed)
	}
	e.Dur("duration", time.Since(c.since)).
		Uint64("bytes_in", c.wire.in.Load()).Uint64("bytes_out", c.wire.out.Load()).
		Str("reason", c.whyEnded()).Msg("connection")
}

func (c *Conn) whyEnded() string {
	if c.reason != "" {
		return c.reason
	}
	if cause := context.Cause(c.ctx); cause != nil {
		return cause.Error()
	}
	return "closed"
}

// remoteForLog is empty when the log keeps remotes private.
func (c *Conn) remoteForLog() string {
	if c.srv.config.Privacy || !c.Remote.IsValid() {
		return ""
	}
	return c.Remote.String()
}
