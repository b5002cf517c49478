package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// problem is a value that is wrong: its key, and what comes after the key in a
// sentence.
type problem struct{ key, text string }

// problems collects them.
type problems []problem

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, problem{key, fmt.Sprintf(format, args...)})
}

// check reports every value that is wrong.
func (c *Config) check() problems {
	var p problems
	if c.DataDir == "" {
		p.add("data_dir", "must not be empty")
	}
	if c.Hostname != "" {
		p.name("hostname", c.Hostname)
	}
	if len(c.Domains) == 0 {
		p.add("domains", "must name at least one domain")
	}
	p.names("domains", c.Domains)
	p.names("mail_names.imap", c.MailNames.IMAP)
	p.names("mail_names.submission", c.MailNames.Submission)
	for i, n := range c.MailNames.Submission {
		if slices.Contains(c.imapNames(), n) {
			p.add(fmt.Sprintf("mail_names.submission[%d]", i), "leads to IMAP already")
		}
	}
	c.checkListen(&p)
	c.checkPublic(&p)
	c.checkTLS(&p)
	c.checkProxies(&p)
	c.checkBackends(&p)
	c.checkSites(&p)
	c.checkWeb(&p)
	c.checkDiscovery(&p)
	c.checkSignup(&p)
	c.checkAdmin(&p)
	c.checkLimits(&p)
	p.oneOf("submission.from_header", c.Submission.FromHeader, "refuse", "replace", "allow")
	p.atLeast("submission.max_recipients", c.Submission.MaxRecipients, 100) // RFC 5321 section 4.5.3.1.8
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "auto", "json", "console")
	p.atLeast("max_message_size", int(c.MaxMessageSize), 64<<10) // RFC 5321 section 4.5.3.1.7
	if c.MaxMessageSize > 2<<30 {
		p.add("max_message_size", "must be at most 2 GiB")
	}
	p.duration("shutdown_timeout", c.ShutdownTimeout, time.Second, time.Hour)
	return p
}

func (c *Config) checkListen(p *problems) {
	seen := make(map[string]string)
	none := true
	for _, l := range append(c.listens(), c.listenHTTP()) {
		for i, addr := range l.addrs {
			key := fmt.Sprintf("%s[%d]", l.key, i)
			none = none && l.name == httpName
			_, port, ok := p.hostPort(key, addr)
			if other, twice := seen[addr]; ok && twice && port != 0 {
				p.add(key, "is the address of %s already", other)
			}
			seen[addr] = key
		}
	}
	if none {
		p.add("listen", "must name at least one address")
	}
	if m := c.Listen.Metrics; m != "" {
		host, _, ok := p.hostPort("listen.metrics", m)
		if ip, err := netip.ParseAddr(host); ok && host != "localhost" && (err != nil || !ip.IsLoopback()) {
			p.add("listen.metrics", "must be a loopback address, such as 127.0.0.1:9100")
		}
	}
}

// checkPublic checks what is told to the world.
func (c *Config) checkPublic(p *problems) {
	for i, text := range c.PublicAddresses {
		if a, err := netip.ParseAddr(text); err != nil || a.Zone() != "" {
			p.add(fmt.Sprintf("public_addresses[%d]", i), "must be an IP address, not %q", text)
		}
	}
	id := c.WebNames.MTASTS
	if strings.Trim(strings.ToLower(id), "abcdefghijklmnopqrstuvwxyz0123456789") != "" || len(id) > 32 { // RFC 8461 section 3.1
		p.add("web_names.mta_sts", "must be of up to 32 letters and digits, such as 20260101, not %q", id)
	}
}

func (c *Config) checkProxies(p *problems) {
	for i, text := range c.ProxyProtocol.From {
		key := fmt.Sprintf("proxy_protocol.from[%d]", i)
		switch n, err := parseNetwork(text); {
		case err != nil:
			p.add(key, "must be a network, such as 192.0.2.0/24, not %q", text)
		case n.Bits() == 0:
			p.add(key, "trusts everybody: any client could claim any address")
		}
	}
}

// parseNetwork reads a network, or an address, which is a network of one.
func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	n, err := netip.ParsePrefix(s)
	return n.Masked(), err
}

// proxyFrom returns the networks of a configuration that was checked.
func (c *Config) proxyFrom() (networks []netip.Prefix) {
	for _, text := range c.ProxyProtocol.From {
		if n, err := parseNetwork(text); err == nil {
			networks = append(networks, n)
		}
	}
	return networks
}

func (c *Config) checkLimits(p *problems) {
	l := &c.Limits
	p.duration("limits.handshake", l.Handshake, time.Second, 5*time.Minute)
	p.duration("limits.pre_login", l.PreLogin, time.Second, time.Hour)
	p.duration("limits.idle", l.Idle, time.Minute, 30*24*time.Hour)
	p.duration("limits.password_window", l.PasswordWindow, time.Second, 24*time.Hour)
	p.duration("limits.password_block", l.PasswordBlock, time.Second, 30*24*time.Hour)
	p.duration("limits.dead_peer", l.DeadPeer, 10*time.Second, 24*time.Hour)
	p.atLeast("limits.min_rate", l.MinRate, 1)
	p.atLeast("limits.connections", l.Connections, 1)
	p.atLeast("limits.connections_per_source", l.ConnectionsPerSource, 1)
	p.atLeast("limits.connections_per_account", l.ConnectionsPerAccount, 1)
	p.atLeast("limits.unauthenticated_start", l.UnauthenticatedStart, 1)
	p.atLeast("limits.unauthenticated_full", l.UnauthenticatedFull, l.UnauthenticatedStart)
	p.atLeast("limits.unauthenticated_per_source", l.UnauthenticatedPerSource, 1)
	p.atLeast("limits.pre_login_line", int(l.PreLoginLine), 512)
	p.atLeast("limits.pre_login_literal", int(l.PreLoginLiteral), 256)
	p.atLeast("limits.passwords_per_connection", l.PasswordsPerConnection, 1)
	p.atLeast("limits.password_failures", l.PasswordFailures, 1)
	if l.PreLogin < l.Handshake {
		p.add("limits.pre_login", "must not be shorter than limits.handshake, which is part of it")
	}
}

// names checks a list of server names, none of which may stand there twice.
func (p *problems) names(key string, names []string) {
	for i, n := range names {
		key := fmt.Sprintf("%s[%d]", key, i)
		p.name(key, n)
		if slices.Contains(names[:i], n) {
			p.add(key, "stands there twice: %s", n)
		}
	}
}

// name checks a host name: lower case, A-labels, no final dot. Underscores are
// taken: names that begin with one are how some mail programs mark servers
// without a CA's certificate.
func (p *problems) name(key, n string) {
	profile := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false), idna.VerifyDNSLength(true))
	ascii, err := profile.ToASCII(n)
	plain := strings.Trim(ascii, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
	switch {
	case n == "":
		p.add(key, "must not be empty")
	case err != nil || !plain || strings.HasSuffix(n, "."):
		p.add(key, "is not a host name: %q", n)
	case ascii != n:
		p.add(key, "must be written as %s", ascii)
	case isIP(n):
		p.add(key, "must be a name, not an IP address")
	}
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func (p *problems) hostPort(key, addr string) (host string, port int, ok bool) {
	host, text, err := net.SplitHostPort(addr)
	n, perr := strconv.ParseUint(text, 10, 16)
	if err != nil || perr != nil {
		p.add(key, "must be HOST:PORT, such as 0.0.0.0:443 or [::]:443, not %q", addr)
		return "", 0, false
	}
	if host != "" && host != "localhost" && !isIP(host) {
		p.add(key, "must name an IP address or localhost, not %q", host)
		return "", 0, false
	}
	return host, int(n), true
}

func (p *problems) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add(key, "must be one of %s, not %q", strings.Join(allowed, ", "), value)
	}
}

func (p *problems) atLeast(key string, value, least int) {
	if value < least {
		p.add(key, "must be at least %d", least)
	}
}

func (p *problems) duration(key string, value Duration, least, most time.Duration) {
	if d := time.Duration(value); d < least || d > most {
		p.add(key, "must be between %s and %s", Duration(least), Duration(most))
	}
}
