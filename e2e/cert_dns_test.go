package e2e

import (
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// resolver is a DNS server on loopback that knows the records of a zone.
type resolver struct {
	address string
	mu      sync.Mutex
	zone    []dns.RR // guarded by mu
}

// newResolver starts a resolver that ends with the test.
func newResolver(t testing.TB) *resolver {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{address: packets.LocalAddr().String()}
	started, done := make(chan struct{}), make(chan error, 1)
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(r.answer), NotifyStartedFunc: func() { close(started) }}
	go func() { done <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *resolver) answer(w dns.ResponseWriter, q *dns.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	for _, rr := range r.zone {
		if h := rr.Header(); h.Name == q.Question[0].Name && h.Rrtype == q.Question[0].Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	_ = w.WriteMsg(m) // the client's loss
}

// load replaces the zone with what a zone file holds.
func (r *resolver) load(t testing.TB, text string) (n int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.zone = nil
	parser := dns.NewZoneParser(strings.NewReader(text), ".", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		r.zone = append(r.zone, rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return len(r.zone)
}

// TestDNS: what "dns" prints is a part of a zone file, and a zone that has it
// passes the check; one that lacks something does not.
func TestDNS(t *testing.T) {
	r := newResolver(t)
	g := gatewayIn(t, t.TempDir(), func(data string) string {
		return `
data_dir: ` + data + `
domains: [example.org, example.net]
hostname: mail.example.org
public_addresses: [192.0.2.1, "2001:db8::1"]
listen: {shared: ["127.0.0.1:0"], imaps: ["127.0.0.1:0"], submissions: []}
web_names: {autoconfig: true, mta_sts: "20260101"}
tls:
  names: [localhost, web.example.net]
  ech: {public_name: mail.example.org}
  acme: {agree_terms: true, directory: "https://127.0.0.1:1/", caa: ca.example}
  self_signed: [imap.example.org]
`
	})
	g.start()
	zone := g.posthorn("dns", "Example.org.")
	n := r.load(t, zone)
	for _, want := range []string{
		"mail.example.org. 3600 IN A 192.0.2.1\n", "autoconfig.example.org. 3600 IN AAAA 2001:db8::1\n",
		"_imaps._tcp.example.org. 3600 IN SRV 0 1 " + port(g.shared) + " imap.example.org.\n", "IN SRV 10 1 ",
		`_mta-sts.example.org. 3600 IN TXT "v=STSv1; id=20260101"`, `example.org. 3600 IN CAA 0 issue "ca.example"`,
		"_submissions.smtp.example.org. 3600 IN SVCB ", "_" + port(g.shared) + "._tcp.imap.example.org. 3600 IN TLSA 3 1 1 ",
	} {
		if !strings.Contains(zone, want) {
			t.Errorf("no %q in\n%s", want, zone)
		}
	}
	if strings.Contains(zone, "example.net") || !strings.Contains(g.posthorn("dns", "example.net"), "web.example.net. 3600 IN A ") {
		t.Error("a record is in the wrong zone")
	}
	check := func() (out string, bad bool) {
		out, complaint, err := g.try("", binary, "dns", "example.org", "--check", "--resolver", r.address, "--config", g.config)
		if (err != nil) != strings.Contains(complaint, "error: ") {
			t.Errorf("%v, %q", err, complaint)
		}
		return out, err != nil
	}
	if out, bad := check(); bad || strings.Count(out, "\nok ") != n {
		t.Errorf("%d records:\n%s", n, out)
	}
	r.load(t, strings.ReplaceAll(zone, "smtp.example.org. 3600 IN A 192.0.2.1\n", "smtp.example.org. 3600 IN A 192.0.2.7\n"))
	if out, bad := check(); !bad || strings.Count(out, "\nok ") != n-1 || !strings.Contains(out, "different  smtp.example.org.") || !strings.Contains(out, "192.0.2.7") {
		t.Errorf("a wrong address:\n%s", out)
	}
	r.load(t, strings.ReplaceAll(zone, "_mta-sts", "_other"))
	if out, bad := check(); !bad || !strings.Contains(out, "missing  _mta-sts.example.org.") {
		t.Errorf("a missing record:\n%s", out)
	}
	tryNameCheck(t, g, r, zone)

	for _, args := range [][]string{{"dns", "example.com"}, {"dns", ".."}, {"dns"}, {"cert", "check", "example.com"}, {"dns", "example.org", "--check", "--resolver", "127.0.0.1:1"}} {
		if _, complaint, err := g.try("", binary, append(args, "--config", g.config)...); err == nil || !strings.HasPrefix(complaint, "error: ") {
			t.Errorf("%q: %v, %s", args, err, complaint)
		}
	}
}

// tryNameCheck: "cert check" tells what the DNS should say about the name.
func tryNameCheck(t *testing.T, g *gateway, r *resolver, zone string) {
	var checks []struct {
		Name string
		DNS  []struct {
			Name, Type string
			OK         bool
		}
	}
	r.load(t, strings.ReplaceAll(zone, "_imaps.imap", "_x.imap"))
	out, _, _ := g.try("", binary, "cert", "check", "imap.example.org", "--address", g.shared, "--resolver", r.address, "--json", "--config", g.config)
	if err := json.Unmarshal([]byte(out), &checks); err != nil || len(checks) != 1 {
		t.Fatalf("%v, %s", err, out)
	}
	types := make(map[string]bool)
	for _, d := range checks[0].DNS {
		types[d.Type] = d.OK
		if !strings.HasSuffix(d.Name, "imap.example.org.") {
			t.Errorf("a record of another name: %+v", d)
		}
	}
	if len(types) != 4 || !types["A"] || !types["AAAA"] || !types["TLSA"] || types["SVCB"] {
		t.Errorf("DNS: %s", out)
	}
}

// TestDNSWithoutAddresses: a gateway that does not know its addresses says so.
func TestDNSWithoutAddresses(t *testing.T) {
	g := newGateway(t, "domains: [example.org]\ntls: {names: [localhost]}\n")
	records, note, err := g.try("", binary, "dns", "example.org", "--config", g.config)
	if err != nil || strings.Contains(records, " IN A ") || !strings.Contains(note, "public_addresses") {
		t.Errorf("%v, %s, %s", err, note, records)
	}
}
