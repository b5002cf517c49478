package zone_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"posthorn/certs/zone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func deployment() zone.Deployment {
	return zone.Deployment{
		Domain: "example.org", Hostname: "mail.example.org",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		IMAP:      []string{"imap.example.org"}, Submission: []string{"smtp.example.org", "submission.example.org"},
		Autoconfig: "autoconfig.example.org", MTASTS: "mta-sts.example.org", MTASTSID: "20260101",
		IMAPSPort: 993,
		Keys:      map[string][][32]byte{"mail.example.org": {{1}}, "imap.example.org": {{2}, {3}}},
		Issuers:   []string{"letsencrypt.org"},
		ECH:       []byte("an ECHConfigList"),
	}
}

func lines(records []zone.Record) (all []string) {
	for _, r := range records {
		all = append(all, r.String())
	}
	return all
}

func TestRecords(t *testing.T) {
	got := lines(zone.Records(deployment()))
	var want []string
	for _, name := range []string{"mail", "autoconfig", "mta-sts", "imap", "smtp", "submission"} {
		want = append(want, name+".example.org. 3600 IN A 192.0.2.1", name+".example.org. 3600 IN AAAA 2001:db8::1")
	}
	const ech = ` ech="YW4gRUNIQ29uZmlnTGlzdA=="`
	want = append(want,
		"_imaps._tcp.example.org. 3600 IN SRV 0 1 443 imap.example.org.",
		"_imaps._tcp.example.org. 3600 IN SRV 10 1 993 mail.example.org.",
		"_submissions._tcp.example.org. 3600 IN SRV 0 1 443 smtp.example.org.",
		`_mta-sts.example.org. 3600 IN TXT "v=STSv1; id=20260101"`,
		`mail.example.org. 3600 IN HTTPS 1 . alpn="h2,http/1.1"`+ech,
		`autoconfig.example.org. 3600 IN HTTPS 1 . alpn="h2,http/1.1"`+ech,
		`mta-sts.example.org. 3600 IN HTTPS 1 . alpn="h2,http/1.1"`+ech,
		`_imaps.imap.example.org. 3600 IN SVCB 1 imap.example.org. alpn="imap" port="443"`+ech,
		`_submissions.smtp.example.org. 3600 IN SVCB 1 smtp.example.org. alpn="smtp" port="443"`+ech,
		`_submissions.submission.example.org. 3600 IN SVCB 1 submission.example.org. alpn="smtp" port="443"`+ech,
		"_443._tcp.mail.example.org. 3600 IN TLSA 3 1 1 01"+strings.Repeat("0", 62),
		"_443._tcp.imap.example.org. 3600 IN TLSA 3 1 1 02"+strings.Repeat("0", 62),
		"_443._tcp.imap.example.org. 3600 IN TLSA 3 1 1 03"+strings.Repeat("0", 62),
		"_993._tcp.mail.example.org. 3600 IN TLSA 3 1 1 01"+strings.Repeat("0", 62),
		`example.org. 3600 IN CAA 0 issue "letsencrypt.org"`,
	)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, r := range zone.Records(deployment()) {
		if r.Why == "" || !strings.HasSuffix(r.Name, r.About+".") {
			t.Errorf("%s: what for?", r)
		}
	}
}

func TestRecordsOfLittle(t *testing.T) {
	got := lines(zone.Records(zone.Deployment{Domain: "example.org", Hostname: "example.org", IMAP: []string{"example.org"}, SharedPort: 8443}))
	want := []string{
		"_imaps._tcp.example.org. 3600 IN SRV 0 1 8443 example.org.",
		`_8443._https.example.org. 3600 IN HTTPS 1 example.org. alpn="h2,http/1.1"`,
		`_imaps.example.org. 3600 IN SVCB 1 example.org. alpn="imap" port="8443"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// resolver is a DNS server that has some records, and fails for some names.
func resolver(t *testing.T, have []string, truncate bool) *zone.Resolver {
	t.Helper()
	var all []dns.RR
	for _, line := range have {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		_, udp := w.RemoteAddr().(*net.UDPAddr)
		switch {
		case strings.HasPrefix(q.Question[0].Name, "mta-sts."):
			m.Rcode = dns.RcodeServerFailure
		case udp && truncate:
			m.Truncated = true
		default:
			for _, rr := range all {
				alias := rr.Header().Rrtype == dns.TypeCNAME || rr.Header().Name == "alias.example.org."
				if rr.Header().Rrtype == q.Question[0].Qtype && rr.Header().Name == q.Question[0].Name ||
					alias && strings.HasPrefix(q.Question[0].Name, "submission.") && q.Question[0].Qtype == dns.TypeA {
					m.Answer = append(m.Answer, rr)
				}
			}
		}
		_ = w.WriteMsg(m) // the client's loss
	}
	packets, ln := listen(t)
	for _, s := range []*dns.Server{
		{PacketConn: packets, Handler: dns.HandlerFunc(answer)}, {Listener: ln, Handler: dns.HandlerFunc(answer)},
	} {
		started, done := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(started) }
		go func() { done <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := errors.Join(s.Shutdown(), <-done); err != nil {
				t.Error(err)
			}
		})
	}
	return &zone.Resolver{Server: ln.Addr().String()}
}

// listen takes a port that is free for both transports.
func listen(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if packets, err := net.ListenPacket("udp", ln.Addr().String()); err == nil {
			return packets, ln
		}
		ln.Close()
	}
	t.Fatal("no port is free")
	return nil, nil
}

func TestCheck(t *testing.T) {
	records := zone.Records(deployment())
	good := slices.DeleteFunc(lines(records), func(l string) bool {
		return strings.Contains(l, "SRV 10") || strings.HasPrefix(l, "autoconfig.") || strings.HasPrefix(l, "submission.")
	})
	good = append(good,
		"autoconfig.example.org. 60 IN A 192.0.2.99",
		`autoconfig.example.org. 60 IN HTTPS 1 . alpn="h2,http/1.1" ech="b2xk"`,
		"submission.example.org. 60 IN CNAME alias.example.org.", "alias.example.org. 60 IN A 192.0.2.1",
		`example.org. 60 IN CAA 0 issue "other.example"`,
	)
	for _, truncate := range []bool{false, true} {
		findings, err := resolver(t, good, truncate).Check(t.Context(), records)
		if err != nil || len(findings) != len(records) {
			t.Fatal(len(findings), err)
		}
		for _, f := range findings {
			fails := strings.HasPrefix(f.Name, "mta-sts.")
			bad := fails || strings.HasPrefix(f.Name, "autoconfig.") || strings.HasPrefix(f.Data, "10 ") ||
				strings.HasPrefix(f.Name, "submission.") && f.Type == "AAAA"
			if f.OK == bad || errors.Is(f.Err, zone.ErrAnswer) != fails {
				t.Errorf("%s: OK %v, found %q, %v", f.Record, f.OK, f.Found, f.Err)
			}
			if f.Name == "autoconfig.example.org." && f.Type == "A" && !slices.Equal(f.Found, []string{"192.0.2.99"}) {
				t.Errorf("found %q", f.Found)
			}
		}
	}
}

func TestCheckErrors(t *testing.T) {
	if _, err := (&zone.Resolver{Server: "127.0.0.1:1"}).Check(t.Context(), []zone.Record{{"x.", "A", "none", "", "x"}}); err == nil {
		t.Error("a record that is none was looked up")
	}
	findings, err := (&zone.Resolver{Server: "127.0.0.1:1"}).Check(t.Context(), []zone.Record{{"x.", "A", "192.0.2.1", "", "x"}})
	if err != nil || findings[0].OK || !errors.Is(findings[0].Err, zone.ErrAnswer) {
		t.Errorf("nobody there: %v, %v", findings, err)
	}
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := (&zone.Resolver{Server: silent.LocalAddr().String()}).Check(ctx, []zone.Record{{"x.", "A", "192.0.2.1", "", "x"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
