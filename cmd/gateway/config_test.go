package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v4"
)

const exampleFile = "../../config.yaml"

// The example explains every key there is, and no other, and its values are
// the defaults.
func TestExampleIsComplete(t *testing.T) {
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg, mistakes := parseConfig(data)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	if diff := cmp.Diff(defaultConfig(), cfg, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("its values are not the defaults (-default +file):\n%s", diff)
	}
	root, _ := parseTree(data)
	inFile := keysInFile(root, "")
	inStruct := keysInStruct(reflect.TypeFor[Config](), "")
	if diff := cmp.Diff(inStruct, inFile); diff != "" {
		t.Errorf("its keys are not those of Config, in that order (-Config +file):\n%s", diff)
	}
}

func keysInFile(n *yaml.Node, path string) (keys []string) {
	if n.Kind != yaml.MappingNode {
		return []string{path}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		keys = append(keys, keysInFile(n.Content[i+1], join(path, n.Content[i].Value))...)
	}
	return keys
}

func keysInStruct(t reflect.Type, path string) (keys []string) {
	if t.Kind() != reflect.Struct {
		return []string{path}
	}
	for f := range t.Fields() {
		keys = append(keys, keysInStruct(f.Type, join(path, f.Tag.Get("yaml")))...)
	}
	return keys
}

func TestMistakes(t *testing.T) {
	tests := []struct {
		name, file string
		want       []Mistake // Text is a part of the text
	}{
		{"nothing", "", nil},
		{"comments", "# nothing\n", nil},
		{"null", "null\n", nil},
		{"no mapping", "- a\n", []Mistake{{1, "cannot construct"}}},
		{"two documents", "quota: 1\n---\nquota: 2\n", []Mistake{{2, "second document"}}},
		{"syntax", "domains: [a\nquota: 1\n", []Mistake{{2, "did not find"}}},
		{"tab", "tls:\n\tfiles: []\n", []Mistake{{2, "cannot start any token"}}},
		{"unknown key", "quota: 0\ndata_dri: x\n", []Mistake{{2, `"data_dri" is not a key; is data_dir meant?`}}},
		{"unknown key below", "limits:\n  idel: 1m\n  zzzzzzzzzz: 1\n", []Mistake{{2, "is idle meant?"}, {3, `"limits.zzzzzzzzzz" is not a key`}}},
		{"unknown key in a list", "tls:\n  files:\n    - cert: a\n      crt: b\n", []Mistake{{4, `"tls.files[0].crt"`}}},
		{"key twice", "quota: 0\nlog:\n  level: info\n  level: warn\nquota: 1\n", []Mistake{{4, "log.level stands on line 3"}, {5, "line 1"}}},
		{"anchor", "domains: &d [a.example]\nmail_names:\n  imap: *d\n", []Mistake{{1, "anchors"}, {3, "anchors"}}},
		{"merge", "log:\n  <<: {level: warn}\n", []Mistake{{2, `"log.<<" is not a key`}}},
		{"types", "domains: x\nlimits:\n  connections: many\n  idle: 3\nlog: 7\n", []Mistake{{1, ""}, {3, ""}, {4, "not a duration"}, {5, ""}}},
		{"durations", "shutdown_timeout: 10 minutes\nlimits:\n  idle: [1m]\n  handshake: 1h\n  pre_login: -1s\n",
			[]Mistake{{1, "not a duration"}, {3, "not a duration"}, {4, "limits.handshake must be between 1s and 5m"}, {5, "limits.pre_login must be between"}}},
		{"sizes", "quota: -1\nmax_message_size: 12 MB\nlimits:\n  pre_login_line: 9999999999 GiB\n", []Mistake{{1, "not a size"}, {2, "not a size"}, {4, "not a size"}}},
		{"networks", "proxy_protocol:\n  from:\n    - 10.0.0.0/8\n    - 10.0.0.0/33\n    - 0.0.0.0/0\n    - everybody\n",
			[]Mistake{{4, "10.0.0.0/33"}, {5, "trusts everybody"}, {6, "must be a network"}}},
		{"names", "hostname: Mail.Example.ORG\ndomains:\n  - a.example\n  - a.example\n  - bücher.example\n  - 'a b'\n  - 192.0.2.1\n  - ''\n  - a.example.\n",
			[]Mistake{{1, "must be written as mail.example.org"}, {4, "twice"}, {5, "must be written as xn--bcher-kva.example"}, {6, "is not a host name"}, {7, "IP address"}, {8, "empty"}, {9, "not a host name"}}},
		{"no domain", "domains: []\n", []Mistake{{1, "at least one"}}},
		{"underscore", "domains: [_a.example]\n", nil},
		{"name for both", "mail_names:\n  imap: [mail.example]\n  submission: [mail.example]\n", []Mistake{{3, "IMAP already"}}},
		{"addresses", "listen:\n  shared:\n    - 443\n    - example.org:443\n    - :443\n    - 0.0.0.0:65536\n    - '[::]:443'\n  imaps: [':443']\n  metrics: 0.0.0.0:9000\n",
			[]Mistake{{3, "HOST:PORT"}, {4, "IP address or localhost"}, {6, "HOST:PORT"}, {8, "listen.shared[2] already"}, {9, "loopback"}}},
		{"nowhere", "listen:\n  shared: []\n  imaps: []\n  submissions: []\n", []Mistake{{1, "at least one address"}}},
		{"free ports", "listen:\n  shared: [127.0.0.1:0]\n  imaps: [127.0.0.1:0]\n  metrics: localhost:0\n", nil},
		{"choices", "tls:\n  min_version: 1.1\n  unknown_name: guess\nsubmission:\n  from_header: keep\nlog:\n  level: loud\n  format: xml\n",
			[]Mistake{{2, `must be one of 1.2, 1.3, not "1.1"`}, {3, "alert, default"}, {5, "refuse, replace, allow"}, {7, "debug, info"}, {8, "auto, json"}}},
		{"version as a number", "tls:\n  min_version: 1.3\n", nil},
		{"limits", "limits:\n  min_rate: 0\n  unauthenticated_full: 5\n  pre_login_line: 1\n  pre_login: 5s\nsubmission:\n  max_recipients: 3\nmax_message_size: 1 KiB\n",
			[]Mistake{{2, "at least 1"}, {3, "at least 4000"}, {4, "at least 512"}, {5, "limits.handshake"}, {7, "at least 100"}, {8, "at least 65536"}}},
		{"certificate", "tls:\n  files:\n    - cert: both.pem\n    - key: a.pem\n", []Mistake{{4, "must name a certificate"}}},
		{"empty data directory", "data_dir: ''\n", []Mistake{{1, "must not be empty"}}},
		{"all at once", "quotta: 1\nlog:\n  level: loud\ndomains: {}\nlimits:\n  idle: x\n", []Mistake{{1, "quota meant"}, {3, "loud"}, {4, ""}, {6, "duration"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := parseConfig([]byte(tt.file))
			if len(got) != len(tt.want) {
				t.Fatalf("got %+v\nwant %+v", got, tt.want)
			}
			for i, m := range got {
				if m.Line != tt.want[i].Line || !strings.Contains(m.Text, tt.want[i].Text) {
					t.Errorf("got %+v, want %+v", m, tt.want[i])
				}
			}
		})
	}
}

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	text := "data_dir: data\ntls:\n  files:\n    - cert: both.pem\n    - {cert: /etc/a.crt, key: a.key}\nlimits:\n  idle: 2d\nquota: 1 GiB\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.DataDir = filepath.Join(dir, "data")
	want.TLS.Files = []CertFiles{{Cert: filepath.Join(dir, "both.pem")}, {Cert: "/etc/a.crt", Key: filepath.Join(dir, "a.key")}}
	want.Limits.Idle = Duration(48 * time.Hour)
	want.Quota = 1 << 30
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := cfg.socket(); got != filepath.Join(dir, "data", "admin.sock") {
		t.Errorf("socket %s", got)
	}
	if _, err := loadConfig(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	var all *MistakesError
	if err := os.WriteFile(file, []byte("quota: x\nx: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadConfig(file); !errors.As(err, &all) || len(all.Mistakes) != 2 || !strings.HasPrefix(err.Error(), file+":1: ") {
		t.Errorf("mistakes: %v", err)
	}
}

func TestNames(t *testing.T) {
	cfg := defaultConfig()
	want := []string{"localhost", "imap.localhost", "smtp.localhost", "submission.localhost"}
	if got := cfg.serverNames(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	cfg.Hostname, cfg.Domains = "mx.example", []string{"a.example", "b.example"}
	cfg.MailNames.IMAP = []string{"mail.example"}
	want = []string{"mx.example", "a.example", "b.example", "mail.example", "smtp.a.example", "submission.a.example", "smtp.b.example", "submission.b.example"}
	if got := cfg.serverNames(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// What config show prints is a configuration that says the same.
func TestDumpRoundTrip(t *testing.T) {
	cfg := defaultConfig()
	cfg.Limits.Idle, cfg.Quota, cfg.MaxMessageSize = Duration(90*time.Minute), 5<<30, 12345678
	b, err := yaml.Dump(cfg)
	if err != nil {
		t.Fatal(err)
	}
	got, mistakes := parseConfig(b)
	if len(mistakes) > 0 {
		t.Fatalf("%v in\n%s", mistakes, b)
	}
	if diff := cmp.Diff(cfg, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestChanges(t *testing.T) {
	old, cfg := defaultConfig(), defaultConfig()
	cfg.Limits.Idle, cfg.Limits.PasswordFailures, cfg.Limits.PreLogin = 1, 1, 1
	cfg.Limits.PreLoginLine = 1
	cfg.Log.Level, cfg.Log.Format = "debug", "json"
	cfg.Domains = []string{"a.example"}
	cfg.TLS.Files = []CertFiles{{Cert: "x"}}
	reload, restart := changes(old, cfg)
	if want := []string{"limits.idle", "limits.password_failures", "limits.pre_login", "limits.pre_login_line", "log.level"}; !slices.Equal(reload, want) {
		t.Errorf("reload %v", reload)
	}
	if want := []string{"domains", "log.format", "tls.files"}; !slices.Equal(restart, want) {
		t.Errorf("restart %v", restart)
	}
}

func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, s := range []string{"a: &a [*a]", "limits: {idle: 1m, idle: 2m}", "tls:\n  files: [{cert: 1}, 2, null]", "? [a]\n: b", "domains: !!binary aGk=", "listen: {shared: ['[::1]:1']}", "\xff", "---\n---\n", "quota: !x 1", "<<: [1]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, mistakes := parseConfig(data)
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + 2
		for _, m := range mistakes {
			if m.Text == "" || m.Line < 0 || m.Line > lines && !strings.ContainsAny(string(data), "\u0085\u2028\u2029") {
				t.Errorf("mistake %+v", m)
			}
		}
		if len(mistakes) == 0 && len(cfg.check()) > 0 {
			t.Error("a configuration without mistakes has some")
		}
	})
}
