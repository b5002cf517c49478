package https

import (
	"net/http/httputil"
	"strings"
)

// rewrite makes the request that the site gets of one that httputil has cleared
// of what concerns the client's connection alone.
//
// There is no Via: servers such as nginx leave a response uncompressed for whom
// they see behind a proxy.
func (s *Site) rewrite(p *httputil.ProxyRequest) {
	out := p.Out
	out.URL.Scheme, out.URL.Host = s.upstream.url.Scheme, s.upstream.url.Host
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

// forged reports whether a header field is one that proxies add, so that a
// client's own would be a lie. CGI and its kin take X_Real_IP for X-Real-IP.
func forged(name string) bool {
	if name == "" || name[0] != 'X' && name[0] != 'F' && name[0] != 'x' && name[0] != 'f' {
		return false
	}
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	return name == "forwarded" || name == "x-real-ip" || strings.HasPrefix(name, "x-forwarded-")
}
