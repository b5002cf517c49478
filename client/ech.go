package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/miekg/dns"
)

// echSource finds the gateway's ECHConfigList: the one that is configured, else
// what the HTTPS record says (RFC 9848), else the gateway itself.
type echSource struct {
	dialer *Dialer
	once   chan struct{} // one look-up at a time; made by the Dialer

	found   []byte // guarded by once, as the rest
	failed  error
	current time.Time // until when found or failed holds
}

// How long an answer holds. The gateway accepts a key for months, and tells those
// who come with one that is too old.
const (
	echFound  = time.Hour
	echFailed = 30 * time.Second
	echDNS    = 2 * time.Second // for a resolver to answer
)

// list returns the gateway's ECHConfigList. proxied says that names are a proxy's
// to resolve.
func (s *echSource) list(ctx context.Context, proxied bool) ([]byte, error) {
	if list := s.dialer.config.ECHConfigList; list != nil {
		return list, nil
	}
	select {
	case s.once <- struct{}{}:
		defer func() { <-s.once }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if time.Now().Before(s.current) {
		return s.found, s.failed
	}
	found, err := s.look(ctx, proxied)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.found, s.failed, s.current = found, err, time.Now().Add(echFound)
	if err != nil {
		s.current = time.Now().Add(echFailed)
	}
	return found, err
}

// learn replaces what is known by what the gateway has said in a handshake.
func (s *echSource) learn(list []byte) {
	s.once <- struct{}{}
	defer func() { <-s.once }()
	s.found, s.failed, s.current = list, nil, time.Now().Add(echFound)
}

func (s *echSource) look(ctx context.Context, proxied bool) ([]byte, error) {
	var inDNS error
	if !proxied {
		var list []byte
		if list, inDNS = s.askDNS(ctx); len(list) > 0 {
			return list, nil
		}
	}
	list, err := s.askGateway(ctx)
	switch {
	case len(list) > 0:
		return list, nil
	case inDNS != nil || err != nil:
		return nil, fmt.Errorf("%w: %w", errNoECH, errors.Join(inDNS, err))
	}
	return nil, errNoECH
}

// askDNS looks for an HTTPS record (RFC 9460 section 9) with a list. No record is
// no error.
func (s *echSource) askDNS(ctx context.Context) ([]byte, error) {
	c := &s.dialer.config
	if _, err := netip.ParseAddr(c.Host); err == nil || c.Host == "localhost" {
		return nil, nil
	}
	server, err := resolver(c.Resolver)
	if err != nil {
		return nil, err
	}
	name := c.Host
	if c.Ports.Shared != 443 {
		name = "_" + strconv.Itoa(int(c.Ports.Shared)) + "._https." + name
	}
	ctx, cancel := context.WithTimeout(ctx, echDNS)
	defer cancel()
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeHTTPS).SetEdns0(1232, false)
	answer, _, err := new(dns.Client).ExchangeContext(ctx, query, server)
	if err == nil && answer.Truncated {
		answer, _, err = (&dns.Client{Net: "tcp"}).ExchangeContext(ctx, query, server)
	}
	if err != nil {
		return nil, fmt.Errorf("HTTPS record: %w", err)
	}
	return echOf(answer.Answer), nil
}

func resolver(server string) (string, error) {
	if server != "" {
		return server, nil
	}
	c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err == nil && len(c.Servers) == 0 {
		err = errors.New("there is none in /etc/resolv.conf")
	}
	if err != nil {
		return "", fmt.Errorf("HTTPS record: no resolver is known: %w", err)
	}
	return net.JoinHostPort(c.Servers[0], c.Port), nil
}

// echOf is the list in the record that comes first.
func echOf(records []dns.RR) (list []byte) {
	best := uint16(0)
	for _, rr := range records {
		r, ok := rr.(*dns.HTTPS)
		if !ok || r.Priority == 0 || best != 0 && r.Priority >= best { // 0 is an alias
			continue
		}
		for _, v := range r.Value {
			if e, ok := v.(*dns.SVCBECHConfig); ok {
				best, list = r.Priority, e.ECH
			}
		}
	}
	return list
}

// originPath is where a server tells what its HTTPS record should be
// (draft-ietf-tls-wkech).
const originPath = "/.well-known/origin-svcb"

// askGateway asks the gateway over HTTPS, which looks like a browser's visit.
func (s *echSource) askGateway(ctx context.Context) ([]byte, error) {
	d := s.dialer
	r, err := d.route(ALPN, "")
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.connect(ctx, r.Address, r.proxy)
		},
		TLSClientConfig: &tls.Config{
			ServerName: d.config.Host, RootCAs: d.config.RootCAs, MinVersion: tls.VersionTLS13,
			NextProtos: []string{"http/1.1"}, VerifyConnection: d.verifyPins,
		},
		DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
	}
	defer transport.CloseIdleConnections()
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(d.config.Host, strconv.Itoa(int(d.config.Ports.Shared))), Path: originPath}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", originPath, oneLine(resp.Status))
	}
	return parseOrigin(io.LimitReader(resp.Body, 64<<10))
}

// parseOrigin finds the list of the endpoint that comes first.
func parseOrigin(r io.Reader) ([]byte, error) {
	var origin struct {
		Endpoints []struct {
			Priority int
			Params   struct {
				ECH []byte // base64
			}
		}
	}
	if err := json.NewDecoder(r).Decode(&origin); err != nil {
		return nil, fmt.Errorf("%s: malformed", originPath)
	}
	var list []byte
	best := 0
	for _, e := range origin.Endpoints {
		if len(e.Params.ECH) > 0 && (best == 0 || e.Priority < best) {
			best, list = e.Priority, e.Params.ECH
		}
	}
	return list, nil
}
