package sites

import (
	"net/http/httputil"
	"strings"
)

// rewrite makes the request that the site gets of one that httputil has cleared
// of what concerns the client's connection alone.
//
// There is no Via: servers such as nginx leave a response uncompressed for whom
// they see behind a proxy.
func (s *proxy) rewrite(p *httputil.ProxyRequest) {
	out := p.Out
	out.URL.Scheme, out.URL.Host = s.url.Scheme, s.url.Host
	out.URL.RawQuery = p.In.URL.RawQuery // httputil drops parameters that others understand
	out.Host = p.In.Host
	for name := range out.Header {
		if forged(name) {
			delete(out.Header, name)
		}
	}
	p.SetXForwarded()
	if b, ok := p.In.Body.(*body); ok {
		out.Trailer = b.trailer
	}
}

// forged reports whether a header field is one in which proxies say who asks, and
// for what, so that a client's own would be a lie: those of RFC 7239, of nginx and
// IIS, and of the large CDNs. CGI and its kin take X_Real_IP for X-Real-IP.
func forged(name string) bool {
	if name == "" {
		return false
	}
	switch name[0] | 0x20 {
	case 'c', 'f', 't', 'x':
	default:
		return false
	}
	switch name = strings.ToLower(strings.ReplaceAll(name, "_", "-")); name {
	case "forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-host", "x-original-url", "x-rewrite-url",
		"true-client-ip", "cf-connecting-ip", "cf-connecting-ipv6", "fastly-client-ip", "x-proxyuser-ip":
		return true
	}
	return strings.HasPrefix(name, "x-forwarded-")
}
