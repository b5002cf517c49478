package client

import (
	"net"
	"net/url"
	"slices"
	"strconv"

	"posthorn/alpn"
)

// Kind is a way to reach a gateway, by the name that it has in configurations.
type Kind string

const (
	Dedicated Kind = "dedicated" // port 993 or 465, with ALPN
	ALPN      Kind = "alpn"      // port 443, with ALPN
	ECH       Kind = "ech"       // port 443, with ALPN, the server name encrypted (RFC 9849)
	ECHName   Kind = "ech-name"  // port 443, by a server name that is encrypted, without ALPN, which crypto/tls shows
	Name      Kind = "name"      // port 443, by a server name, without ALPN
	Web       Kind = "web"       // port 443, inside HTTPS
	Bare      Kind = "bare"      // port 993 or 465, without ALPN: as mail programs do
)

// DefaultRoutes are the routes that a Dialer tries, in its order.
func DefaultRoutes() []Kind { return []Kind{Dedicated, ALPN, ECH, Name, ECHName, Web} }

// AllRoutes are all that there are, which Probe tries.
func AllRoutes() []Kind { return []Kind{Dedicated, Bare, ALPN, Name, ECH, ECHName, Web} }

// Route is one way to one protocol of a gateway.
type Route struct {
	Kind     Kind          `json:"route"`
	Protocol alpn.Protocol `json:"protocol"`
	// Address is what is connected to, as HOST:PORT.
	Address string `json:"address"`
	// ServerName is what the certificate has to be for. With ECH it is hidden.
	ServerName string `json:"server_name"`
	// Proxy is the proxy in front, without its password; empty: there is none.
	Proxy string `json:"proxy,omitempty"`

	proxy *url.URL
}

// String names the route for people.
func (r Route) String() string {
	s := string(r.Kind) + " " + r.Address
	if host, _, err := net.SplitHostPort(r.Address); err == nil && host != r.ServerName {
		s += " as " + r.ServerName
	}
	if r.Proxy != "" {
		s += " through " + r.Proxy
	}
	return s
}

// protocols is the ALPN offer, which is nil on routes that make none.
func (r Route) protocols() []string {
	switch r.Kind {
	case Name, ECHName, Bare:
		return nil
	}
	return []string{string(r.Protocol)}
}

func (r Route) encrypted() bool { return r.Kind == ECH || r.Kind == ECHName }

// Plain reports whether programs that know neither ALPN nor ECH can go this
// way, as long as they can be told a port.
func (r Route) Plain() bool { return r.Kind == Bare || r.Kind == Name }

// route is the route of a kind to a protocol. Its error is the proxy's
// configuration.
func (d *Dialer) route(k Kind, p alpn.Protocol) (Route, error) {
	r := Route{Kind: k, Protocol: p, ServerName: d.config.Host}
	port := d.config.Ports.Shared
	switch k {
	case Dedicated, Bare:
		port = d.config.Ports.IMAPS
		if p == alpn.SMTP {
			port = d.config.Ports.Submissions
		}
	case Name, ECHName:
		r.ServerName = d.config.Names.IMAP
		if p == alpn.SMTP {
			r.ServerName = d.config.Names.Submission
		}
	}
	r.Address = net.JoinHostPort(d.config.Address, strconv.Itoa(int(port)))
	var err error
	if r.proxy, err = d.config.Proxy(&url.URL{Scheme: "https", Host: r.Address}); err != nil {
		return r, err
	}
	if r.proxy != nil {
		r.Proxy = (&url.URL{Scheme: r.proxy.Scheme, Host: r.proxy.Host}).String()
	}
	return r, nil
}

// routes are the routes to a protocol; the one that worked last in this network
// comes first.
func (d *Dialer) routes(p alpn.Protocol) ([]Route, error) {
	var all []Route
	for _, k := range d.config.Routes {
		r, err := d.route(k, p)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	best := d.config.Memory.recall(d.memoryKey(p))
	if i := slices.IndexFunc(all, func(r Route) bool { return r.Kind == best }); i > 0 {
		r := all[i]
		all = slices.Insert(slices.Delete(all, i, i+1), 0, r)
	}
	return all, nil
}

func (d *Dialer) memoryKey(p alpn.Protocol) string {
	return d.config.Host + " " + d.config.Address + " " + string(p)
}
