package client

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"posthorn/authkeys"
)

// Config says how a gateway is reached, and who logs in there. Host alone is
// required.
type Config struct {
	// Host is the gateway's name, which its certificate has to have.
	Host string
	// Address is the name or IP address to connect to; default Host.
	Address string
	// Ports are the TCP ports; zero ones take the usual numbers.
	Ports Ports
	// Names are the server names that lead to a protocol without ALPN; empty
	// ones are derived, from the domain of User or else from Host:
	// imap.example.org and smtp.example.org.
	Names Names

	// Identity is the key that logs in; nil: none.
	Identity *Identity
	// User is the address that logs in with Password. With Identity alone it may
	// be empty, or be the address of the account that is meant.
	User     string
	Password Secret

	// Routes are what is tried, in this order; default DefaultRoutes.
	Routes []Kind
	// InOrder tries the routes one after the other instead of in a race.
	InOrder bool
	// Stagger is how long a race waits for a route before it begins with the
	// next; default 250 ms (RFC 8305 section 5).
	Stagger time.Duration
	// Timeout bounds one route up to the greeting; default 10 s.
	Timeout time.Duration
	// LoginTimeout bounds what follows, up to the login; default 30 s.
	LoginTimeout time.Duration

	// Proxy says which proxy leads to a URL, https://HOST:PORT: http, https,
	// socks5 or socks5h, with user and password if need be; nil: none. Where
	// there is a proxy nothing goes past it, look-ups of names included. What logs
	// in to an http or socks5 proxy goes there in the clear, as those have it; to an
	// https one it does not. Default ProxyFromEnvironment.
	Proxy func(*url.URL) (*url.URL, error)

	// RootCAs are whom the gateway's certificate has to be from; default the
	// system's.
	RootCAs *x509.CertPool
	// Pins are SHA-256 fingerprints of public keys. When there are some, the
	// chain of the gateway's certificate has to have one of them, besides being
	// valid. Without pins, who has a CA that RootCAs trusts can stand for the
	// gateway: he gets no login by a key, but hears a password if he asks for it.
	Pins []authkeys.Fingerprint

	// ECHConfigList is the gateway's, in its wire form (RFC 9849 section 4), for
	// the routes that need it; default: it is looked up.
	ECHConfigList []byte
	// Resolver is the DNS resolver that is asked for it, HOST:PORT; default the
	// first of /etc/resolv.conf.
	Resolver string

	// WebPath is where the gateway has the web transport; default
	// webtransport.DefaultPath.
	WebPath string

	// Memory keeps which route worked in which network; default: one in memory,
	// for this Dialer alone.
	Memory *Memory

	// DialContext makes TCP connections, to the gateway or the proxy; default a
	// net.Dialer's.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// Log hears, at debug, how routes fare.
	Log zerolog.Logger
}

// Ports are TCP ports of a gateway.
type Ports struct {
	Shared      uint16 // of every protocol; 443
	IMAPS       uint16 // 993
	Submissions uint16 // 465
}

// Names are the server names that lead to a protocol without ALPN.
type Names struct{ IMAP, Submission string }

// Secret is a password: package fmt and JSON do not show it.
type Secret string

// Format implements fmt.Formatter.
func (s Secret) Format(f fmt.State, _ rune) {
	if s != "" {
		_, _ = io.WriteString(f, "(hidden)")
	}
}

// MarshalText hides the password as well.
func (s Secret) MarshalText() ([]byte, error) { return fmt.Append(nil, s), nil }

// ErrConfig says that a Config makes no sense; the error that wraps it says why.
var ErrConfig = errors.New("client configuration")

// complete checks the configuration and fills in its defaults.
func (c *Config) complete() error {
	switch {
	case c.Host == "" || strings.ContainsAny(c.Host, " /:@\r\n\x00"):
		return fmt.Errorf("%w: the gateway's host name is missing or malformed", ErrConfig)
	case c.Password != "" && c.User == "":
		return fmt.Errorf("%w: a password, and nobody whose it is", ErrConfig)
	case strings.ContainsAny(c.User, "\r\n\x00") || strings.ContainsAny(string(c.Password), "\r\n\x00"):
		return fmt.Errorf("%w: control characters in user or password", ErrConfig)
	}
	for _, k := range c.Routes {
		if !slices.Contains(AllRoutes(), k) {
			return fmt.Errorf("%w: %q is no route", ErrConfig, k)
		}
	}
	if c.Routes == nil {
		c.Routes = DefaultRoutes()
	}
	if len(c.Routes) == 0 {
		return fmt.Errorf("%w: there is no route to try", ErrConfig)
	}
	c.Address = cmp.Or(c.Address, c.Host)
	c.Ports = Ports{cmp.Or(c.Ports.Shared, 443), cmp.Or(c.Ports.IMAPS, 993), cmp.Or(c.Ports.Submissions, 465)}
	domain := c.domain()
	c.Names = Names{cmp.Or(c.Names.IMAP, "imap."+domain), cmp.Or(c.Names.Submission, "smtp."+domain)}
	c.Stagger = cmp.Or(c.Stagger, 250*time.Millisecond)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.LoginTimeout = cmp.Or(c.LoginTimeout, 30*time.Second)
	if c.Proxy == nil {
		c.Proxy = ProxyFromEnvironment
	}
	if c.Memory == nil {
		c.Memory = NewMemory("")
	}
	if c.DialContext == nil {
		c.DialContext = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	}
	return nil
}

// keepAlive finds out within three minutes that a network has dropped a
// connection, and wakes no radio more often than that takes.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 30 * time.Second, Count: 4}

// domain is where the names of the protocols are most likely below of.
func (c *Config) domain() string {
	if _, domain, ok := strings.Cut(c.User, "@"); ok && domain != "" {
		return domain
	}
	for _, label := range []string{"mail.", "mx.", "imap.", "smtp."} {
		if rest, ok := strings.CutPrefix(c.Host, label); ok && strings.Contains(rest, ".") {
			return rest
		}
	}
	return c.Host
}
