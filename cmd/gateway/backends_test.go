package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/backend"
	"posthorn/backend/upstream"
)

// readBackends parses a configuration with a file named secret beside it.
func readBackends(t *testing.T, text string) *Config {
	t.Helper()
	cfg, mistakes := parseConfig([]byte(text))
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.resolve(dir)
	return cfg
}

func TestProxyConfig(t *testing.T) {
	const pin = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	cfg := readBackends(t, `
limits: {dead_peer: 1m}
backends:
  - name: a
    imap: {addresses: ["127.0.0.1:143", "unix:/run/imap"]}
  - name: b
    passwords: local
    user_name: local_part
    imap:
      addresses: ["imap.example:143"]
      tls: starttls
      pins: [`+pin+`]
      server_name: mx.example
      login: master-separator
      master_user: m
      master_password_file: secret
      master_separator: "/"
      client_address: id
    submission:
      addresses: ["imap.example:465"]
      tls: implicit
      login: master
      master_user: m
      master_password_file: secret
      client_address: proxy
      sender: backend
  - name: c
    submission: {addresses: ["[::1]:587"], login: xclient, client_address: xclient}
`)
	plain := func(addrs ...string) upstream.Config {
		return upstream.Config{Addresses: addrs, DeadPeer: time.Minute}
	}
	want := []backend.ProxyConfig{
		{Name: "a", KeepsPasswords: true, IMAP: &backend.Server{Upstream: plain("127.0.0.1:143", "unix:/run/imap"), Separator: "*"}},
		{Name: "b", LocalDomain: "localhost", AnySender: true,
			IMAP: &backend.Server{Upstream: plain("imap.example:143"), Method: backend.MasterSeparator,
				User: "m", Password: "s", Separator: "/", Inform: true},
			Submission: &backend.Server{Upstream: plain("imap.example:465"), Method: backend.Master,
				User: "m", Password: "s", Separator: "*"}},
		{Name: "c", KeepsPasswords: true,
			Submission: &backend.Server{Upstream: plain("[::1]:587"), Method: backend.XClient, Separator: "*", Inform: true}},
	}
	want[1].IMAP.Upstream.Security = upstream.StartTLS
	want[1].Submission.Upstream.Security = upstream.ImplicitTLS
	want[1].Submission.Upstream.ProxyProtocol = true
	for i := range cfg.Backends {
		got, err := proxyConfig(&cfg.Backends[i], cfg, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		ignored := cmp.Options{
			cmpopts.IgnoreFields(backend.ProxyConfig{}, "Log"),
			cmpopts.IgnoreFields(upstream.Config{}, "TLS", "Log", "Open", "Quit"),
		}
		if diff := cmp.Diff(want[i], got, ignored); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	b, err := proxyConfig(&cfg.Backends[1], cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if c := b.IMAP.Upstream.TLS; c == nil || c.ServerName != "mx.example" || c.VerifyConnection == nil {
		t.Errorf("TLS %+v", c)
	}
	if b.Submission.Upstream.TLS == nil {
		t.Error("no TLS")
	}
}

// Where accounts are: what the record says, else the domain, else the default.
func TestHomes(t *testing.T) {
	cfg := readBackends(t, `
domains: [a.example, b.example, c.example]
backends:
  - name: kept
    domains: [a.example]
    imap: {addresses: ["127.0.0.1:143"]}
  - name: local
    domains: [b.example]
    passwords: local
    imap: {addresses: ["127.0.0.1:143"], login: master, master_user: m, master_password_file: secret}
`)
	own := new(backend.Embedded)
	b, err := openBackends(cfg, own, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		address, record string
		want            admin.Home
	}{
		{"x@a.example", "", admin.Home{Backend: "kept", KeepsPasswords: true}},
		{"x@b.example", "", admin.Home{Backend: "local"}},
		{"x@c.example", "", admin.Home{Backend: "embedded", Embedded: true}},
		{"x@b.example", "kept", admin.Home{Backend: "kept", KeepsPasswords: true}},
		{"x@a.example", "embedded", admin.Home{Backend: "embedded", Embedded: true}},
		{"x@a.example", "gone", admin.Home{Backend: "gone"}},
	} {
		a := &accounts.Account{Addresses: []string{tt.address}, Backend: tt.record}
		if got := b.Of(a); got != tt.want {
			t.Errorf("%s, %q: %+v", tt.address, tt.record, got)
		}
		if own.Has(a) != tt.want.Embedded {
			t.Errorf("%s, %q: embedded %v", tt.address, tt.record, own.Has(a))
		}
	}
	for name, want := range map[string]bool{"kept": true, "embedded": true, "gone": false, "": false} {
		if b.Has(name) != want {
			t.Errorf("Has(%q) is %v", name, !want)
		}
	}
	if got := cfg.domainsOf(embedded); !slices.Equal(got, []string{"c.example"}) {
		t.Errorf("own domains %q", got)
	}
	cfg.DefaultBackend = "kept"
	if got := cfg.domainsOf(embedded); len(got) != 0 {
		t.Errorf("own domains %q", got)
	}
}

func TestBackendWarnings(t *testing.T) {
	for _, tt := range []struct{ part, want string }{
		{"imap: {addresses: ['[::1]:1']}", "by key"},
		{"imap: {addresses: ['[::1]:1'], login: master, master_user: m, master_password_file: secret}", ""},
		{"submission: {addresses: ['[::1]:1'], login: trusted}", ""},
		{"submission: {addresses: ['[::1]:1'], login: trusted, client_address: xclient}", "which it is told"},
		{"submission: {addresses: ['[::1]:1'], login: trusted, client_address: proxy}", "which it is told"},
	} {
		var log strings.Builder
		cfg := readBackends(t, "backends:\n  - name: mail\n    "+tt.part+"\n")
		if _, err := openBackends(cfg, new(backend.Embedded), zerolog.New(&log)); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); strings.Count(got, "\n") != min(1, len(tt.want)) || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q", tt.part, got)
		}
	}
}

// Before login clients are offered what all backends can do that they may turn
// out to be at. The embedded mailboxes have no DSN.
func TestOffer(t *testing.T) {
	for standard, embeddedCounts := range map[string]bool{"mail": false, "embedded": true} {
		cfg := readBackends(t, "backends:\n  - name: mail\n    submission: {addresses: [\"127.0.0.1:587\"], sender: backend}\ndefault_backend: "+standard+"\n")
		b, err := openBackends(cfg, new(backend.Embedded), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		want := b.proxies[0].Submission(nil)
		if !want.AnySender {
			t.Errorf("the mail system: %+v", want)
		}
		if embeddedCounts {
			want.DSN, want.AnySender = false, false
		}
		if got := b.Submission(nil); got != want {
			t.Errorf("default %s: %+v, want %+v", standard, got, want)
		}
		l := &accounts.Login{Account: &accounts.Account{Addresses: []string{"x@localhost"}, Backend: "embedded"}}
		if got := b.Submission(l); got.AnySender || !got.UTF8 {
			t.Errorf("embedded: %+v", got)
		}
	}
}
