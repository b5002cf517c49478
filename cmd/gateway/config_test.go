package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
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
		if f.Anonymous {
			keys = append(keys, keysInStruct(f.Type, path)...)
			continue
		}
		keys = append(keys, keysInStruct(f.Type, join(path, f.Tag.Get("yaml")))...)
	}
	return keys
}

// The backend that the example shows in a comment names every key there is, and
// is one.
func TestExampleBackend(t *testing.T) {
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "Dovecot and Postfix on this machine:\n")
	text, _, _ = strings.Cut(text, "backends: []")
	text = "domains: [example.org]\nbackends:\n" + strings.ReplaceAll("\n"+text, "\n#", "\n")
	cfg, mistakes := parseConfig([]byte(text))
	if len(mistakes) > 0 || len(cfg.Backends) != 1 {
		t.Fatalf("%v in\n%s", mistakes, text)
	}
	root, _ := parseTree([]byte(text))
	item := child(child(root, "backends").value, "[0]").value
	want := keysInStruct(reflect.TypeFor[Backend](), "")
	want = slices.DeleteFunc(want, func(key string) bool { // said once, for both parts
		name, ok := strings.CutPrefix(key, "submission.")
		return ok && !slices.Contains([]string{"addresses", "login", "client_address", "sender"}, name)
	})
	if diff := cmp.Diff(want, keysInFile(item, "")); diff != "" {
		t.Errorf("its keys are not those of Backend, in that order (-Backend +file):\n%s", diff)
	}
}

const fingerprintText = "SHA256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"

func TestMistakes(t *testing.T) {
	tests := []struct {
		name, file string
		want       []Mistake // Text is a part of the text
	}{
		{"nothing", "", nil},
		{"comments", "# nothing\n", nil},
		{"null", "null\n", nil},
		{"no mapping", "- a\n", []Mistake{{1, "the file must be keys with values, not a list"}}},
		{"two documents", "quota: 1\n---\nquota: 2\n", []Mistake{{2, "second document"}}},
		{"syntax", "domains: [a\nquota: 1\n", []Mistake{{2, "did not find"}}},
		{"tab", "tls:\n\tfiles: []\n", []Mistake{{2, "cannot start any token"}}},
		{"unknown key", "quota: 0\ndata_dri: x\n", []Mistake{{2, `"data_dri" is not a key; is data_dir meant?`}}},
		{"unknown key below", "limits:\n  idel: 1m\n  zzzzzzzzzz: 1\n", []Mistake{{2, "is idle meant?"}, {3, `"limits.zzzzzzzzzz" is not a key`}}},
		{"unknown key in a list", "tls:\n  files:\n    - cert: a\n      crt: b\n", []Mistake{{4, `"tls.files[0].crt"`}}},
		{"key twice", "quota: 0\nlog:\n  level: info\n  level: warn\nquota: 1\n", []Mistake{{4, "log.level stands on line 3"}, {5, "line 1"}}},
		{"anchor", "domains: &d [a.example]\nmail_names:\n  imap: *d\n", []Mistake{{1, "anchors"}, {3, "anchors"}}},
		{"merge", "log:\n  <<: {level: warn}\n", []Mistake{{2, `"log.<<" is not a key`}}},
		{"types", "domains: x.example\nlimits:\n  connections: many\n  idle: 3\nlog: 7\nquota: [1]\ndata_dir: {a: b}\nweb:\n  account: maybe\n",
			[]Mistake{{1, `domains must be a list, such as [a, b], not "x.example"`}, {3, `limits.connections must be a number, not "many"`}, {4, `limits.idle: "3" is not a duration`},
				{5, `log must be keys with values, not "7"`}, {6, "quota: "}, {7, "data_dir must be text, not keys with values"}, {9, `web.account must be true or false, not "maybe"`}}},
		{"types below", "domains:\n  x.example\nlisten:\n  shared:\n    - [a]\ntls:\n  files:\n    cert: x\nbackends:\n  - x\n",
			[]Mistake{{2, "domains must be a list"}, {5, "listen.shared[0] must be text, not a list"}, {8, "tls.files must be a list, such as [a, b], not keys with values"}, {10, `backends[0] must be keys with values, not "x"`}}},
		{"a long value", "limits:\n  connections: " + strings.Repeat("x", 1000) + "\n", []Mistake{{2, " not \"" + strings.Repeat("x", 72) + `…"`}}},
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
		{"ACME", "domains: [a.example]\ntls:\n  acme:\n    agree_terms: true\n    email: me@a.example\n    directory: https://ca.example/dir\n    http01: true\n    rsa: [imap.a.example]\n    eab_key_id: x\n    eab_key_file: y\n    caa: ca.example\n  self_signed: [a.example]\n  ech: {public_name: public.example}\n", nil},
		{"no terms", "tls:\n  acme:\n    email: me@a.example\n", []Mistake{{2, "wants agree_terms: true"}}},
		{"terms denied", "tls:\n  acme: {agree_terms: false, rsa: [localhost]}\n", []Mistake{{2, "wants agree_terms: true"}}},
		{"ACME mistakes", "domains: [a.example]\ntls:\n  acme:\n    agree_terms: true\n    email: Me <me@a.example>\n    directory: http://ca.example/\n    rsa:\n      - b.example\n      - a.example\n      - _x\n    caa: https://ca.example\n    eab_key_id: x\n  self_signed:\n    - a.example\n    - c.example\n  names: [_x, A.b]\n",
			[]Mistake{{3, "both eab_key_id and"}, {5, "e-mail address"}, {6, "letsencrypt, letsencrypt-staging or https://"}, {8, "is not served: b.example"}, {9, "not a name that the CA is asked for"}, {10, "not a name that the CA"}, {11, "host name"}, {15, "is not served: c.example"}, {16, "must be written as a.b"}}},
		{"ECH", "tls:\n  ech:\n    public_name: _a.example\n", []Mistake{{3, "no name that clients take"}}},
		{"tickets", "tls:\n  tickets:\n    mail: 8d\n    web: 1m\n", []Mistake{{3, "between 1h and 168h"}, {4, "between 1h and 168h"}}},
		{"what the world hears", "public_addresses: [192.0.2.1, '2001:db8::1', mx.example, 'fe80::1%eth0']\nweb_names:\n  autoconfig: true\n  mta_sts: '2026-01-01'\n",
			[]Mistake{{1, "public_addresses[2] must be an IP address"}, {4, "letters and digits"}}},
		{"port 80 alone", "listen:\n  shared: []\n  imaps: []\n  submissions: []\n  http: [':80']\n", []Mistake{{1, "at least one address"}}},
		{"port 80 twice", "listen:\n  shared: [':80']\n  http: [':80']\n", []Mistake{{3, "listen.shared[0] already"}}},
		{"backend", "domains: [a.example]\nbackends:\n  - name: mail\n    domains: [a.example]\n    imap:\n      addresses: ['127.0.0.1:143', '[::1]:143', 'localhost:143', 'unix:/run/imap']\n    submission:\n      addresses: [mx.example:465]\n      tls: implicit\ndefault_backend: mail\n", nil},
		{"backend names", "backends:\n  - imap: {addresses: ['[::1]:1']}\n  - name: embedded\n    imap: {addresses: ['[::1]:1']}\n  - name: A b\n    imap: {addresses: ['[::1]:1']}\n  - name: a\n    imap: {addresses: ['[::1]:1']}\n  - name: a\n    imap: {addresses: ['[::1]:1']}\ndefault_backend: b\n",
			[]Mistake{{2, "backends[0] must have a name"}, {3, "gateway's own"}, {5, "lower-case"}, {9, "twice: a"}, {11, `must be one of embedded, , embedded, A b, a, a, not "b"`}}},
		{"backend domains", "domains: [a.example, b.example]\nbackends:\n  - name: a\n    domains: [a.example, c.example]\n    imap: {addresses: ['[::1]:1']}\n  - name: b\n    domains:\n      - b.example\n      - a.example\n      - b.example\n    imap: {addresses: ['[::1]:1']}\n",
			[]Mistake{{4, "c.example"}, {9, "of a already"}, {10, "of b already"}}},
		{"no servers", "backends:\n  - name: a\n  - name: b\n    imap: {}\n  - name: c\n    imap: {tls: implicit}\n",
			[]Mistake{{2, "imap, submission or both"}, {3, "imap, submission or both"}, {6, "must have addresses"}}},
		{"backend choices", "backends:\n  - name: a\n    passwords: both\n    user_name: uid\n    imap:\n      addresses: ['[::1]:1']\n      tls: 'yes'\n      login: plain\n      client_address: xff\n    submission:\n      addresses: ['[::1]:1']\n      sender: any\n",
			[]Mistake{{3, "backend, local"}, {4, "address, local_part"}, {7, "none, implicit, starttls"}, {8, "master, master-separator, proxy-cn"}, {9, "none, proxy, id"}, {12, "account, backend"}}},
		{"backend addresses", "backends:\n  - name: a\n    imap:\n      addresses:\n        - 127.0.0.1\n        - :143\n        - 127.0.0.1:0\n        - 127.0.0.1:imap\n        - unix:run/x\n        - 'a b:143'\n        - 192.0.2.1:143\n        - imap.example:143\n        - 127.0.0.1:143\n        - 127.0.0.1:143\n",
			[]Mistake{{5, "HOST:PORT"}, {6, "HOST:PORT"}, {7, "HOST:PORT"}, {8, "HOST:PORT"}, {9, "unix:/PATH"}, {10, "HOST:PORT"}, {11, "another machine"}, {12, "another machine"}, {14, "twice"}}},
		{"backend trust", "backends:\n  - name: a\n    imap:\n      addresses: ['unix:/run/x']\n      tls: implicit\n      pins: []\n    submission:\n      addresses: ['127.0.0.1:1']\n      ca: ca.pem\n      pins:\n        - SHA256:abc\n      server_name: A.example\n",
			[]Mistake{{9, "no use with tls: none"}, {10, "no use with tls: none"}, {11, "must be SHA256:"}, {12, "no use"}}},
		{"backend logins", "backends:\n  - name: a\n    imap:\n      addresses: ['[::1]:1']\n      login: xclient\n      master_user: m\n    submission:\n      addresses: ['[::1]:1']\n      login: master\n  - name: b\n    imap:\n      addresses: ['[::1]:1']\n      login: trusted\n      master_password_file: x\n    submission:\n      addresses: ['[::1]:1']\n      login: master-separator\n      master_user: m\n  - name: c\n    imap:\n      addresses: ['[::1]:1']\n      login: proxy-cn\n      client_address: id\n    submission:\n      addresses: ['[::1]:1']\n      login: xclient\n      client_address: proxy\n  - name: d\n    imap:\n      addresses: ['[::1]:1']\n      login: master-separator\n      master_user: m\n      master_password_file: x\n      master_separator: ''\n",
			[]Mistake{{5, "xclient is for submission"}, {6, "of no use"}, {9, "wants master_user"}, {13, "trusted is for submission"}, {14, "of no use"}, {17, "wants master_password_file"}, {22, "wants client_address: proxy"}, {27, "xclient or none"}, {34, "must not be empty"}}},
		{"nobody could log in", "backends:\n  - name: a\n    passwords: local\n    imap:\n      addresses: ['[::1]:1']\n    submission:\n      addresses: ['[::1]:1']\n      login: trusted\n",
			[]Mistake{{4, "nobody could log in"}}},
		{"client addresses", "backends:\n  - name: a\n    imap:\n      addresses: ['[::1]:1']\n      client_address: xclient\n    submission:\n      addresses: ['[::1]:1']\n      client_address: id\n",
			[]Mistake{{5, "xclient is for submission"}, {8, "id is for IMAP"}}},
		{"keys in backends", "backends:\n  - name: a\n    imap:\n      adresses: []\n      sender: backend\n    submission:\n      sender: account\n      sender: backend\n",
			[]Mistake{{2, ""}, {4, "is addresses meant?"}, {5, "backends[0].imap.sender"}, {8, "line 7"}}},
		{"types in backends", "backends:\n  - name: [a]\n    imap: 7\n  - x\n", []Mistake{{2, ""}, {3, ""}, {4, ""}}},
		{"local parts of two domains", "domains: [a.example, b.example, c.example]\nbackends:\n  - name: a\n    domains: [a.example, b.example]\n    user_name: local_part\n    imap: {addresses: ['[::1]:1']}\n  - name: b\n    user_name: local_part\n    imap: {addresses: ['[::1]:1']}\n",
			[]Mistake{{5, "serves a.example, b.example"}, {8, "serves a.example, b.example, c.example"}}},
		{"local parts at the default", "domains: [a.example, b.example, c.example]\nbackends:\n  - name: a\n    user_name: local_part\n    imap: {addresses: ['[::1]:1']}\n  - name: b\n    domains: [b.example]\n    user_name: local_part\n    imap: {addresses: ['[::1]:1']}\ndefault_backend: a\n",
			[]Mistake{{4, "serves a.example, c.example"}}},
		{"local parts of one domain", "domains: [a.example, b.example]\nbackends:\n  - name: a\n    user_name: local_part\n    imap: {addresses: ['[::1]:1']}\n  - name: b\n    domains: [b.example]\n    user_name: local_part\n    imap: {addresses: ['[::1]:1']}\ndefault_backend: a\n", nil},
		{"names in headers and in TLS", "backends:\n  - name: a\n    imap:\n      addresses: ['[::1]:1']\n      tls: implicit\n      login: proxy-cn\n      client_address: proxy\n    submission:\n      addresses: ['[::1]:1']\n      tls: starttls\n      login: proxy-cn\n      client_address: proxy\n",
			[]Mistake{{6, "tls: none"}, {11, "tls: none"}}},
		{"trust without a sender", "backends:\n  - name: a\n    submission:\n      addresses: ['[::1]:1']\n      login: trusted\n      sender: backend\n",
			[]Mistake{{6, "must be account with login: trusted"}}},
		{"in a circle", "listen:\n  shared: ['127.0.0.2:443', 'localhost:0']\n  imaps: [':993']\n  submissions: ['0.0.0.0:465']\n  imap_starttls: ['localhost:143']\n  submission_starttls: ['192.0.2.1:587']\nbackends:\n  - name: a\n    imap:\n      addresses:\n        - 127.0.0.1:443\n        - 127.0.0.2:443\n        - 127.0.0.1:993\n        - '[::1]:143'\n        - unix:/run/imap\n        - localhost:1\n    submission:\n      tls: starttls\n      addresses:\n        - 127.0.0.1:465\n        - 127.0.0.1:587\n        - 192.0.2.1:587\n        - 192.0.2.2:587\n",
			[]Mistake{{12, "listen.shared[0]"}, {13, "listen.imaps[0]"}, {14, "listen.imap_starttls[0]"}, {20, "listen.submissions[0]"}, {22, "listen.submission_starttls[0]"}}},
		{"site", "site:\n  upstream: ftp://127.0.0.1\n", []Mistake{{2, "http://HOST:PORT"}}},
		{"site with a path", "site:\n  upstream: http://127.0.0.1:8080/x\n", []Mistake{{2, "http://HOST:PORT"}}},
		{"site on a socket", "site:\n  upstream: unix:/run/site.sock\n", nil},
		{"site on a port", "site:\n  upstream: http://127.0.0.1:8080\n", nil},
		{"sites", "sites:\n  - {upstream: 'unix:/x'}\n  - {path: /a/, root: /var}\n  - {hosts: [localhost], path: /a/, redirect: 'https://a/', keep_path: true, status: 301}\n" +
			"  - {hosts: [b.example], handover: '127.0.0.1:1', handover_h2: 'unix:/x'}\n", nil},
		{"site and sites", "site: {upstream: 'unix:/x'}\nsites:\n  - {path: /a/, root: /var}\n", nil},
		{"a site of no kind", "sites:\n  - {hosts: [a.example]}\n", []Mistake{{2, "exactly one of upstream"}}},
		{"a site of two kinds", "sites:\n  - {root: /var,\n     redirect: 'https://a/'}\n", []Mistake{{2, "exactly one of upstream"}}},
		{"a site's upstream", "sites:\n  - path: /\n    upstream: ftp://a\n", []Mistake{{3, "http://HOST:PORT"}}},
		{"a site's path", "sites:\n  - root: /var\n    path: /a\n  - root: /var\n    path: /../\n", []Mistake{{3, "must begin and end with a slash"}}},
		{"sites twice", "sites:\n  - {path: /a/, root: /var}\n  - root: /x\n    path: /a/\n", []Mistake{{4, "another site's already"}}},
		{"sites twice on a host", "sites:\n  - {hosts: [a.example], root: /var}\n  - root: /x\n    hosts:\n      - b.example\n      - a.example\n", []Mistake{{6, "another site's already"}}},
		{"site and sites twice", "sites:\n  - {upstream: 'unix:/a'}\nsite:\n  upstream: unix:/b\n", []Mistake{{4, "among sites already"}}},
		{"a handed over host twice", "sites:\n  - {hosts: [a.example], handover: 'unix:/a'}\n  - root: /x\n    path: /a/\n    hosts: [a.example]\n", []Mistake{{5, "handed over as a whole"}}},
		{"a handed over host last", "sites:\n  - {hosts: [a.example], root: /x}\n  - handover: unix:/a\n    hosts: [a.example]\n", []Mistake{{4, "handed over as a whole"}}},
		{"handed over with a path", "sites:\n  - hosts: [a.example]\n    handover: unix:/a\n    path: /a/\n", []Mistake{{4, "leave the path out"}}},
		{"handed over without a host", "sites:\n  - handover: unix:/a\n", []Mistake{{2, "must name the hosts"}}},
		{"handed over to nowhere", "sites:\n  - hosts: [a.example]\n    handover: http://a\n", []Mistake{{3, "HOST:PORT"}}},
		{"handed over with own pages", "web: {hosts: [a.example]}\nsites:\n  - handover: unix:/a\n    hosts: [a.example]\n", []Mistake{{4, "pages of the gateway's own"}}},
		{"a site with the operator's pages", "admin: {host: a.example}\nsites:\n  - root: /x\n    hosts: [a.example]\n", []Mistake{{4, "operator's pages"}}},
		{"a site on a mail name", "sites:\n  - root: /x\n    hosts: [imap.localhost]\n", []Mistake{{3, "leads to mail"}}},
		{"a redirect's target", "sites:\n  - redirect: /there\n", []Mistake{{2, "must be http://HOST"}}},
		{"a redirect's target with a break", "sites:\n  - redirect: \"https://a/\\r\\nx: y\"\n", []Mistake{{2, "must be http://HOST"}}},
		{"a redirect that keeps the path", "sites:\n  - redirect: https://a\n    keep_path: true\n", []Mistake{{2, "must be http://HOST"}}},
		{"a redirect's status", "sites:\n  - redirect: https://a/\n    status: 200\n", []Mistake{{2, "301, 302, 307 or 308"}}},
		{"what others have", "sites:\n  - root: /x\n    ca: x\n    status: 301\n    keep_path: true\n    answer_timeout: 1m\n", []Mistake{
			{3, "of no use without an https upstream"}, {4, "of no use without redirect"}, {5, "of no use without redirect"}, {6, "of no use without upstream"}}},
		{"a cache control", "sites:\n  - root: /x\n    cache_control: \"a\\nb\"\n", []Mistake{{3, "header field"}}},
		{"a pin", "sites:\n  - upstream: https://a\n    pins: [x]\n", []Mistake{{3, "SHA256:"}}},
		{"web transport", "domains: [a.example]\nweb:\n  transport:\n    path: /a/../b\n    ping: 1ms\n    origins:\n      - https://a.example\n      - http://localhost:8080\n      - https://a.example/\n      - \"*\"\n",
			[]Mistake{{4, "web.transport.path must begin"}, {5, "web.transport.ping must be between"}, {9, "web.transport.origins[2] must be as"}, {10, "web.transport.origins[3] must be as"}}},
		{"names that ask", "domains: [a.example]\nweb:\n  ask_certificate: [keys.a.example, imap.a.example]\nadmin:\n  host: smtp.a.example\n",
			[]Mistake{{3, "web.ask_certificate[1] leads to mail already: imap.a.example"}, {5, "leads to mail already"}}},
		{"names with pages", "domains: [a.example]\nweb:\n  hosts: [a.example, imap.a.example]\n  session_idle: 1s\n  session_max: 1000d\n",
			[]Mistake{{3, "leads to mail already"}, {4, "between 1m and"}, {5, "between 1m and"}}},
		{"operators", "admin:\n  host: admin.a.example\n  keys:\n    - {name: a, fingerprint: '" + fingerprintText + "'}\n    - {name: '', fingerprint: 'SHA256:abc'}\n    - name: b\n      fingerprint: " + fingerprintText + "\n",
			[]Mistake{{5, "must have a name"}, {7, "twice"}}},
		{"operators nowhere", "admin:\n  keys:\n    - {name: a, fingerprint: '" + fingerprintText + "'}\n", []Mistake{{2, "of no use without admin.host"}}},
		{"dead peers", "limits:\n  dead_peer: 1s\n", []Mistake{{2, "between 10s and 24h"}}},
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

// The sites that the example shows in a comment name every key there is, and are
// some.
func TestExampleSites(t *testing.T) {
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "a new name in hosts wants a restart) For example:\n")
	text, _, _ = strings.Cut(text, "sites: []")
	text = "domains: [example.org]\nsites:\n" + strings.ReplaceAll("\n"+text, "\n#", "\n")
	cfg, mistakes := parseConfig([]byte(text))
	if len(mistakes) > 0 || len(cfg.Sites) != 4 {
		t.Fatalf("%v in\n%s", mistakes, text)
	}
	root, _ := parseTree([]byte(text))
	var got []string
	for i := range cfg.Sites {
		for _, key := range keysInFile(child(child(root, "sites").value, fmt.Sprintf("[%d]", i)).value, "") {
			if !slices.Contains(got, key) {
				got = append(got, key)
			}
		}
	}
	if diff := cmp.Diff(keysInStruct(reflect.TypeFor[SiteOf](), ""), got); diff != "" {
		t.Errorf("its keys are not those of SiteOf, in that order (-SiteOf +file):\n%s", diff)
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

// What a backend leaves out has its default, and its files lie beside the
// configuration.
func TestLoadBackend(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	text := "backends:\n  - name: a\n    passwords: local\n    imap:\n      addresses: ['[::1]:143']\n      tls: starttls\n      ca: ca.pem\n      login: master\n      master_user: m\n      master_password_file: m.secret\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultBackend()
	want.Name, want.Passwords = "a", "local"
	want.IMAP.BackendServer = BackendServer{Addresses: []string{"[::1]:143"}, TLS: "starttls", CA: filepath.Join(dir, "ca.pem"), Login: "master",
		MasterUser: "m", MasterPasswordFile: filepath.Join(dir, "m.secret"), MasterSeparator: "*", ClientAddress: "none"}
	if diff := cmp.Diff([]Backend{want}, cfg.Backends); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var all *MistakesError
	if _, err := loadForServing(file); !errors.As(err, &all) || len(all.Mistakes) != 2 || all.Mistakes[0].Line != 7 || all.Mistakes[1].Line != 10 {
		t.Errorf("without the files: %v", err)
	}
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want, err  string
	}{
		{"a line", "s e:c*ret\n", 0o600, "s e:c*ret", ""},
		{"no line end", "secret", 0o640, "secret", ""},
		{"CRLF and more", "secret\r\nother\n", 0o400, "secret", ""},
		{"for everybody", "secret\n", 0o644, "", "chmod o="},
		{"everybody may write", "secret\n", 0o602, "", "chmod o="},
		{"empty", "", 0o600, "", "is empty"},
		{"empty line", "\nsecret\n", 0o600, "", "is empty"},
		{"NUL", "sec\x00ret\n", 0o600, "", "control characters"},
		{"endless", strings.Repeat("secret", 1000), 0o600, "", "longer than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, c.name)
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			got, err := readSecret(path)
			if got != c.want || (err == nil) != (c.err == "") {
				t.Errorf("%q, %v", got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := readSecret(dir); err == nil {
		t.Error("a directory is a secret")
	}
	if _, err := readSecret(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
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
	b := defaultBackend()
	b.Name, b.Submission.Addresses, b.Submission.Sender = "a", []string{"unix:/run/submission"}, "backend"
	cfg.Backends, cfg.DefaultBackend = []Backend{b}, "a"
	dump, err := yaml.Dump(cfg)
	if err != nil {
		t.Fatal(err)
	}
	got, mistakes := parseConfig(dump)
	if len(mistakes) > 0 {
		t.Fatalf("%v in\n%s", mistakes, dump)
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
	for _, s := range []string{"a: &a [*a]", "limits: {idle: 1m, idle: 2m}", "tls:\n  files: [{cert: 1}, 2, null]", "? [a]\n: b", "domains: !!binary aGk=", "listen: {shared: ['[::1]:1']}", "backends: [{name: a, imap: {addresses: ['[::1]:1']}}, {name: a}, 1, [2]]", "site: {upstream: 'http://%'}", "\xff", "---\n---\n", "quota: !x 1", "<<: [1]"} {
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

// What the README has people write into their configuration is taken.
func TestREADMEConfigurations(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`^    [a-z_]+:(\s|$)`)
	n := 0
	for chunk := range strings.SplitSeq(string(text), "\n\n") {
		if !key.MatchString(chunk) {
			continue
		}
		n++
		if !strings.Contains(chunk, "domains: [example.org]\n    backends:") {
			chunk = "    domains: [example.org]\n" + chunk
		}
		chunk = strings.ReplaceAll(chunk, "SHA256:…", "SHA256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")
		if _, mistakes := parseConfig([]byte(chunk)); len(mistakes) > 0 {
			t.Errorf("%v in\n%s", mistakes, chunk)
		}
	}
	if n < 7 {
		t.Errorf("%d configurations", n)
	}
}
