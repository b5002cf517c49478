package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"posthorn/handlers/https/transport"
)

// WebTransport is about mail inside web requests, for clients in networks that
// let nothing else through.
type WebTransport struct {
	// Enabled has it served, on every name.
	Enabled bool `yaml:"enabled"`
	// Path has imap and submission below it. It may be a secret: requests that
	// do not ask for the transport are answered as if nothing were there.
	Path string `yaml:"path"`
	// Origins are those of web pages that may use it, as https://HOST. Programs
	// other than browsers may in any case.
	Origins []string `yaml:"origins"`
	// Ping is after what silence a client is sent a ping, so that what is in
	// between does not take the connection for dead; 0s: never.
	Ping Duration `yaml:"ping"`
}

func defaultTransport() WebTransport {
	return WebTransport{Enabled: true, Path: "/.well-known/posthorn", Ping: Duration(25 * time.Second)}
}

func (c *Config) checkTransport(p *problems) {
	t := &c.Web.Transport
	if !strings.HasPrefix(t.Path, "/") || len(t.Path) < 2 || len(t.Path) > 256 || t.Path != plainPath(t.Path) {
		p.add("web.transport.path", "must begin with a slash, not end with one, and be of letters, digits and -._~/, such as /.well-known/posthorn")
	}
	for i, o := range t.Origins {
		if !isOrigin(o) {
			p.add(fmt.Sprintf("web.transport.origins[%d]", i), "must be as https://webmail.example.org, not %q", o)
		}
	}
	if t.Ping != 0 {
		p.duration("web.transport.ping", t.Ping, time.Second, time.Hour)
	}
}

// plainPath is what of a path means the same however it is written: no escapes,
// no empty parts, and none that lead up.
func plainPath(path string) string {
	plain, err := url.JoinPath("/", path)
	if err != nil || strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("-._~/", r) && (r > 'z' || !isAlphanumeric(byte(r)))
	}) {
		return ""
	}
	return strings.TrimSuffix(plain, "/")
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// isOrigin reports whether s is an origin as browsers write it (RFC 6454
// section 6.2), of a page whose scripts came over TLS or from this machine.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme+"://"+u.Host != s || u.Host != strings.ToLower(u.Host) || u.Hostname() == "" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	local := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && local
}

// transport returns who carries mail inside the web; nil: nobody.
func (g *gateway) transport() *transport.Handler {
	t := &g.cfg.Web.Transport
	if !t.Enabled {
		return nil
	}
	return &transport.Handler{Path: t.Path, Origins: t.Origins, Ping: time.Duration(t.Ping)}
}
