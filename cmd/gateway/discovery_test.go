package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthorn/alpn"
	"posthorn/autoconf"
)

func TestDiscoveryMistakes(t *testing.T) {
	const security = "security_txt:\n  contact: [mailto:security@example.org]\n  expires: "
	now := time.Now().UTC()
	for name, c := range map[string]struct {
		config string
		want   []Mistake // Text is a part of the text
	}{
		"all good": {"web_names: {mta_sts: x1}\nmta_sts: {mode: enforce, mx: [mx.a.test, '*.b.test'], max_age: 2w}\n" +
			security + now.AddDate(0, 6, 0).Format(time.DateOnly) + "\n", nil},
		"a time":       {security + now.AddDate(0, 6, 0).Format(time.RFC3339) + "\n", nil},
		"over":         {security + "2020-01-01\n", nil}, // a warning
		"far":          {security + now.AddDate(1, 0, 5).Format(time.DateOnly) + "\n", []Mistake{{3, "within a year"}}},
		"no date":      {security + "soon\n", []Mistake{{3, "must be a date"}}},
		"no expiry":    {"security_txt:\n  contact: [mailto:a@b.test]\n", []Mistake{{1, "until when"}}},
		"nobody":       {"security_txt:\n  expires: " + now.AddDate(0, 1, 0).Format(time.DateOnly) + "\n", []Mistake{{1, "at least one"}}},
		"no URI":       {"security_txt:\n  contact: [a@b.test]\n  expires: 2020-01-01\n", []Mistake{{2, "must be a URI"}}},
		"languages":    {security + "2020-01-01\n  preferred_languages: ['en;']\n", []Mistake{{4, "language tags"}}},
		"policy":       {"mta_sts:\n  mode: strict\n  mx: ['*', a_b.test, MX.test]\n  max_age: 1h\n", []Mistake{{2, "enforce, testing, none"}, {3, "is not a host name"}, {4, "between"}}},
		"policy of no": {"mta_sts:\n  mx: [mx.test]\n", []Mistake{{2, "of no use without web_names.mta_sts"}}},
		"a port":       {"autoconfig:\n  name: \"a\\nb\"\n  ports:\n    imaps: 65536\n    shared: -1\n", []Mistake{{2, "one line"}, {4, "must be a port"}, {5, "must be a port"}}},
	} {
		_, got := parseConfig([]byte(c.config))
		same := slices.EqualFunc(got, c.want, func(a, b Mistake) bool { return a.Line == b.Line && strings.Contains(a.Text, b.Text) })
		if !same {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for expires, want := range map[string]string{"2026-11-22": "is over", "2026-12-01": "only", "2027-06-01": ""} {
		c := &Config{SecurityTXT: SecurityTXT{Contact: []string{"mailto:a@b.test"}, Expires: expires}}
		got := strings.Join(c.warnings(now), "\n")
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q", expires, got)
		}
	}
}

// heldPort is a socket that nobody listens on.
type heldPort struct {
	net.Listener
	addr net.TCPAddr
}

func (l heldPort) Addr() net.Addr { return &l.addr }

// What clients are told is what they can reach: no port that is for this machine
// alone, no protocol that the domain has no server for, no key where a server
// wants passwords.
func TestDeployments(t *testing.T) {
	cfg, mistakes := parseConfig([]byte(`
hostname: mail.example.org
domains: [example.org, half.test, keyless.test, _relay.test]
backends:
- name: full
  domains: [half.test]
  imap: {addresses: ["127.0.0.1:143"], login: master, master_user: m, master_password_file: f}
- name: keyless
  domains: [keyless.test]
  imap: {addresses: ["127.0.0.1:1143"]}
  submission: {addresses: ["127.0.0.1:1587"], login: xclient, client_address: xclient}
autoconfig: {name: Example, ports: {submissions: 465}}
`))
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	g := &gateway{cfg: cfg, sockets: new(sockets)}
	listen := func(port alpn.Port, address string, number int) {
		addr := net.TCPAddr{IP: net.ParseIP(address), Port: number}
		g.sockets.mail = append(g.sockets.mail, socket{heldPort{addr: addr}, fmt.Sprint(port), port})
	}
	listen(alpn.Shared, "127.0.0.1", 10443)
	listen(alpn.IMAPS, "127.0.0.1", 10993)
	listen(alpn.Submissions, "127.0.0.1", 10465)
	if got := g.published(alpn.Shared); got != 10443 {
		t.Errorf("where everything is for this machine: %d", got)
	}
	listen(alpn.Shared, "::1", 20443)
	listen(alpn.Shared, "::", 443)
	listen(alpn.SubmissionStartTLS, "192.0.2.1", 587)
	service := func(domain, prefix string, tls, startTLS uint16, keys bool) autoconf.Service {
		return autoconf.Service{SharedPort: 443, SharedName: prefix + domain, Host: "mail.example.org", TLSPort: tls, StartTLSPort: startTLS, Keys: keys}
	}
	want := []autoconf.Deployment{
		{Domain: "example.org", Name: "Example", IMAP: service("example.org", "imap.", 0, 0, true), Submission: service("example.org", "smtp.", 465, 587, true)},
		{Domain: "half.test", Name: "Example", IMAP: service("half.test", "imap.", 0, 0, true)},
		{Domain: "keyless.test", Name: "Example", IMAP: service("keyless.test", "imap.", 0, 0, false), Submission: service("keyless.test", "smtp.", 465, 587, true)},
		{Domain: "_relay.test", Name: "Example", IMAP: service("_relay.test", "imap.", 0, 0, true), Submission: service("_relay.test", "smtp.", 465, 587, true)},
	}
	if diff := cmp.Diff(want, g.deployments()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSignupMistakes(t *testing.T) {
	const domains = "domains: [a.test, b.test]\nbackends:\n- {name: mail, domains: [b.test], imap: {addresses: ['127.0.0.1:143']}}\nsignup:\n"
	for name, c := range map[string]struct {
		config string
		want   []Mistake // Text is a part of the text
	}{
		"good":      {"  domains: [a.test]\n", nil},
		"elsewhere": {"  domains: [b.test]\n", []Mistake{{5, "mailboxes elsewhere"}}},
		"unknown":   {"  domains:\n  - c.test\n  - a.test\n  - a.test\n", []Mistake{{6, "none of domains"}, {8, "twice"}}},
		"short":     {"  name_length: 5\n  password_length: 8\n", []Mistake{{5, "must be larger"}, {6, "between 12 and 128"}}},
		"alphabet":  {"  name_alphabet: abca\n", []Mistake{{5, "each once"}}},
		"capitals":  {"  name_alphabet: ABC\n", []Mistake{{5, "each once"}}},
		"binary":    {"  name_alphabet: '01'\n  name_length: 64\n", nil},
		"limits":    {"  per_source: 5\n  total: 4\n  window: 1s\n", []Mistake{{6, "at least 5"}, {7, "between"}}},
	} {
		_, got := parseConfig([]byte(domains + c.config))
		same := slices.EqualFunc(got, c.want, func(a, b Mistake) bool { return a.Line == b.Line && strings.Contains(a.Text, b.Text) })
		if !same {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("signup:\n  domains: [localhost]\n  token_file: nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var mistakes *MistakesError
	if _, err := loadForServing(file); !errors.As(err, &mistakes) || mistakes.Mistakes[0].Line != 3 {
		t.Errorf("without the token: %v", err)
	}
}
