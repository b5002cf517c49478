package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/autoconf"
	"posthorn/handlers/https/transport"
	"posthorn/handlers/smtp"
	"posthorn/mailbox"
	"posthorn/sessions"
)

// Each limit arrives at one part of the gateway, and none stands in for another.
func TestLimitsReachTheirParts(t *testing.T) {
	cfg := defaultConfig()
	limits := reflect.ValueOf(&cfg.Limits).Elem()
	where := make(map[int64][]string)
	for i := range limits.NumField() {
		limits.Field(i).SetInt(int64(1000 + i))
		where[int64(1000+i)] = nil
	}
	for part, v := range map[string]any{"mux": muxLimits(cfg), "imap": imapLimits(cfg), "throttle": throttle(cfg)} {
		v := reflect.ValueOf(v)
		for i := range v.NumField() {
			where[v.Field(i).Int()] = append(where[v.Field(i).Int()], part+"."+v.Type().Field(i).Name)
		}
	}
	got := make(map[string]string)
	for i := range limits.NumField() {
		got[limits.Type().Field(i).Tag.Get("yaml")] = strings.Join(where[int64(1000+i)], " and ")
	}
	want := map[string]string{
		"handshake": "mux.Handshake", "pre_login": "mux.PreLogin", "idle": "mux.Idle", "dead_peer": "mux.DeadPeer", "min_rate": "mux.MinRate",
		"connections": "mux.Conns", "connections_per_source": "mux.ConnsPerSource", "connections_per_account": "mux.ConnsPerAccount",
		"unauthenticated_start": "mux.UnauthStart", "unauthenticated_full": "mux.UnauthFull", "unauthenticated_per_source": "mux.UnauthPerSource",
		"pre_login_line": "imap.Line", "pre_login_literal": "imap.Literal",
		"passwords_per_connection": "throttle.PerConn", "password_failures": "throttle.PerSource", "password_window": "throttle.Window",
		"password_block": "throttle.Block",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What else is configured and has tests of its own at the part that keeps it.
func TestSettingsReachTheirParts(t *testing.T) {
	cfg, mistakes := parseConfig([]byte(`
domains: [example.org]
hostname: mx.example.org
max_message_size: 1 MiB
quota: 7 GiB
submission: {require_auth: true, from_header: replace, received_from: true, max_recipients: 123}
web:
  session_idle: 2m
  session_max: 3h
  transport: {path: /secret, origins: ["https://webmail.example.org"], ping: 11s}
tls: {tickets: {mail: 2h, web: 3h}, min_version: "1.3", unknown_name: default}
log: {privacy: true}
mta_sts: {mode: enforce, mx: [mx.example.org], max_age: 2w}
web_names: {mta_sts: x1}
security_txt:
  contact: ["mailto:security@example.org"]
  expires: 2027-01-31
  encryption: ["https://example.org/key"]
  acknowledgments: ["https://example.org/thanks"]
  preferred_languages: [eo]
  canonical: ["https://example.org/.well-known/security.txt"]
  policy: ["https://example.org/policy"]
  hiring: ["https://example.org/jobs"]
signup: {domains: [example.org], name_length: 31, name_alphabet: ab, password_length: 33, per_source: 3, total: 5, window: 7m}
`))
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	g := &gateway{cfg: cfg}
	mail := g.handlers(nil)[alpn.SMTP].(*smtp.Handler)
	file, err := cfg.SecurityTXT.file()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := cfg.Signup.rules()
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := certsConfig(cfg, nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	web := sessionsConfig(cfg, nil, nil, nil, zerolog.Nop())
	for name, c := range map[string]struct{ got, want any }{
		"submission": {
			smtp.Handler{
				Hostname: mail.Hostname, MaxMessageSize: mail.MaxMessageSize, MaxRecipients: mail.MaxRecipients,
				RequireAuth: mail.RequireAuth, From: mail.From, ReceivedFrom: mail.ReceivedFrom,
			},
			smtp.Handler{
				Hostname: "mx.example.org", MaxMessageSize: 1 << 20, MaxRecipients: 123,
				RequireAuth: true, From: smtp.FromReplace, ReceivedFrom: true,
			},
		},
		"transport": {*g.transport(), transport.Handler{Path: "/secret", Origins: []string{"https://webmail.example.org"}, Ping: 11 * time.Second}},
		"sessions":  {sessions.Config{Idle: web.Idle, Max: web.Max, Privacy: web.Privacy}, sessions.Config{Idle: 2 * time.Minute, Max: 3 * time.Hour, Privacy: true}},
		"mailboxes": {mailboxOptions(cfg, zerolog.Nop()), mailbox.Options{MaxMessageSize: 1<<20 + addedFields, Quota: 7 << 30, Log: zerolog.Nop()}},
		"logins":    {accountsOptions(cfg, zerolog.Nop()).Privacy, true},
		"tickets":   {[]time.Duration{certificates.MailTickets, certificates.WebTickets}, []time.Duration{2 * time.Hour, 3 * time.Hour}},
		"names":     {certificates.UnknownNameDefault, true},
		"policy":    {*cfg.MTASTS.policy(), autoconf.Policy{Mode: autoconf.Enforce, MX: []string{"mx.example.org"}, MaxAge: 14 * 24 * time.Hour}},
		"security.txt": {*file, autoconf.SecurityTXT{
			Contact: []string{"mailto:security@example.org"}, Expires: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
			Encryption: []string{"https://example.org/key"}, Acknowledgments: []string{"https://example.org/thanks"}, Languages: []string{"eo"},
			Canonical: []string{"https://example.org/.well-known/security.txt"}, Policy: []string{"https://example.org/policy"}, Hiring: []string{"https://example.org/jobs"},
		}},
		"signup": {rules, admin.SignupRules{
			Domains: []string{"example.org"}, NameLength: 31, NameAlphabet: "ab", PasswordLength: 33, PerSource: 3, Total: 5, Window: 7 * time.Minute,
		}},
	} {
		ignore := cmp.Options{cmpopts.IgnoreUnexported(smtp.Handler{}, transport.Handler{}), cmp.Comparer(func(a, b zerolog.Logger) bool { return true })}
		if diff := cmp.Diff(c.want, c.got, ignore); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}

	cfg.Web.Transport.Enabled = false
	if g.transport() != nil {
		t.Error("the transport is there though it is turned off")
	}
}
