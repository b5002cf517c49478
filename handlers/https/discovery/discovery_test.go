package discovery_test

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/alpn"
	"posthorn/autoconf"
	"posthorn/handlers/https"
	"posthorn/handlers/https/discovery"
	"posthorn/handlers/https/httpstest"
	"posthorn/handlers/https/sites"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// domains are two mail domains, and one of Delta Chat's that is below the first
// one's autoconfiguration name.
func domains() []autoconf.Deployment {
	var all []autoconf.Deployment
	for _, d := range []string{"example.org", "example.net", "_relay.example.org", "autoconfig.example.net"} {
		service := func(prefix string, port uint16) autoconf.Service {
			return autoconf.Service{SharedPort: 443, SharedName: prefix + d, Host: d, TLSPort: port, Keys: true}
		}
		all = append(all, autoconf.Deployment{Domain: d, IMAP: service("imap.", 993), Submission: service("smtp.", 465)})
	}
	return all
}

// gateway serves h before a site that says what it is asked.
type gateway struct {
	t    *testing.T
	addr string
}

func start(t *testing.T, h *discovery.Handler) *gateway {
	t.Helper()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "site %s %s", r.Host, r.RequestURI)
	}))
	t.Cleanup(behind.Close)
	site, err := sites.New([]sites.Site{{Upstream: &sites.Upstream{URL: behind.URL}}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(site.Close)
	s := &https.Server{
		Serves: func(string) bool { return true }, // tls.unknown_name: default
		Named: func(host string) bool {
			return host != "www.example.org" && (strings.HasSuffix(host, "example.org") || strings.HasSuffix(host, "example.net"))
		},
		Sites: site, Log: zerolog.Nop(),
	}
	h.Mount(s)
	m := mux.New(mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{alpn.HTTP1: s, alpn.HTTP2: s}, Router: new(alpn.Router),
		Certs: muxtest.NewCertificates(t), Log: zerolog.Nop(),
	})
	addr, _ := httpstest.Serve(t, m, alpn.Shared)
	return &gateway{t, addr}
}

// ask sends a request in the way of Delta Chat: without ALPN, in the absolute form.
func (g *gateway) ask(method, host, target, body string) (status int, header http.Header, text string) {
	g.t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: strings.ToLower(strings.TrimSuffix(host, "."))},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", g.addr)
		},
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(method, "https://"+host+target, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.URL.Opaque, r.URL.RawQuery = "//"+host+target, "" // net/http writes it with the scheme in front
	response, err := transport.RoundTrip(r)
	if err != nil {
		g.t.Fatalf("%s %s%s: %v", method, host, target, err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(b)
}

const (
	wellKnown = "/.well-known/autoconfig/mail/config-v1.1.xml"
	plain     = "/mail/config-v1.1.xml"
	outlook   = "/autodiscover/autodiscover.xml"
)

func TestSettings(t *testing.T) {
	g := start(t, &discovery.Handler{Domains: domains()})
	for _, c := range []struct {
		host, target string
		domain       string // whose settings come; empty: the site's answer does; "404": nothing
	}{
		{"example.org", wellKnown, "example.org"},
		{"example.org", wellKnown + "?emailaddress=me%40example.org", "example.org"},
		{"example.org", wellKnown + "?emailaddress=me%40EXAMPLE.NET", "example.net"}, // one gateway, reached by another domain's MX
		{"example.org", wellKnown + "?emailaddress=me%40elsewhere.test", "404"},
		{"example.org", wellKnown + "?emailaddress=%25EMAILADDRESS%25", "example.org"},
		{"example.org", wellKnown + "?emailaddress=%00%ff%0d%0a", "example.org"},
		{"example.org", wellKnown + "?emailaddress=" + strings.Repeat("a", 10_000) + "@example.org", "example.org"},
		{"Example.ORG.", wellKnown, "example.org"},
		{"autoconfig.example.org", plain, "example.org"},
		{"autoconfig.example.org", plain + "?emailaddress=me@example.org", "example.org"},
		{"autoconfig.example.org", wellKnown, "example.org"},
		{"_relay.example.org", wellKnown, "_relay.example.org"},
		{"autoconfig._relay.example.org", plain, "_relay.example.org"},
		{"autoconfig.example.net", wellKnown, "autoconfig.example.net"}, // which is a mail domain too
		{"autoconfig.example.net", plain, ""},
		{"example.org", plain, ""},
		{"imap.example.org", wellKnown, ""},
		{"www.example.org", wellKnown, ""},
		{"stranger.test", wellKnown, ""},
		{"autoconfig.stranger.test", plain, ""},
		{"example.org", outlook, "example.org"},
		{"autodiscover.example.org", "/Autodiscover/AUTODISCOVER.xml", "example.org"},
		{"_relay.example.org", "/AutoDiscover/autodiscover.XML", "_relay.example.org"},
		{"stranger.test", "/Autodiscover/Autodiscover.xml", ""},
	} {
		status, header, text := g.ask("GET", c.host, c.target, "")
		switch c.domain {
		case "":
			if status != 200 || !strings.HasPrefix(text, "site ") {
				t.Errorf("%s %s: %d %q", c.host, c.target, status, text)
			}
		case "404":
			if status != 404 || strings.Contains(text, "imap") {
				t.Errorf("%s %s: %d %q", c.host, c.target, status, text)
			}
		default:
			if status != 200 || !strings.Contains(text, ">"+c.domain+"<") || header.Get("Content-Type") != "text/xml; charset=utf-8" ||
				header.Get("Access-Control-Allow-Origin") != "*" || header.Get("Cache-Control") != "public, max-age=3600" {
				t.Errorf("%s %s: %d %v %s", c.host, c.target, status, header, text)
			}
		}
	}
	if status, _, _ := g.ask("POST", "example.org", wellKnown, "x"); status != 405 {
		t.Errorf("POST gets %d", status)
	}
}

func TestOutlook(t *testing.T) {
	g := start(t, &discovery.Handler{Domains: domains()})
	ask := func(address string) string {
		return "<Autodiscover><Request><EMailAddress>" + address + "</EMailAddress></Request></Autodiscover>"
	}
	for _, c := range []struct {
		host, body string
		status     int
		login      string
		code       int
	}{
		{"example.org", ask("Me@Example.ORG"), 200, "me@example.org", 0},
		{"autodiscover.example.org", ask("me@example.net"), 200, "me@example.net", 0},
		{"example.org", ask("me@elsewhere.test"), 404, "", 500},
		{"example.org", ask("me"), 404, "", 500},
		{"example.org", ask("me@example.org&lt;/LoginName>"), 404, "", 500},
		{"example.org", "<!DOCTYPE a>" + ask("me@example.org"), 400, "", 600},
		{"example.org", "", 400, "", 600},
		{"example.org", strings.Repeat("<", 1<<20), 400, "", 600},
		{"example.org", "<Autodiscover><Request><AcceptableResponseSchema>x</AcceptableResponseSchema><EMailAddress>me@example.org</EMailAddress></Request></Autodiscover>", 404, "", 601},
	} {
		status, header, text := g.ask("POST", c.host, "/Autodiscover/Autodiscover.xml", c.body)
		var answer struct {
			Logins []string `xml:"Response>Account>Protocol>LoginName"`
			Code   int      `xml:"Response>Error>ErrorCode"`
		}
		err := xml.Unmarshal([]byte(text), &answer)
		var logins []string
		if c.login != "" {
			logins = slices.Repeat([]string{c.login}, 4)
		}
		if err != nil || status != c.status || answer.Code != c.code || !slices.Equal(answer.Logins, logins) || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %.200q: %d %v %s", c.host, c.body, status, err, text)
		}
	}
}

func TestOutlookV2(t *testing.T) {
	g := start(t, &discovery.Handler{Domains: domains(), Port: 8443})
	for _, c := range []struct {
		target string
		status int
		want   string
	}{
		{"?Email=me@example.net&Protocol=AutodiscoverV1&RedirectCount=1", 200, `"Url":"https://example.net:8443/autodiscover/autodiscover.xml"`},
		{"/v1.0/me@example.org?Protocol=autodiscoverv1", 200, `"Url":"https://example.org:8443/autodiscover/autodiscover.xml"`},
		{"/v1.0/me%40elsewhere.test?Protocol=AutodiscoverV1", 404, ""},
		{"?protocol=AutodiscoverV1", 200, "https://example.org:8443/"},
		{"?Protocol=ActiveSync", 400, "InvalidProtocol"},
		{"?Protocol=%22%3cscript%3e", 400, "InvalidProtocol"},
		{"", 400, "MandatoryParameterMissing"},
	} {
		status, header, text := g.ask("GET", "example.org", "/autodiscover/autodiscover.json"+c.target, "")
		if status != c.status || !strings.Contains(text, c.want) || strings.Contains(text, "script") ||
			c.want != "" && header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s: %d %v %q", c.target, status, header, text)
		}
	}
}

func TestApple(t *testing.T) {
	g := start(t, &discovery.Handler{Domains: domains()})
	status, header, text := g.ask("GET", "autoconfig.example.org", "/email.mobileconfig?email=me@example.org", "")
	for _, part := range []string{"<string>imap.example.org</string>", "<integer>443</integer>", "<string>me@example.org</string>"} {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %s in %s", part, text)
		}
	}
	if status != 200 || header.Get("Content-Type") != "application/x-apple-aspen-config" ||
		header.Get("Content-Disposition") != `attachment; filename="example.org.mobileconfig"` || strings.Contains(text, "pkcs12") {
		t.Errorf("%d %v %s", status, header, text)
	}
	if status, _, _ = g.ask("GET", "example.org", "/email.mobileconfig?email=me@elsewhere.test", ""); status != 404 {
		t.Errorf("a stranger gets %d", status)
	}
}

func TestPolicy(t *testing.T) {
	const target = "/.well-known/mta-sts.txt"
	policy := &autoconf.Policy{Mode: autoconf.Testing, MX: []string{"mx.example.org"}, MaxAge: 24 * time.Hour}
	g := start(t, &discovery.Handler{Policy: policy, PolicyDomains: []string{"example.org", "mta-sts.example.org"}})
	for host, want := range map[string]string{
		"mta-sts.example.org": "version: STSv1\r\nmode: testing\r\nmx: mx.example.org\r\nmax_age: 86400\r\n",
		"example.org":         "version: STSv1\r\n", "example.net": "site ",
	} {
		if status, header, text := g.ask("GET", host, target, ""); status != 200 || !strings.HasPrefix(text, want) ||
			want != "site " && header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d %v %q", host, status, header, text)
		}
	}
	if _, _, text := start(t, new(discovery.Handler)).ask("GET", "mta-sts.example.org", target, ""); !strings.HasPrefix(text, "site ") {
		t.Errorf("without a policy: %q", text)
	}
}

func TestSecurityTXT(t *testing.T) {
	const target = "/.well-known/security.txt"
	file := func(expires time.Time) *discovery.Handler {
		return &discovery.Handler{
			SecurityTXT:   &autoconf.SecurityTXT{Contact: []string{"mailto:security@example.org"}, Expires: expires},
			SecurityHosts: []string{"example.org"},
		}
	}
	g := start(t, file(time.Now().Add(time.Hour)))
	if status, header, text := g.ask("GET", "example.org", target, ""); status != 200 || !strings.HasPrefix(text, "Contact: mailto:security@example.org\r\n") ||
		header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%d %v %q", status, header, text)
	}
	if _, _, text := g.ask("GET", "www.example.org", target, ""); !strings.HasPrefix(text, "site ") {
		t.Errorf("the site is not asked: %q", text)
	}
	if status, _, text := start(t, file(time.Now().Add(-time.Second))).ask("GET", "example.org", target, ""); status != 404 {
		t.Errorf("when it is over: %d %q", status, text)
	}
}

// A certificate that a CA issues, or one that is put in its place, counts from the
// next question on.
func TestCertificateChanges(t *testing.T) {
	var bad atomic.Bool
	g := start(t, &discovery.Handler{Domains: domains(), SelfSigned: func(name string) bool {
		return bad.Load() && (strings.HasPrefix(name, "imap.") || strings.HasPrefix(name, "smtp."))
	}})
	for _, c := range []struct{ method, target, body, shared string }{
		{"GET", "/.well-known/autoconfig/mail/config-v1.1.xml", "", "<port>443</port>"},
		{"GET", "/autodiscover/autodiscover.xml", "", "<Port>443</Port>"},
		{"GET", "/email.mobileconfig", "", "<integer>443</integer>"},
	} {
		for _, now := range []bool{false, true, false} {
			bad.Store(now)
			status, _, text := g.ask(c.method, "example.org", c.target, c.body)
			if status != 200 || strings.Contains(text, c.shared) == now {
				t.Errorf("%s, self-signed %v: %d %s", c.target, now, status, text)
			}
		}
	}
}
